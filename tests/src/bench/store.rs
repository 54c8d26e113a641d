//! What it takes until the cloud may forget an object: from the message sent to its
//! acknowledgement, one at a time as the cloud does it, beside SQLite alone on the same disk; what
//! the objects leave in memory; and what a kill in the middle of it does.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use ipc_proto::Module;
use metamanager::store::measure;
use minicloud::core::Push;
use minicloud::{Config, Minicloud};
use rustix::process::Signal;
use serde_json::json;

use super::link::{millis, start};
use super::{ROUNDS, Row};
use crate::rig::cloud::{Cloud, NODE};
use crate::rig::process::kib;
use crate::rig::{Rig, SOON, process};

/// Bytes of an object.
const SIZE: usize = 4096;

/// Objects of a round, handed to the cloud in parts so that what is compared takes turns.
const BULK: usize = 5000;

/// The parts.
const PARTS: usize = 5;

/// Objects of a part.
const PART: usize = BULK / PARTS;

/// Objects of a part of which each is sent and waited for by itself, and as many that SQLite alone
/// is measured with.
const SINGLE: usize = 200;

/// How long a part may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Acknowledgements that nobody has looked at yet.
const UNREAD: usize = 1 << 16;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.add()?;
    }
    let mut rows = rounds.rows();
    rows.extend(kills()?);
    Ok(rows)
}

/// A cloud that leaves its objects to the bench: they stand in no cluster, so the sync controller
/// would take them for deleted.
fn cloud() -> Result<Cloud> {
    Cloud::start(Config { sync_interval: Duration::from_secs(86_400), ..Config::default() })
}

/// One value for each round.
#[derive(Default)]
struct Rounds {
    /// From the message to its acknowledgement, and SQLite alone: at p50 and p99.
    single: [Vec<f64>; 2],
    sqlite: [Vec<f64>; 2],
    /// Seconds for the whole bulk.
    bulk: Vec<f64>,
    /// SQLite alone, on average.
    mean: Vec<f64>,
    /// Before and after, of each of [`WATCHED`].
    memory: [[Vec<f64>; 2]; WATCHED.len()],
}

/// Whose memory is watched; `None` is the whole.
const WATCHED: [(&str, Option<Module>); 3] = [
    ("edgehub", Some(Module::Edgehub)),
    ("metamanager", Some(Module::Metamanager)),
    ("all processes", None),
];

impl Rounds {
    /// Measures with a node that has nothing yet.
    fn add(&mut self) -> Result<()> {
        let cloud = cloud()?;
        let node = start(&cloud)?;
        self.watch(&node, 0)?;
        let [mut single, mut alone] = [Histogram::new(3)?, Histogram::new(3)?];
        let mut bulk = Duration::ZERO;
        for part in 0..PARTS {
            bulk += send(&cloud, part * PART)?;
            time_acknowledgements(&cloud, part * PART, &mut single)?;
            let folder = node.setup().folder.path().join(format!("alone-{part}"));
            std::fs::create_dir(&folder)?;
            for time in cloud.with(|_| measure(&folder, SINGLE, SIZE))?.sqlite {
                record(&mut alone, time)?;
            }
        }
        self.watch(&node, 1)?;
        self.bulk.push(bulk.as_secs_f64());
        self.mean.push(alone.mean() / 1e3);
        for (index, share) in [0.5, 0.99].into_iter().enumerate() {
            let at = |times: &Histogram<u64>| {
                millis(Duration::from_micros(times.value_at_quantile(share)))
            };
            self.single[index].push(at(&single));
            self.sqlite[index].push(at(&alone));
        }
        Ok(())
    }

    fn watch(&mut self, node: &Rig, moment: usize) -> Result<()> {
        for ((_, module), memory) in WATCHED.into_iter().zip(&mut self.memory) {
            let pids = match module {
                Some(module) => vec![node.pid_of(module)?],
                None => {
                    let mut all = process::children(node.supervisor_pid());
                    all.push(node.supervisor_pid());
                    all
                }
            };
            let pss = pids.into_iter().map(|pid| kib(pid, &["Pss"])).sum::<Result<f64>>()?;
            memory[moment].push(pss / 1024.0);
        }
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for ((name, single), sqlite) in ["p50", "p99"].iter().zip(&self.single).zip(&self.sqlite) {
            let text = |what: &str| format!("4 KiB object, {what}, {name}");
            rows.push(Row::of(text("sent to acknowledged"), "ms", single));
            rows.push(Row::of(text("commit by SQLite alone"), "ms", sqlite));
            rows.push(Row::of(
                text("ratio to SQLite alone"),
                "×",
                &with(single, sqlite, |a, b| a / b),
            ));
        }
        let each: Vec<_> = self.bulk.iter().map(|bulk| bulk * 1e3 / as_f64(BULK)).collect();
        rows.extend([
            Row::of(format!("{BULK} objects of 4 KiB, one at a time"), "s", &self.bulk),
            Row::of("each of them", "ms", &each),
            Row::of("each by SQLite alone", "ms", &self.mean),
            Row::of("each, ratio to SQLite alone", "×", &with(&each, &self.mean, |a, b| a / b)),
            Row::of("each, beyond SQLite alone", "ms", &with(&each, &self.mean, |a, b| a - b))
                .target("≤ 1"),
        ]);
        for ((name, module), [before, after]) in WATCHED.into_iter().zip(&self.memory) {
            let row = |when: &str, values: &[f64]| {
                let row = Row::of(format!("PSS of {name}, {when}"), "MiB", values);
                if module.is_none() { row.go("87.2 MB, no pods") } else { row }
            };
            rows.push(row("joined", before));
            rows.push(row(&format!("after {BULK} objects"), after));
        }
        rows
    }
}

pub(super) fn with(ours: &[f64], base: &[f64], calculate: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    ours.iter().zip(base).map(|(ours, base)| calculate(*ours, *base)).collect()
}

/// Hands the cloud the objects of a part and returns how long it takes until all are acknowledged.
fn send(cloud: &Cloud, first: usize) -> Result<Duration> {
    let sent = cloud.begin(move |cloud| async move {
        let begin = Instant::now();
        for number in first..first + PART {
            cloud.push(NODE, object(number, 1)).await?;
        }
        acknowledged(&cloud, PATIENCE).await?;
        Ok(begin.elapsed())
    });
    sent.done()
}

/// Sends newer versions of some of the objects one by one.
fn time_acknowledgements(cloud: &Cloud, first: usize, times: &mut Histogram<u64>) -> Result<()> {
    let sent = cloud.begin(move |cloud| async move {
        let mut times = Vec::new();
        for number in first..first + SINGLE {
            // returns when the message is on its way to the socket
            cloud.push(NODE, object(number, 2)).await?;
            let begin = Instant::now();
            acknowledged(&cloud, SOON).await?;
            times.push(begin.elapsed());
        }
        Ok(times)
    });
    sent.done()?.into_iter().try_for_each(|time| record(times, time))
}

/// Takes a time up, in microseconds.
pub(super) fn record(times: &mut Histogram<u64>, time: Duration) -> Result<()> {
    Ok(times.record(u64::try_from(time.as_micros())?)?)
}

/// Waits until nothing that was sent to the node is unacknowledged.
async fn acknowledged(cloud: &Minicloud, patience: Duration) -> Result<()> {
    let done = |cloud: &minicloud::core::Cloud, _| {
        let sessions = cloud.hub().sessions();
        sessions.iter().any(|it| it.node == NODE && it.waiting == 0 && !it.in_flight)
    };
    cloud.wait_for(patience, done).await.context("objects are not acknowledged")
}

/// Makes a message about a config map of [`SIZE`] bytes.
fn object(number: usize, version: usize) -> Push {
    let name = format!("c{number}");
    let meta = json!({
        "name": name, "namespace": "default", "uid": format!("uid-of-{name}"),
        "resourceVersion": version.to_string(),
    });
    let mut content = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta});
    let room = SIZE.saturating_sub(content.to_string().len() + r#","data":{"a":""}"#.len());
    content["data"] = json!({"a": "x".repeat(room)});
    Push {
        source: "edgecontroller".into(),
        group: "resource".into(),
        operation: "update".into(),
        resource: format!("default/configmap/{name}"),
        version: version.to_string(),
        content,
    }
}

/// Kills every module in turn while objects come, one at a time.
fn kills() -> Result<Vec<Row>> {
    let cloud = cloud()?;
    let node = start(&cloud)?;
    let acks = load(&cloud);
    let [mut hub, mut store, mut others] = [const { Vec::new() }; 3];
    let [mut lost, mut renewed] = [const { Vec::new() }; 2];
    for module in [Module::ALL; ROUNDS].into_iter().flatten() {
        let before = cloud.session()?;
        let old = node.pid_of(module)?;
        let killed = Instant::now();
        process::signal(old, Signal::KILL)?;
        node.wait_until_back(module, old).with_context(|| format!("{module} was killed"))?;
        let pause = longest_pause(&acks, killed, Instant::now())
            .with_context(|| format!("{module} was killed: {}", node.module_log(module)))?;
        let sessions = as_f64(usize::try_from(cloud.session()? - before)?);
        let (pauses, connections) = if module == Module::Edgehub {
            (&mut hub, &mut renewed)
        } else if module == Module::Metamanager {
            (&mut store, &mut lost)
        } else {
            (&mut others, &mut lost)
        };
        pauses.push(millis(pause));
        connections.push(sessions);
    }
    let go = "all of it gone, 240 ms to the lease";
    let row = |who: &str, values: &[f64]| {
        Row::of(format!("kill of {who} under load, longest pause of objects"), "ms", values).go(go)
    };
    Ok(vec![
        row("edgehub", &hub),
        row("metamanager", &store),
        row("another module", &others),
        Row::of("new connections by a kill of edgehub", "", &renewed).target("1"),
        Row::of("new connections by a kill of any other", "", &lost).target("0").go("1"),
    ])
}

/// Sends objects, each when the one before is acknowledged, as long as somebody wants to know.
fn load(cloud: &Cloud) -> Receiver<Instant> {
    let (sender, acks) = sync_channel(UNREAD);
    let _runs_until_nobody_listens = cloud.begin(|cloud| async move {
        for version in 1.. {
            cloud.push(NODE, object(version % BULK, version)).await?;
            acknowledged(&cloud, SOON).await?;
            if sender.try_send(Instant::now()).is_err() {
                break;
            }
        }
        Ok(())
    });
    acks
}

/// Returns the longest time without an acknowledgement, from `begin` to the first one after `end`.
fn longest_pause(acks: &Receiver<Instant>, begin: Instant, end: Instant) -> Result<Duration> {
    let (mut last, mut longest) = (begin, Duration::ZERO);
    while last <= end {
        let next = acks.recv_timeout(SOON).context("no object is acknowledged")?.max(last);
        longest = longest.max(next - last);
        last = next;
    }
    Ok(longest)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
pub(super) const fn as_f64(count: usize) -> f64 {
    count as f64
}
