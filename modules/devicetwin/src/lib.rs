//! Device twins: what each device reports and what it is wanted to be, and the mappers that speak
//! with the devices.
//!
//! The decisions stand in [`core`]; [`shell`] carries them out; [`dmi`] is the gRPC with mappers.
//! What a device is stands in the store alone, so that starting and starting again are one path.

mod config;
mod core;
mod device;
mod dmi;
mod mappers;
mod model;
mod objects;
mod payload;
mod report;
mod shell;
pub mod trial;
mod twin;
mod value;

use anyhow::Context as _;
use ipc_proto::Module;
use module_runtime::{Context, Event};
use tokio::sync::mpsc;
use tracing::warn;

use config::Sections;
use shell::Shell;

/// Calls of mappers that wait for the main loop.
const ASKS: usize = 64;

/// Runs the module until the supervisor asks it to drain.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = context.config::<Sections>()?.check().context("cannot use the configuration")?;
    let (asks_sender, mut asks) = mpsc::channel(ASKS);
    let mut shell = Shell::new(context.node(), context.peers());
    match dmi::listen(&config.socket) {
        Ok(listener) => drop(tokio::spawn(dmi::serve(listener, asks_sender.clone()))),
        Err(reason) => {
            warn!("no mapper can come: {reason}");
            shell.no_mappers(reason);
        }
    }
    loop {
        let deadline = shell.deadline();
        tokio::select! {
            event = context.next() => match event {
                Event::Message(delivery) => shell.take(delivery),
                Event::PeerUp(Module::Metamanager) => shell.store_up(),
                Event::PeerDown(Module::Edgehub) => shell.link(false),
                Event::PeerUp(_) | Event::PeerDown(_) => {}
                Event::Drain => return Ok(()),
            },
            Some(ask) = asks.recv(), if shell.is_loaded() => shell.ask(ask),
            Some(errand) = shell.errands.join_next() => {
                shell.on_errand(errand.context("a request's task has ended")?);
            }
            () = tokio::time::sleep_until(deadline.into()) => shell.on_time(),
        }
        if let Some(report) = shell.news() {
            context.report(&report)?;
        }
    }
}
