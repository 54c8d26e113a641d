//! The outbox: messages that must reach the cloud, also after days without it and after a power
//! cut. Bounded in number, bytes and age.

use bytes::Bytes;
use ipc_proto::Message;
use rusqlite::{Connection, OptionalExtension, params};

use super::trouble::Trouble;
use crate::row::{Committed, Parcel};

/// The greatest number of parcels: statuses take one for each object, so this is room for some
/// thousand pods and a few thousand events.
pub(super) const MAX_PARCELS: i64 = 4096;

/// The greatest size of all parcels in bytes: a few per cent of a small node's disk.
pub(super) const MAX_BYTES: i64 = 32 * 1024 * 1024;

/// The age in milliseconds at which an expendable parcel goes: the cloud keeps events for an hour,
/// and who looks after a day of silence looks at states.
const MAX_AGE: i64 = 24 * 60 * 60 * 1000;

/// How much the outbox holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outbox {
    parcels: i64,
    bytes: i64,
}

impl Outbox {
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT count(*), coalesce(sum(octet_length(message)), 0) FROM outbox";
        connection.query_row(sql, [], |row| Ok(Self { parcels: row.get(0)?, bytes: row.get(1)? }))
    }

    /// Returns how many parcels there are.
    pub(super) const fn parcels(self) -> i64 {
        self.parcels
    }

    /// Puts a parcel behind all others, in place of one of the same subject that was not sent yet,
    /// and makes room for it where there is none.
    pub(super) fn queue(
        &mut self,
        connection: &Connection,
        parcel: &Parcel,
        now: i64,
    ) -> rusqlite::Result<Committed> {
        if let Some(subject) = &parcel.subject {
            let sql = "DELETE FROM outbox WHERE subject = ?1 AND sequence > ?2 \
                       RETURNING octet_length(message)";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![subject, parcel.sent])?;
            while let Some(row) = rows.next()? {
                self.shrink(row.get(0)?);
            }
        }
        let sql = "INSERT INTO outbox (subject, expendable, created, message) \
                   VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute(params![
            parcel.subject,
            parcel.expendable,
            now,
            parcel.text
        ])?;
        self.parcels += 1;
        self.bytes += i64::try_from(parcel.text.len()).unwrap_or(i64::MAX);
        let mut gone = Committed::default();
        while (self.parcels > MAX_PARCELS || self.bytes > MAX_BYTES)
            && self.make_room(connection, parcel.sent, &mut gone)?
        {}
        self.age(connection, parcel.sent, now, &mut gone)?;
        Ok(gone)
    }

    /// Drops the oldest parcel that has not been sent, an expendable one if there is one.
    fn make_room(
        &mut self,
        connection: &Connection,
        sent: i64,
        gone: &mut Committed,
    ) -> rusqlite::Result<bool> {
        let sql = "DELETE FROM outbox WHERE sequence = (SELECT sequence FROM outbox \
                   WHERE sequence > ?1 ORDER BY expendable DESC, sequence LIMIT 1) \
                   RETURNING octet_length(message), expendable";
        let dropped = connection
            .prepare_cached(sql)?
            .query_row([sent], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((bytes, expendable)) = dropped else { return Ok(false) };
        self.shrink(bytes);
        *if expendable { &mut gone.dropped } else { &mut gone.lost } += 1;
        Ok(true)
    }

    /// Drops expendable parcels that are too old. Only the oldest one is looked at while there is
    /// nothing to drop. A clock that was set back makes nothing old.
    fn age(
        &mut self,
        connection: &Connection,
        sent: i64,
        now: i64,
        gone: &mut Committed,
    ) -> rusqlite::Result<()> {
        let oldest = "SELECT created FROM outbox WHERE sequence > ?1 AND expendable \
                      ORDER BY sequence LIMIT 1";
        let oldest: Option<i64> =
            connection.prepare_cached(oldest)?.query_row([sent], |row| row.get(0)).optional()?;
        let limit = now.saturating_sub(MAX_AGE);
        if oldest.is_none_or(|created| created >= limit) {
            return Ok(());
        }
        let sql = "DELETE FROM outbox WHERE sequence > ?1 AND created < ?2 AND expendable \
                   RETURNING octet_length(message)";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([sent, limit])?;
        while let Some(row) = rows.next()? {
            self.shrink(row.get(0)?);
            gone.dropped += 1;
        }
        Ok(())
    }

    fn shrink(&mut self, bytes: i64) {
        self.parcels -= 1;
        self.bytes -= bytes;
    }

    /// Takes a parcel out; one that is gone already is no matter.
    pub(super) fn dequeue(&mut self, connection: &Connection, place: i64) -> rusqlite::Result<()> {
        let sql = "DELETE FROM outbox WHERE sequence = ?1 RETURNING octet_length(message)";
        let bytes: Option<i64> =
            connection.prepare_cached(sql)?.query_row([place], |row| row.get(0)).optional()?;
        if let Some(bytes) = bytes {
            self.shrink(bytes);
        }
        Ok(())
    }

    /// Returns the next parcels after a place. A row that is no message, which only a stranger's
    /// hand can have made, is passed over.
    pub(super) fn after(
        &self,
        connection: &Connection,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Message)>, Trouble> {
        let sql = "SELECT sequence, message FROM outbox WHERE sequence > ?1 \
                   ORDER BY sequence LIMIT ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![after, limit], |row| {
            Ok((row.get(0)?, Bytes::from(row.get::<_, String>(1)?)))
        })?;
        let mut parcels = Vec::new();
        for row in rows {
            let (sequence, text) = row?;
            match ipc_proto::json::decode(&text) {
                Ok(message) => parcels.push((sequence, message)),
                Err(error) => tracing::warn!(sequence, %error, "a row of the outbox is no message"),
            }
        }
        Ok(parcels)
    }
}
