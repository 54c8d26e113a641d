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
mod report;
mod tcp;
mod tls;
mod transport;
mod trouble;
mod ws;

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt;
use module_runtime::{Context, Event};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::config::{Config, Raw};
use crate::core::{Bucket, Core};
use crate::dialler::{Dialler, Standing};
use crate::hub::{Hub, now};
use crate::report::{Report, State};
use crate::trouble::Trouble;
use crate::ws::WebSocket;

/// How long the clean close of the link may hold up the module's end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs the module until the supervisor asks it to drain.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let raw: Raw = context.config()?;
    let config = Config::try_from(raw).context("the configuration is wrong")?;
    if config.quic {
        warn!("CloudCore's QUIC is a draft that no current stack speaks: using its WebSocket");
    }
    let (qps, burst) = config.rate;
    let core = Core::new(
        now().at,
        context.enabled(),
        config.heartbeat,
        Bucket::new(qps, burst),
        module_runtime::message_id,
    );
    let mut hub = Hub::new(core, context.peers(), config.read_deadline);
    let (links_sender, mut links) = mpsc::channel(1);
    let (standing_sender, mut standing) = watch::channel(Standing::default());
    let transport = WebSocket { config: config.clone() };
    tokio::spawn(Dialler::new(config.clone(), transport, links_sender, standing_sender).run());
    let mut reporter = Reporter::new(config.hub.to_string());
    loop {
        hub.carry_out();
        hub.watch();
        reporter.report(&mut context, &hub, &standing.borrow_and_update())?;
        tokio::select! {
            event = context.next() => match event {
                Event::Message(delivery) => hub.sent(delivery),
                Event::PeerUp(peer) => hub.peer_up(peer),
                Event::PeerDown(peer) => hub.peer_down(peer),
                Event::Drain => break,
            },
            Some(link) = links.recv() => hub.link_up(link),
            incoming = incoming(&mut hub) => match incoming {
                Some(incoming) => hub.came(incoming),
                None => hub.link_down(),
            },
            () = room(&hub), if hub.wants_to_write() => write(&mut hub),
            Some((id, result)) = hub.works.next() => hub.worked(&id, result),
            (id, ticket) = handed_over(&mut hub) => hub.handed_over(id, ticket),
            Ok(()) = standing.changed() => {}
            () = sleep_until(hub.deadline()) => {}
        }
    }
    say_goodbye(hub).await;
    Ok(())
}
