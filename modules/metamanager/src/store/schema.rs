//! The tables: the Go edgecore's, to the letter, so that either program can open the other's file;
//! and our own beside them.

use rusqlite::Connection;

use super::trouble::Trouble;

/// The Go edgecore's tables as KubeEdge 1.23 makes them (WIRE.md §5.1).
const GO_TABLES: &str = "
CREATE TABLE IF NOT EXISTS `meta` (`key` text,`type` text,`value` text,PRIMARY KEY (`key`));
CREATE TABLE IF NOT EXISTS `meta_v2` (`key` text,`group_version_resource` text,`namespace` text,`name` text,`resource_version` integer,`value` text,PRIMARY KEY (`key`));
CREATE TABLE IF NOT EXISTS `device` (`id` text,`name` text,`description` text,`state` text,`last_online` text,PRIMARY KEY (`id`));
CREATE TABLE IF NOT EXISTS `device_attr` (`id` integer PRIMARY KEY AUTOINCREMENT,`deviceid` text,`name` text,`description` text,`value` text,`optional` numeric,`attr_type` text,`metadata` text);
CREATE TABLE IF NOT EXISTS `device_twin` (`id` integer PRIMARY KEY AUTOINCREMENT,`deviceid` text,`name` text,`description` text,`expected` text,`actual` text,`expected_meta` text,`actual_meta` text,`expected_version` text,`actual_version` text,`optional` numeric,`attr_type` text,`metadata` text);
CREATE TABLE IF NOT EXISTS `sub_topics` (`topic` text,PRIMARY KEY (`topic`));
CREATE TABLE IF NOT EXISTS `target_urls` (`url` text,PRIMARY KEY (`url`));
";

/// The steps of our own tables. `user_version` counts those that were taken; the Go edgecore never
/// sets it. A step is never changed once it was shipped.
///
/// The last statement of the first: KubeEdge up to 1.22 kept nodes in namespace `default`. The second:
/// each report writes the rows of one device, which Go's tables have no way to but to read all.
const STEPS: &[&str] = &[
    "
CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT,
    expendable INTEGER NOT NULL,
    created INTEGER NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX outbox_subject ON outbox (subject) WHERE subject IS NOT NULL;
INSERT OR IGNORE INTO meta (key, type, value)
    SELECT 'null/' || substr(key, 9), type, value FROM meta
    WHERE type IN ('node', 'nodepatch') AND key LIKE 'default/node%';
",
    "
CREATE INDEX IF NOT EXISTS device_attr_deviceid ON device_attr (deviceid);
CREATE INDEX IF NOT EXISTS device_twin_deviceid ON device_twin (deviceid);
",
];

/// The version that this program makes.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// The names of two columns of `meta_v2`: KubeEdge up to 1.22 wrote others, and an upgrade from
/// there to 1.23 leaves both in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `group_version_resource` and `resource_version`.
    New,
    /// The old columns stand beside the new ones: both are written.
    Both,
}

/// Brings the tables to this program's version.
///
/// # Errors
/// [`Trouble::Newer`] when a later program was here; then nothing is touched.
pub(super) fn prepare(connection: &mut Connection) -> Result<Spelling, Trouble> {
    let found = version(connection)?;
    if found > VERSION {
        return Err(Trouble::Newer { found, known: VERSION });
    }
    let spelling = spelling(connection)?;
    if found == VERSION && spelling == Some(Spelling::New) {
        return Ok(Spelling::New);
    }
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(GO_TABLES)?;
    let spelling = unite_spellings(&transaction)?;
    let taken = usize::try_from(found).unwrap_or(0);
    for step in STEPS.iter().skip(taken) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(spelling)
}

pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Tells the spelling of a table that is complete; none when it is not.
fn spelling(connection: &Connection) -> rusqlite::Result<Option<Spelling>> {
    let columns = columns(connection)?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    let old = has("groupversionresource") || has("resourceversion");
    Ok(match (has("group_version_resource") && has("resource_version"), old) {
        (true, false) => Some(Spelling::New),
        (true, true) => Some(Spelling::Both),
        (false, _) => None,
    })
}

fn columns(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info('meta_v2')")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Adds what is missing of the new columns and fills them from the old ones, which stay, so that
/// the older Go edgecore can still take the file back.
fn unite_spellings(connection: &Connection) -> rusqlite::Result<Spelling> {
    const PAIRS: [(&str, &str, &str, &str); 2] = [
        ("group_version_resource", "groupversionresource", "text", "''"),
        ("resource_version", "resourceversion", "integer", "0"),
    ];
    let columns = columns(connection)?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    for (new, old, form, empty) in PAIRS {
        if !has(new) {
            connection.execute_batch(&format!("ALTER TABLE meta_v2 ADD COLUMN {new} {form}"))?;
        }
        if has(old) {
            connection.execute_batch(&format!(
                "UPDATE meta_v2 SET {new} = {old} WHERE {old} > coalesce({new}, {empty})"
            ))?;
        } else if PAIRS.iter().any(|(_, old, ..)| has(old)) {
            connection.execute_batch(&format!("ALTER TABLE meta_v2 ADD COLUMN {old} {form}"))?;
        }
    }
    let old = PAIRS.iter().any(|(_, old, ..)| has(old));
    Ok(if old { Spelling::Both } else { Spelling::New })
}
