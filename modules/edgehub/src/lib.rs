//! The cloud link: keeps one WebSocket to CloudHub standing through anything, hands what comes down
//! to the module that it is for, acknowledges it when that module has committed it, and keeps what
//! goes up until the cloud has it.
//!
//! [`run`] is the shell. Decisions are in [`core`], the link's life in [`dialler`], certificates in
//! [`certs`]; what carries messages stands behind [`transport::Transport`]. It parses no content.

mod activity;
mod certs;
mod config;
mod core;
mod dialler;
mod http;
mod hub;
#[cfg(feature = "quic")]
mod quic;
mod report;
mod tcp;
mod tls;
mod transport;
pub mod trial;
mod trouble;
mod ws;

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt;
use module_runtime::{Context, Event, Now};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::config::{Config, Raw};
use crate::core::{Bucket, Core};
use crate::dialler::{Dialler, Standing};
use crate::hub::Hub;
use crate::report::Display;
use crate::transport::{Incoming, Link};
use crate::ws::WebSocket;

/// How long the clean close of the link may hold up the module's end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Looks whether the cloud that a configuration names is there, and is the one that its token is of.
/// Nothing is written; that the token still holds is only found by using it.
///
/// # Errors
/// With a sentence that names the trouble and the way out.
pub fn check_cloud(section: serde_json::Value) -> Result<(), String> {
    let config = read(section)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot begin: {error}"))?;
    runtime.block_on(certs::check(&config)).map_err(|trouble| trouble.sentence())
}

/// Returns from when until when the node's certificate holds, in Unix seconds; nothing where it has
/// none yet. `section` is what the configuration tells this module.
///
/// # Errors
/// With a sentence, when the files are no certificate of this node's, or do not belong together.
pub fn lifetime(section: serde_json::Value) -> Result<Option<(i64, i64)>, String> {
    certs::lifetime(&read(section)?).map_err(|trouble| trouble.sentence())
}

fn read(section: serde_json::Value) -> Result<Config, String> {
    let raw: Raw = serde_json::from_value(section).map_err(|error| error.to_string())?;
    Config::try_from(raw).map_err(|error| error.to_string())
}

/// Runs the module until the supervisor asks it to drain.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let raw: Raw = context.config()?;
    let config = Config::try_from(raw).context("the configuration is wrong")?;
    let (qps, burst) = config.rate;
    let core = Core::new(
        Now::read().at,
        config.heartbeat,
        Bucket::new(qps, burst),
        module_runtime::message_id,
    )
    .of_node(&config.node);
    let mut hub = Hub::new(core, context.peers(), config.read_deadline);
    let (links_sender, mut links) = mpsc::channel(1);
    let (standing_sender, mut standing) = watch::channel(Standing::default());
    keep_a_link(config.clone(), links_sender, standing_sender);
    let mut display = Display::default();
    loop {
        hub.carry_out();
        hub.watch();
        let is_news = standing.has_changed().unwrap_or(false) || display.served != hub.is_served();
        if is_news || display.is_old() {
            display.show(&mut context, hub.report(&config, &standing.borrow_and_update()))?;
        }
        match turn(&mut hub, &mut context, &mut links, &mut standing).await {
            Turn::Event(Event::Message(delivery)) => hub.sent(delivery),
            Turn::Event(Event::PeerUp(peer)) => hub.peer_up(peer),
            Turn::Event(Event::PeerDown(peer)) => hub.peer_down(peer),
            Turn::Event(Event::Drain) => break,
            Turn::Linked(link) => hub.link_up(link),
            Turn::Came(Some(incoming)) => hub.came(incoming),
            Turn::Came(None) => hub.link_down(),
            Turn::Room => hub.write(),
            Turn::Worked((id, result)) => hub.worked(&id, result),
            Turn::HandedOver((id, ticket)) => hub.handed_over(id, ticket),
            Turn::Due => {}
        }
    }
    hub.say_goodbye(GOODBYE).await;
    Ok(())
}

/// Starts the task that keeps a link standing.
fn keep_a_link(config: Config, links: mpsc::Sender<Link>, standing: watch::Sender<Standing>) {
    #[cfg(feature = "quic")]
    if let Some(hub) = config.quic.clone() {
        let transport = quic::Quic { hub, config: config.clone() };
        tokio::spawn(Dialler::new(config, transport, links, standing).run());
        return;
    }
    if config.quic.is_some() {
        warn!("CloudCore's QUIC is a draft that no current stack speaks: using its WebSocket");
    }
    let transport = WebSocket { config: config.clone() };
    tokio::spawn(Dialler::new(config, transport, links, standing).run());
}

/// What woke the main loop.
#[expect(clippy::large_enum_variant, reason = "nearly all turns are messages, moved on at once")]
enum Turn {
    /// A module, or the supervisor.
    Event(Event),
    /// A link stands.
    Linked(Link),
    /// Something came from the cloud, or the link ended.
    Came(Option<Incoming>),
    /// The link takes what waits to be written.
    Room,
    /// A module is done with a message of the cloud.
    Worked(hub::Worked),
    /// A message of the cloud is in its module's queue, or cannot be.
    HandedOver(hub::HandedOver),
    /// Time.
    Due,
}

/// Waits for the next thing to do. Cancelling loses nothing.
async fn turn(
    hub: &mut Hub,
    context: &mut Context,
    links: &mut mpsc::Receiver<Link>,
    standing: &mut watch::Receiver<Standing>,
) -> Turn {
    let deadline = hub.deadline();
    let writes = hub.wants_to_write();
    // One message at a time: a full queue pushes back to the socket.
    let reads = hub.handing_over.is_none();
    let (incoming, outgoing) = hub.link.as_mut().map(Link::split).unzip();
    tokio::select! {
        event = context.next() => Turn::Event(event),
        Some(link) = links.recv() => Turn::Linked(link),
        Some(came) = optional(incoming.map(mpsc::Receiver::recv)), if reads => Turn::Came(came),
        Some(Ok(_room)) = optional(outgoing.map(mpsc::Sender::reserve)), if writes => Turn::Room,
        Some(worked) = hub.works.next(), if !hub.works.is_empty() => Turn::Worked(worked),
        Some(over) = optional(hub.handing_over.as_mut()) => Turn::HandedOver(over),
        Ok(()) = standing.changed() => Turn::Due,
        Some(()) = optional(deadline.map(|at| tokio::time::sleep_until(at.into()))) => Turn::Due,
    }
}

/// Waits for what may not be there; gives nothing at once when it is not.
async fn optional<F: Future>(future: Option<F>) -> Option<F::Output> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}
