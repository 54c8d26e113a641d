//! SIGKILL at any instant between a write and its acknowledgement, many times over: after each,
//! everything that was acknowledged is in the database, and nothing is there by halves.
//!
//! The test runs itself again as the writer: a process that commits, and says on its standard output
//! what it was told is committed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use metamanager::row::{Change, Mirror, Object, Parcel};
use metamanager::store::{Done, Store};
use rusqlite::Connection;

/// Names the database to the writer.
const DATABASE: &str = "METAMANAGER_CRASH_DATABASE";

/// Where the writer goes on.
const FIRST: &str = "METAMANAGER_CRASH_FIRST";

/// How often the writer is killed.
const KILLS: u64 = 60;

/// Commits that are under way at a time.
const UNDER_WAY: u64 = 8;

fn object(number: u64) -> Object {
    // Sizes from nothing to a few pages.
    let width = usize::from(number.to_le_bytes()[0]) * 37;
    let value = format!(r#"{{"number":{number},"padding":"{:width$}"}}"#, "");
    let slot = number % 100;
    let mirror = Mirror {
        key: format!("/core/v1/pods/ns/p{slot}").into(),
        resource: "/v1, Resource=pods".into(),
        namespace: "ns".into(),
        name: format!("p{slot}").into(),
        version: number,
    };
    let key = format!("ns/pod/p{slot}").into();
    Object { key, kind: "pod".into(), value: value.into(), mirror: Some(mirror) }
}

fn changes(number: u64) -> Vec<Change> {
    let text = format!(r#"{{"header":{{"msg_id":"{number}"}},"route":{{}},"content":null}}"#);
    let subject = Some(format!("p{}", number % 100).into());
    let parcel = Parcel { text: text.into(), subject, expendable: false, sent: 0 };
    vec![Change::Put(object(number)), Change::Queue(Box::new(parcel))]
}

/// The writer; does nothing when it is not started by the test.
#[test]
fn writer() -> Result<()> {
    let (Ok(path), Ok(first)) = (std::env::var(DATABASE), std::env::var(FIRST)) else {
        return Ok(());
    };
    let mut number: u64 = first.parse()?;
    let mut store = Store::<u64>::start(path.into())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut output = std::io::stdout().lock();
    for _ in 0..UNDER_WAY {
        store.commit(changes(number), number);
        number += 1;
    }
    while let Some(done) = runtime.block_on(store.next()) {
        if let Done::Committed(committed, _) = done {
            writeln!(output, "committed {committed}")?;
            store.commit(changes(number), number);
            number += 1;
        } else if !matches!(done, Done::Health(None)) {
            bail!("the database is not well: {done:?}");
        }
    }
    Ok(())
}

/// Reads the numbers that the writer says.
fn numbers(output: ChildStdout) -> Receiver<u64> {
    let (sender, receiver) = sync_channel(1024);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let number = line.split("committed ").nth(1).and_then(|number| number.parse().ok());
            if number.is_some_and(|number| sender.send(number).is_err()) {
                return;
            }
        }
    });
    receiver
}

/// Runs the writer, kills it some time after its first commit, and returns the last number that it
/// was told is committed.
fn write_and_be_killed(database: &Path, first: u64, after: Duration) -> Result<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "writer", "--nocapture", "--test-threads=1"])
        .env(DATABASE, database)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let numbers = numbers(child.stdout.take().context("the writer has an output")?);
    let mut last = numbers.recv().context("the writer committed nothing")?;
    let kill_at = Instant::now() + after;
    loop {
        match numbers.recv_timeout(kill_at.saturating_duration_since(Instant::now())) {
            Ok(number) => last = number,
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => bail!("the writer ended by itself"),
        }
        if Instant::now() >= kill_at {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    Ok(numbers.iter().last().unwrap_or(last))
}

fn number_in(value: &str) -> Result<u64> {
    let value: serde_json::Value = serde_json::from_str(value)?;
    value["number"].as_u64().context("a number")
}

/// Checks each object against the last number that was acknowledged.
fn check(database: &Path, acknowledged: u64) -> Result<()> {
    let connection = Connection::open(database)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(verdict == "ok", "{verdict}");
    for slot in 1..100.min(acknowledged + 1) {
        let wanted = acknowledged - (acknowledged - slot) % 100;
        let sql = "SELECT m.value, v.value, v.resource_version, o.message \
                   FROM meta m, meta_v2 v, outbox o WHERE m.key = 'ns/pod/p' || ?1 \
                   AND v.key = '/core/v1/pods/ns/p' || ?1 AND o.subject = 'p' || ?1";
        let (value, mirror, version, parcel): (String, String, i64, String) = connection
            .query_row(sql, [slot.to_string()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .with_context(|| format!("slot {slot} after {acknowledged}"))?;
        let stored = number_in(&value)?;
        ensure!(stored >= wanted, "slot {slot}: {stored} is stored, {wanted} was acknowledged");
        let whole = value == mirror && u64::try_from(version) == Ok(stored);
        ensure!(whole, "slot {slot} is there by halves: {stored}, {version}");
        ensure!(parcel.contains(&format!("\"{stored}\"")), "slot {slot}: {stored}, {parcel}");
    }
    Ok(())
}

#[test]
fn what_was_acknowledged_survives_sigkill_at_any_instant() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("edgecore.db");
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        // Prime steps spread the kills over the whole of a commit's life.
        let after = Duration::from_micros(kill * 7919 % 61_000);
        acknowledged = write_and_be_killed(&database, acknowledged + 1, after)?;
        check(&database, acknowledged)?;
    }
    ensure!(acknowledged > KILLS * 2, "{acknowledged} commits are too few to tell anything");
    Ok(())
}
