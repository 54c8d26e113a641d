//! Messages between two processes through the product's own [`Peers`], beside the bare socket.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipc_proto::lifeline::QueueBounds;
use ipc_proto::{Content, Group, Kind, Message, Module, ModuleSet, Operation, Resource, Scope};
use module_runtime::{Event, Inbox, Peers, Seat, WINDOW};

use super::bare::{self, Way};
use super::{Partner, ROUNDS, Row};

/// The other process's role: the module that serves.
pub(super) const ROLE: &str = "module";

/// Who asks, and who serves.
const ASKER: Module = Module::Edged;
const SERVER: Module = Module::Metamanager;

/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Bytes of each.
    pub(super) size: usize,
    /// How many.
    pub(super) count: usize,
}

/// A size, its name, and how many messages make a round there and back, and one way.
const SIZES: [(&str, usize, usize, usize); 3] =
    [("256 B", 256, 5000, 200_000), ("4 KiB", 4096, 5000, 50_000), ("1 MiB", 1 << 20, 100, 300)];

/// Measures all sizes.
pub(super) fn run() -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let _partners = [ROLE, bare::ROLE, bare::TOKIO_ROLE]
        .map(|role| Partner::start(role, folder))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let mut bare = bare::connect(folder, bare::ROLE)?;
    let on_tokio = bare::connect(folder, bare::TOKIO_ROLE)?;
    on_tokio.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut on_tokio = tokio::net::UnixStream::from_std(on_tokio)?;
        let (peers, inbox) = seat(ASKER, folder).take(None)?;
        tokio::spawn(serve(inbox));
        let mut rows = Vec::new();
        for (name, size, there_and_back, one_way) in SIZES {
            let load = Load { size, count: there_and_back };
            rows.extend(round_trips(name, load, &peers, &mut bare, &mut on_tokio).await?);
            let load = Load { size, count: one_way };
            rows.extend(throughput(name, load, &peers, &mut bare).await?);
        }
        Ok(rows)
    })
}

async fn round_trips(
    name: &str,
    load: Load,
    peers: &Peers,
    bare: &mut std::os::unix::net::UnixStream,
    on_tokio: &mut tokio::net::UnixStream,
) -> Result<Vec<Row>> {
    let each = |seconds: f64| seconds * 1e6 / as_f64(load.count);
    let mut took = Took::default();
    for _ in 0..ROUNDS {
        took.bare.push(each(bare::time(bare, Way::ThereAndBack, load)?));
        took.on_tokio.push(each(bare::time_tokio(on_tokio, load).await?));
        took.ours.push(each(time_requests(peers, load).await?));
    }
    Ok(vec![
        Row::of(format!("{name} round trip, request and answer"), "µs", &took.ours),
        Row::of(format!("{name} round trip, bare socket"), "µs", &took.bare),
        Row::of(format!("{name} round trip, bare socket on tokio"), "µs", &took.on_tokio),
        Row::of(format!("{name} round trip, ratio to bare"), "×", &took.ratios(&took.bare))
            .target("≤ 1.5"),
        Row::of(
            format!("{name} round trip, ratio to bare on tokio"),
            "×",
            &took.ratios(&took.on_tokio),
        ),
    ])
}

async fn throughput(
    name: &str,
    load: Load,
    peers: &Peers,
    bare: &mut std::os::unix::net::UnixStream,
) -> Result<Vec<Row>> {
    let rate = |seconds: f64| as_f64(load.count) / seconds;
    let mut took = Took::default();
    for _ in 0..ROUNDS {
        took.bare.push(rate(bare::time(bare, Way::OneWay, load)?));
        took.ours.push(rate(time_messages(peers, load).await?));
    }
    let ours = Row::of(format!("{name} one way, settled"), "messages/s", &took.ours);
    let ours = if load.size < 1000 { ours.target("≥ 200000") } else { ours };
    Ok(vec![
        ours,
        Row::of(format!("{name} one way, bare socket"), "messages/s", &took.bare),
        Row::of(format!("{name} one way, ratio to bare"), "×", &took.ratios(&took.bare)),
    ])
}

/// One value for each round.
#[derive(Default)]
struct Took {
    ours: Vec<f64>,
    bare: Vec<f64>,
    on_tokio: Vec<f64>,
}

impl Took {
    fn ratios(&self, base: &[f64]) -> Vec<f64> {
        self.ours.iter().zip(base).map(|(ours, base)| ours / base).collect()
    }
}

async fn time_requests(peers: &Peers, Load { size, count }: Load) -> Result<f64> {
    let content = content(size);
    let begin = Instant::now();
    for _ in 0..count {
        peers.request(SERVER, message(peers, &content), PATIENCE).await?.settle();
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// Messages are settled in order, so the last one's settlement is that of all.
async fn time_messages(peers: &Peers, Load { size, count }: Load) -> Result<f64> {
    let content = content(size);
    let begin = Instant::now();
    let mut last = None;
    for _ in 0..count {
        last = Some(peers.send(SERVER, message(peers, &content)).await?);
    }
    last.context("no message was sent")?.settled().await?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Makes a question that the allow-list lets pass.
fn message(peers: &Peers, content: &Content) -> Message {
    let pod = Resource::object(Scope::Namespace("default".into()), Kind::Pod, "bench");
    peers.message(Group::Resource, Operation::Query, pod, content.clone())
}

/// Makes a content of `size` bytes.
fn content(size: usize) -> Content {
    Content::text(&"x".repeat(size.saturating_sub(2)))
}

/// Serves as the module that is asked.
pub(super) fn play(folder: &Path) -> Result<()> {
    let listener = UnixListener::bind(folder.join(SERVER.socket_name()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (_peers, inbox) = seat(SERVER, folder).take(Some(listener.into()))?;
        serve(inbox).await
    })
}

/// Answers what wants an answer and settles all else.
async fn serve(mut inbox: Inbox) -> Result<()> {
    loop {
        if let Event::Message(delivery) = inbox.next().await {
            if delivery.is_request() {
                let content = delivery.message.content.clone();
                delivery.respond(content)?;
            } else {
                delivery.settle();
            }
        }
    }
}

fn seat(module: Module, folder: &Path) -> Seat {
    Seat {
        module,
        instance: module_runtime::instance(),
        runtime_dir: folder.to_owned(),
        users: [rustix::process::geteuid().as_raw(); Module::COUNT],
        enabled: [ASKER, SERVER].into_iter().collect::<ModuleSet>(),
        queue: QueueBounds::default(),
        window: WINDOW,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
const fn as_f64(count: usize) -> f64 {
    count as f64
}
