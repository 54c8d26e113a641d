//! The open database: how a change and a question become SQL. One connection, one thread.

use std::path::Path;

use bytes::Bytes;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension, ToSql, params};

use super::Size;
use super::outbox::Outbox;
use super::schema::{self, Spelling};
use super::trouble::Trouble;
use super::{files, twins};
use crate::core::object;
use crate::row::{
    Answer, Change, Committed, Fate, Mirror, News, Object, Page, Question, Removal, Words,
};

/// How long another process may hold the file before it is called locked; keadm's copies and
/// readers are done far sooner.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// The settings of a connection that writes. `FULL`, because an acknowledged object must be there
/// after a power cut. The cache of 512 KiB holds the inner pages of some ten thousand objects.
const SETTINGS: &str = "
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA cache_size = -512;
PRAGMA mmap_size = 0;
PRAGMA temp_store = MEMORY;
PRAGMA journal_size_limit = 4194304;
";

/// The greatest list that is answered in one message.
const MAX_ARRAY: usize = ipc_proto::frame::MAX_CONTENT;

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    spelling: Spelling,
    outbox: Outbox,
}

/// JSON text on its way into a column.
struct Text<'a>(&'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

impl Database {
    /// Opens the file, makes it when it is not there, checks it and brings its tables up to date.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        files::create(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        if connection.is_readonly(rusqlite::MAIN_DB)? {
            return Err(Trouble::ReadOnly(format!("'{}' is read-only", path.display())));
        }
        let found = schema::version(&connection)?;
        if found > schema::VERSION {
            return Err(Trouble::Newer { found, known: schema::VERSION });
        }
        connection.execute_batch(SETTINGS)?;
        check(&connection)?;
        let spelling = schema::prepare(&mut connection)?;
        let outbox = Outbox::open(&connection)?;
        Ok(Self { connection, spelling, outbox })
    }

    /// Opens a file that cannot be written, so that the node can at least run what it ran before.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn open_to_read(path: &Path) -> Result<Self, Trouble> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let first = Connection::open_with_flags(path, flags)
            .and_then(|connection| schema::version(&connection).map(|_| connection));
        let connection = match first {
            Ok(connection) => connection,
            // A file in WAL mode needs its index beside it, unless it is sworn not to change.
            Err(_) => Connection::open_with_flags(
                files::unchanging_uri(path),
                flags | OpenFlags::SQLITE_OPEN_URI,
            )?,
        };
        let found = schema::version(&connection)?;
        if found > schema::VERSION {
            return Err(Trouble::Newer { found, known: schema::VERSION });
        }
        Ok(Self { connection, spelling: Spelling::New, outbox: Outbox::default() })
    }

    /// Looks whether it is whole.
    pub(super) fn check(&self) -> Result<(), Trouble> {
        check(&self.connection)
    }

    /// Counts what there is.
    pub(super) fn size(&self) -> Result<Size, Trouble> {
        let rows: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM meta")?
            .query_row([], |row| row.get(0))?;
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(Size { rows: count(rows), outbox: count(self.outbox.parcels()) })
    }

    /// Returns how each table was made, and how many rows it has.
    pub(super) fn tables(&self) -> Result<Vec<(String, u64)>, Trouble> {
        let sql = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL \
                   ORDER BY name";
        let mut statement = self.connection.prepare(sql)?;
        let tables = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let tables = tables.collect::<Result<Vec<(String, String)>, _>>()?;
        let count = |(name, sql): (String, String)| {
            let name = name.replace('"', "\"\"");
            let count = format!("SELECT COUNT(*) FROM \"{name}\"");
            let rows: i64 = self.connection.query_row(&count, [], |row| row.get(0))?;
            Ok((sql, u64::try_from(rows).unwrap_or_default()))
        };
        tables.into_iter().map(count).collect()
    }

    pub(super) fn begin(&self) -> Result<(), Trouble> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    pub(super) fn commit(&self) -> Result<(), Trouble> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    /// Undoes what was begun. Some failures have undone it already.
    pub(super) fn roll_back(&mut self) -> Result<(), Trouble> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        self.outbox = Outbox::open(&self.connection)?;
        Ok(())
    }

    /// Does one change; to be called between begin and commit.
    pub(super) fn apply(&mut self, change: &Change, now: i64) -> Result<Committed, Trouble> {
        let mut news = None;
        match change {
            Change::Put(object) => news = self.put(object)?,
            Change::PutUnlessNewer(object) => {
                if !self.has_newer(object)? {
                    news = self.put(object)?;
                }
            }
            Change::Refresh(object) => {
                if self.is_there(&object.key)? && !self.has_newer(object)? {
                    news = self.put(object)?;
                }
            }
            Change::Remove(removal) => news = self.remove(removal)?,
            Change::RemoveToken(key) => self.delete("DELETE FROM meta WHERE key = ?1", key)?,
            Change::PutRecord(mirror, value) => drop(self.put_mirror(mirror, value)?),
            Change::RemoveRecord(key) => self.delete("DELETE FROM meta_v2 WHERE key = ?1", key)?,
            Change::AddWord(words, word) => self.delete(add_word(*words), word)?,
            Change::RemoveWord(words, word) => self.delete(remove_word(*words), word)?,
            Change::PutTwin(device) => twins::put(&self.connection, device)?,
            Change::RemoveTwin(id) => twins::remove(&self.connection, id)?,
            Change::Queue(parcel) => {
                return Ok(self.outbox.queue(&self.connection, parcel, now)?);
            }
            Change::Dequeue(sequence) => self.outbox.dequeue(&self.connection, *sequence)?,
        }
        Ok(Committed { news: news.into_iter().collect(), ..Committed::default() })
    }

    fn delete(&self, sql: &str, key: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([key]).map(drop)
    }

    fn put(&self, object: &Object) -> rusqlite::Result<Option<News>> {
        let sql = "INSERT INTO meta (key, type, value) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (key) DO UPDATE SET type = excluded.type, value = excluded.value";
        let row = params![object.key, object.kind, Text(&object.value)];
        self.connection.prepare_cached(sql)?.execute(row)?;
        match &object.mirror {
            Some(mirror) => {
                let fate = self.put_mirror(mirror, &object.value)?;
                let (key, version) = (mirror.key.clone(), mirror.version);
                Ok(Some(News { key, fate, version, value: object.value.clone() }))
            }
            None => Ok(None),
        }
    }

    fn put_mirror(&self, mirror: &Mirror, value: &[u8]) -> rusqlite::Result<Fate> {
        let known = self
            .connection
            .prepare_cached("SELECT 1 FROM meta_v2 WHERE key = ?1")?
            .exists([&mirror.key])?;
        let sql = match self.spelling {
            Spelling::New => {
                "INSERT OR REPLACE INTO meta_v2 \
                 (key, group_version_resource, namespace, name, resource_version, value) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
            }
            Spelling::Both => {
                "INSERT OR REPLACE INTO meta_v2 \
                 (key, group_version_resource, namespace, name, resource_version, value, \
                  groupversionresource, resourceversion) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?2, ?5)"
            }
        };
        let Mirror { key, resource, namespace, name, version } = mirror;
        let version = i64::try_from(*version).unwrap_or(i64::MAX);
        let row = params![key, resource, namespace, name, version, Text(value)];
        self.connection.prepare_cached(sql)?.execute(row)?;
        Ok(if known { Fate::Changed } else { Fate::Came })
    }

    fn is_there(&self, key: &str) -> rusqlite::Result<bool> {
        self.connection.prepare_cached("SELECT 1 FROM meta WHERE key = ?1")?.exists([key])
    }

    fn has_newer(&self, object: &Object) -> rusqlite::Result<bool> {
        let Some(mirror) = &object.mirror else { return Ok(false) };
        let sql = "SELECT resource_version FROM meta_v2 WHERE key = ?1";
        let stored: Option<Option<i64>> = self
            .connection
            .prepare_cached(sql)?
            .query_row([&mirror.key], |row| row.get(0))
            .optional()?;
        let stored = stored.flatten().and_then(|version| u64::try_from(version).ok());
        Ok(stored.is_some_and(|stored| stored > mirror.version))
    }

    /// Removes an object if it is the one that is meant: the cloud tells of the end of an old pod
    /// also after a new one of the same name has come.
    fn remove(&self, removal: &Removal) -> rusqlite::Result<Option<News>> {
        if !removal.uid.is_empty()
            && let Some(stored) =
                self.value("SELECT value FROM meta WHERE key = ?1", &removal.key)?
            && let Some(uid) = object::uid(&stored)
            && *uid != *removal.uid
        {
            return Ok(None);
        }
        for key in std::iter::once(&removal.key).chain(&removal.along) {
            self.delete("DELETE FROM meta WHERE key = ?1", key)?;
        }
        let news = match &removal.mirror {
            Some(mirror) => self.take_mirror(mirror)?,
            None => None,
        };
        if removal.uid.is_empty() {
            return Ok(news);
        }
        // The tokens that were bound to a pod end with it; their keys end with its uid.
        let sql = "DELETE FROM meta WHERE type = 'serviceaccounttoken' \
                   AND substr(key, -length(?1)) = ?1";
        self.delete(sql, &crate::core::token::bound_to(&removal.uid))?;
        Ok(news)
    }

    /// Removes a row of `meta_v2`; returns what it was.
    fn take_mirror(&self, key: &str) -> rusqlite::Result<Option<News>> {
        let sql = "DELETE FROM meta_v2 WHERE key = ?1 RETURNING resource_version, value";
        let mut statement = self.connection.prepare_cached(sql)?;
        let taken = statement.query_row([key], |row| {
            let version = row.get::<_, Option<i64>>(0)?.unwrap_or(0);
            let value = row.get_ref(1)?.as_bytes_or_null().ok().flatten().unwrap_or(b"{}");
            Ok(News {
                key: key.into(),
                fate: Fate::Went,
                version: u64::try_from(version).unwrap_or(0),
                value: Bytes::copy_from_slice(value),
            })
        });
        taken.optional()
    }

    /// Answers a question.
    ///
    /// # Errors
    /// What is wrong with the database, or that the answer is too long for one message.
    pub(super) fn answer(&self, question: &Question) -> Result<Answer, Trouble> {
        let answer = match question {
            Question::Object(key) => {
                Answer::One(self.value("SELECT value FROM meta WHERE key = ?1", key)?)
            }
            Question::Token { key, like } => Answer::One(self.token(key, like.as_ref())?),
            Question::Record(key) => {
                Answer::One(self.value("SELECT value FROM meta_v2 WHERE key = ?1", key)?)
            }
            Question::Kind(kind) => {
                self.array("SELECT value FROM meta WHERE type = ?1 ORDER BY key", &[kind])?
            }
            Question::Rows(kind) => Answer::Rows(self.rows(kind)?),
            Question::Records(resource) => self.array(
                "SELECT value FROM meta_v2 WHERE group_version_resource = ?1 ORDER BY key",
                &[resource],
            )?,
            Question::Page(page) => Answer::Array(self.page(page)?),
            Question::Words(Words::Topics) => {
                self.array("SELECT json_quote(topic) FROM sub_topics ORDER BY topic", &[])?
            }
            Question::Words(Words::Urls) => {
                self.array("SELECT json_quote(url) FROM target_urls ORDER BY url", &[])?
            }
            Question::Twin(id) => Answer::One(twins::get(&self.connection, id)?),
            Question::Twins => Answer::Array(twins::all(&self.connection, MAX_ARRAY)?),
            Question::Outbox { after, limit } => {
                Answer::Outbox(self.outbox.after(&self.connection, *after, *limit)?)
            }
        };
        Ok(answer)
    }

    fn value(&self, sql: &str, key: &str) -> rusqlite::Result<Option<Bytes>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([key])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let value = row.get_ref(0)?.as_bytes_or_null().ok().flatten();
        Ok(value.map(Bytes::copy_from_slice))
    }

    fn token(
        &self,
        key: &str,
        like: Option<&(Box<str>, Box<str>)>,
    ) -> rusqlite::Result<Option<Bytes>> {
        let exact = self.value("SELECT value FROM meta WHERE key = ?1", key)?;
        let (None, Some((begin, end))) = (&exact, like) else { return Ok(exact) };
        let sql = "SELECT value FROM meta WHERE type = 'serviceaccounttoken' \
                   AND substr(key, 1, length(?1)) = ?1 AND substr(key, -length(?2)) = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([begin, end])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(row.get_ref(0)?.as_bytes_or_null().ok().flatten().map(Bytes::copy_from_slice))
    }

    fn rows(&self, kind: &str) -> rusqlite::Result<Vec<(Box<str>, Bytes)>> {
        let sql = "SELECT key, value FROM meta WHERE type = ?1 ORDER BY key";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement
            .query_map([kind], |row| Ok((row.get(0)?, Bytes::from(row.get::<_, String>(1)?))))?;
        rows.collect()
    }

    /// Reads some rows of `meta_v2`. One that is no JSON, which only a stranger's hand can have
    /// made, is passed over.
    fn page(&self, page: &Page) -> rusqlite::Result<Bytes> {
        let sql = "SELECT json_quote(key), value FROM meta_v2 \
                   WHERE key >= ?1 AND key <= ?2 AND key > ?3 AND json_valid(value) ORDER BY key";
        // A zero is the letter behind the slash.
        let last = page.of.strip_suffix('/').map(|stem| format!("{stem}0"));
        let last = last.as_deref().unwrap_or(&page.of);
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![page.of, last, page.after])?;
        let mut text = br#"{"rows":["#.to_vec();
        let begun = text.len();
        let mut more = false;
        while let Some(row) = rows.next()? {
            let (key, value) = (row.get_ref(0)?.as_bytes()?, row.get_ref(1)?.as_bytes()?);
            if text.len() > begun {
                if text.len() + value.len() > page.bytes {
                    more = true;
                    break;
                }
                text.push(b',');
            }
            for part in [b"[".as_slice(), key, b",", value, b"]"] {
                text.extend_from_slice(part);
            }
        }
        text.extend_from_slice(format!(r#"],"more":{more}}}"#).as_bytes());
        Ok(text.into())
    }

    /// Joins rows of JSON text to one JSON array.
    fn array(&self, sql: &str, keys: &[&str]) -> Result<Answer, Trouble> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(keys))?;
        let mut array = vec![b'['];
        while let Some(row) = rows.next()? {
            let value = row.get_ref(0)?.as_bytes_or_null().ok().flatten().unwrap_or(b"null");
            if array.len() + value.len() + 2 > MAX_ARRAY {
                return Err(Trouble::Failing(format!(
                    "the list is longer than the {MAX_ARRAY} bytes of one message"
                )));
            }
            if array.len() > 1 {
                array.push(b',');
            }
            array.extend_from_slice(value);
        }
        array.push(b']');
        Ok(Answer::Array(array.into()))
    }
}

const fn add_word(words: Words) -> &'static str {
    match words {
        Words::Topics => "INSERT OR IGNORE INTO sub_topics (topic) VALUES (?1)",
        Words::Urls => "INSERT OR IGNORE INTO target_urls (url) VALUES (?1)",
    }
}

const fn remove_word(words: Words) -> &'static str {
    match words {
        Words::Topics => "DELETE FROM sub_topics WHERE topic = ?1",
        Words::Urls => "DELETE FROM target_urls WHERE url = ?1",
    }
}

/// Reads every page and looks whether the trees hold together.
pub(super) fn check(connection: &Connection) -> Result<(), Trouble> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Trouble::Damaged(verdict)) }
}
