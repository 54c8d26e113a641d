//! The tunnel: brings logs, exec, attach and metrics of this node's pods to the cloud.
//!
//! One WebSocket to CloudCore carries all streams (WIRE.md §9). What the cloud asks is checked and
//! asked of the node's own API; nothing else can be reached through it. [`run`] is the shell;
//! decisions are in [`core`], what may be asked in [`request`], a standing tunnel in [`tunnel`].

mod config;
mod core;
mod dial;
pub mod frames;
mod local;
mod outgoing;
mod ready;
#[cfg(test)]
mod recorded;
mod redial;
mod request;
pub mod trial;
mod trouble;
mod tunnel;
pub mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ipc_proto::{Operation, Resource};
use module_runtime::{Context, Event, Redial, chance};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use crate::config::{Config, Raw};
use crate::trouble::Trouble;

/// How far the tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Connected,
    Connecting,
    Disconnected,
}

/// What `edgectl status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Report {
    state: State,
    endpoint: String,
    /// Tunnels that came to stand since the process started.
    connects: u64,
    /// Streams at the moment.
    streams: usize,
    /// Why there is no tunnel, or why the last one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Runs the module until the supervisor asks it to drain.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let raw: Raw = context.config()?;
    let config = Config::try_from(raw).context("the configuration is wrong")?;
    let endpoint = config.server.to_string();
    let (state, connects, streams, reason) = (State::Connecting, 0, 0, None);
    let (shown, mut report) = watch::channel(Report { state, endpoint, connects, streams, reason });
    let (streams, mut count) = watch::channel(0);
    let now = Arc::new(Notify::new());
    tokio::spawn(keep(config, shown.clone(), streams, Arc::clone(&now)));
    loop {
        let current = report.borrow_and_update().clone();
        context.report(&current)?;
        tokio::select! {
            event = context.next() => match event {
                Event::Message(delivery) if is_link_notice(&delivery.message) => {
                    let message = delivery.take();
                    if message.content.decode::<String>().is_ok_and(|it| it == "cloud_connected") {
                        now.notify_one();
                    }
                }
                Event::Message(delivery) => delivery.unsupported(),
                Event::PeerUp(_) | Event::PeerDown(_) => {}
                Event::Drain => return Ok(()),
            },
            Ok(()) = report.changed() => {}
            Ok(()) = count.changed() => {
                let streams = *count.borrow_and_update();
                shown.send_modify(|report| report.streams = streams);
            }
        }
    }
}

fn is_link_notice(message: &ipc_proto::Message) -> bool {
    message.route.operation == Operation::Connect && message.route.resource == Resource::Connection
}

/// Keeps a tunnel standing, for ever. `now` cuts a pause short: the cloud is there.
async fn keep(
    config: Config,
    shown: watch::Sender<Report>,
    streams: watch::Sender<usize>,
    now: Arc<Notify>,
) {
    let mut redial = Redial::default();
    tokio::time::sleep(redial::settle(chance())).await;
    loop {
        shown.send_modify(|report| report.state = State::Connecting);
        let mut lifetime = Duration::ZERO;
        let trouble = match dial::dial(&config).await {
            Err(trouble) => trouble,
            Ok(dialled) => {
                let since = Instant::now();
                let served = || {
                    info!(cloud = %config.server, "the tunnel stands");
                    shown.send_modify(|report| {
                        report.state = State::Connected;
                        report.connects += 1;
                        report.reason = None;
                    });
                };
                let trouble = tunnel::carry(dialled, &config, &streams, served).await;
                lifetime = since.elapsed();
                streams.send_replace(0);
                trouble
            }
        };
        say(&shown, &trouble);
        tokio::select! {
            () = tokio::time::sleep(redial.after(lifetime, chance())) => {}
            () = now.notified() => tokio::time::sleep(redial::settle(chance())).await,
        }
    }
}

/// Tells operator and log why there is no tunnel; the log once for each reason.
fn say(shown: &watch::Sender<Report>, trouble: &Trouble) {
    let sentence = trouble.sentence();
    if shown.borrow().reason.as_ref() == Some(&sentence) {
        debug!("no tunnel: {sentence}");
    } else {
        warn!("no tunnel: {sentence}");
    }
    shown.send_modify(|report| {
        report.state = State::Disconnected;
        report.reason = Some(sentence);
    });
}
