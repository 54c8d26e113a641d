//! How long the store takes from a commit to the word that it is on the disk, beside SQLite itself
//! with the same statements on the same disk.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::database::Database;
use super::{Done, Store};
use crate::row::{Change, DeviceRows, Mirror, Object, TwinRow};

/// Times of single commits, one after the other, sorted.
#[derive(Clone, Debug)]
pub struct Figures {
    /// From the hand-over of a change to the word that it is committed.
    pub store: Vec<Duration>,
    /// The same change by SQLite alone, in the caller's own thread.
    pub sqlite: Vec<Duration>,
}

impl Figures {
    /// Returns the time that this share of the commits, from 0 to 1, took at most: of the store and
    /// of SQLite.
    #[must_use]
    pub fn at(&self, share: f64) -> (Duration, Duration) {
        let pick = |times: &[Duration]| {
            let below = |at: &usize| (*at as f64) < share * times.len() as f64;
            let place = (0..times.len()).take_while(below).last().unwrap_or(0);
            times.get(place).copied().unwrap_or_default()
        };
        (pick(&self.store), pick(&self.sqlite))
    }
}

/// Commits `count` objects of `bytes` bytes each to two databases in `folder`, in turns, one by the
/// store and one by SQLite alone.
///
/// # Errors
/// When a database cannot be written.
pub async fn measure(folder: &Path, count: usize, bytes: usize) -> anyhow::Result<Figures> {
    let mut store = Store::<()>::start(folder.join("store.db"))?;
    let Some(Done::Health(None)) = store.next().await else { bail!("the database is not well") };
    let mut sqlite = Database::open(&folder.join("sqlite.db"))?;
    let mut figures = Figures { store: Vec::new(), sqlite: Vec::new() };
    for number in 0..count {
        let change = Change::Put(object(number, bytes));
        let begin = Instant::now();
        sqlite.begin()?;
        sqlite.apply(&change, 0)?;
        sqlite.commit()?;
        figures.sqlite.push(begin.elapsed());
        let begin = Instant::now();
        store.commit(vec![change], ());
        let done = store.next().await.context("the store has ended")?;
        figures.store.push(begin.elapsed());
        if !matches!(done, Done::Committed(..)) {
            bail!("a commit came to {done:?}");
        }
    }
    figures.store.sort_unstable();
    figures.sqlite.sort_unstable();
    Ok(figures)
}

/// Commits `count` reports, each of all the properties of one device of `devices`, by SQLite alone
/// to a database in `folder` that has all of them, and returns the time that each took.
///
/// # Errors
/// When the database cannot be written.
pub fn measure_twins(
    folder: &Path,
    devices: usize,
    properties: usize,
    count: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut sqlite = Database::open(&folder.join("twins.db"))?;
    let put = |number| Change::PutTwin(Box::new(device(number % devices, properties, number)));
    sqlite.begin()?;
    for number in 0..devices {
        sqlite.apply(&put(number), 0)?;
    }
    sqlite.commit()?;
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let change = put(number);
        let begin = Instant::now();
        sqlite.begin()?;
        sqlite.apply(&change, 0)?;
        sqlite.commit()?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn device(number: usize, properties: usize, value: usize) -> DeviceRows {
    let twin = |property: usize| TwinRow {
        name: format!("p{property}"),
        actual: value.to_string(),
        actual_meta: format!("{{\"timestamp\":{value}}}"),
        actual_version: format!("{{\"cloud\":0,\"edge\":{value}}}"),
        optional: true,
        attr_type: "string".to_owned(),
        ..TwinRow::default()
    };
    DeviceRows {
        id: format!("default/d{number}"),
        name: format!("d{number}"),
        twins: (0..properties).map(twin).collect(),
        ..DeviceRows::default()
    }
}

fn object(number: usize, bytes: usize) -> Object {
    let name = format!("c{number}");
    let mirror = Mirror {
        key: format!("/core/v1/configmaps/ns/{name}").into(),
        resource: "/v1, Resource=configmaps".into(),
        namespace: "ns".into(),
        name: name.as_str().into(),
        version: number as u64,
    };
    Object {
        key: format!("ns/configmap/{name}").into(),
        kind: "configmap".into(),
        value: format!("\"{name:bytes$}\"").into(),
        mirror: Some(mirror),
    }
}
