//! The last good copy of the database, and the way back from it.
//!
//! A copy is taken by a thread of its own through a connection of its own: readers and the one
//! writer do not hold each other up in WAL mode.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::database::{Database, check};
use super::files;
use super::trouble::Trouble;

/// What a database is called while it is being restored.
const RESTORED: &str = ".restored";

/// Copies the database beside itself, checks the copy, and puts it in the last one's place.
///
/// # Errors
/// What went wrong; the last copy then still stands.
pub(super) fn take(path: &Path) -> Result<(), Trouble> {
    let unready = files::beside(path, ".snapshot.new");
    copy(path, &unready)?;
    fs::rename(&unready, files::snapshot(path))?;
    files::sync_folder(path)?;
    Ok(())
}

/// Copies the database to a file that stands alone, over what is there, and checks the copy.
///
/// # Errors
/// What went wrong.
pub(super) fn copy(path: &Path, to: &Path) -> Result<(), Trouble> {
    remove_if_there(to)?;
    files::create(to)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(path, flags)?;
    source.busy_timeout(Duration::from_secs(2))?;
    source.execute_batch("PRAGMA cache_size = -256")?;
    let mut copy = Connection::open(to)?;
    let copied = Backup::new(&source, &mut copy)?.step(-1)?;
    if copied != StepResult::Done {
        return Err(Trouble::Locked);
    }
    // The copy stands alone: a journal beside it would be lost when it is renamed.
    copy.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA cache_size = -256;")?;
    check(&copy)?;
    copy.close().map_err(|(_, error)| error)?;
    Ok(File::open(to)?.sync_all()?)
}

/// Returns how old the snapshot is: nothing when there is none, or when the clock says that it
/// comes from the future.
pub(super) fn age(path: &Path) -> Option<Duration> {
    let written = fs::metadata(files::snapshot(path)).ok()?.modified().ok()?;
    SystemTime::now().duration_since(written).ok()
}

/// What a recovery came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// What had been wrong.
    pub cause: String,
    /// Where the damaged database is now.
    pub aside: String,
    /// Whether there was a snapshot to go back to.
    pub from_snapshot: bool,
    /// Rows that could still be read from the damaged database.
    pub salvaged: u64,
}

impl std::fmt::Display for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cause, aside, from_snapshot, salvaged } = self;
        let origin =
            if *from_snapshot { "restored from the last snapshot" } else { "begun anew, empty" };
        write!(
            f,
            "the database was damaged ({cause}): {origin}, {salvaged} rows were read from the \
             damaged file, which is kept as '{aside}'"
        )
    }
}

/// Builds a new database of the last good copy and the rows that can still be read from the
/// damaged one, and puts it in the damaged one's place. Can be called again when it failed or was
/// cut off half-way.
///
/// # Errors
/// What went wrong.
pub(super) fn restore(path: &Path, cause: &str, now: i64) -> Result<Recovery, Trouble> {
    let unready = files::beside(path, RESTORED);
    for leftover in ["", "-wal", "-shm"] {
        remove_if_there(&files::beside(&unready, leftover))?;
    }
    files::create(&unready)?;
    let snapshot = files::snapshot(path);
    let from_snapshot = is_good(&snapshot);
    if from_snapshot {
        fs::copy(&snapshot, &unready)?;
    }
    drop(Database::open(&unready)?);
    let salvaged = salvage(path, &unready)
        .inspect_err(|error| tracing::warn!(%error, "nothing could be read from the damaged file"))
        .unwrap_or(0);
    Connection::open(&unready)?.execute_batch("PRAGMA journal_mode = DELETE")?;
    File::open(&unready)?.sync_all()?;
    let aside = files::set_aside(path, now)?;
    finish(path)?;
    let cause = cause.to_owned();
    Ok(Recovery { cause, aside: aside.display().to_string(), from_snapshot, salvaged })
}

/// Puts a restored database in its place, where a crash came between the damaged one's going and
/// that.
pub(super) fn finish(path: &Path) -> io::Result<()> {
    let restored = files::beside(path, RESTORED);
    if !path.exists() && restored.exists() {
        fs::rename(restored, path)?;
        files::sync_folder(path)?;
    }
    Ok(())
}

fn is_good(snapshot: &Path) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    snapshot.exists()
        && Connection::open_with_flags(snapshot, flags)
            .map_err(Trouble::from)
            .and_then(|connection| check(&connection))
            .is_ok()
}

/// The tables whose rows are worth reading from a damaged file; each is written over what the
/// snapshot has, which is older.
const SALVAGED: [(&str, &str); 7] = [
    ("meta", "key, type, value"),
    ("meta_v2", "key, group_version_resource, namespace, name, resource_version, value"),
    ("outbox", "sequence, subject, expendable, created, message"),
    ("device", "id, name, description, state, last_online"),
    (
        "device_twin",
        "id, deviceid, name, description, expected, actual, expected_meta, actual_meta, \
         expected_version, actual_version, optional, attr_type, metadata",
    ),
    ("sub_topics", "topic"),
    ("target_urls", "url"),
];

fn salvage(damaged: &Path, path: &Path) -> Result<u64, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(damaged, flags)?;
    let mut target = Connection::open_with_flags(path, flags)?;
    let transaction = target.transaction()?;
    let mut rows = 0;
    for (table, columns) in SALVAGED {
        // From either end up to the broken page.
        for order in ["ASC", "DESC"] {
            match copy_rows(&source, &transaction, table, columns, order) {
                Ok(copied) => {
                    rows += copied;
                    break;
                }
                Err((copied, error)) => {
                    rows += copied;
                    tracing::debug!(table, order, copied, %error, "table can be read in part");
                }
            }
        }
    }
    transaction.commit()?;
    Ok(rows)
}

fn copy_rows(
    source: &Connection,
    target: &Connection,
    table: &str,
    columns: &str,
    order: &str,
) -> Result<u64, (u64, rusqlite::Error)> {
    let width = columns.split(',').count();
    let places = vec!["?"; width].join(", ");
    let mut copied = 0;
    let mut copy = || -> rusqlite::Result<()> {
        let mut insert = target
            .prepare(&format!("INSERT OR REPLACE INTO {table} ({columns}) VALUES ({places})"))?;
        let mut select =
            source.prepare(&format!("SELECT {columns} FROM {table} ORDER BY rowid {order}"))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..width)
                .map(|column| row.get::<_, rusqlite::types::Value>(column))
                .collect::<rusqlite::Result<Vec<_>>>()?;
            insert.execute(params_from_iter(values))?;
            copied += 1;
        }
        Ok(())
    };
    let result = copy();
    result.map(|()| copied).map_err(|error| (copied, error))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
