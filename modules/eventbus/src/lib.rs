//! MQTT: carries messages between devices, applications and the cloud.
//!
//! It is the client of an external broker, or a broker itself, or both. Messages that come with
//! QoS 1 or 2 are acknowledged when they are on the disk, and wait there for the cloud, devicetwin,
//! the broker or a client that is away. What is decided about them stands in `core`; here packets
//! and messages are carried to it, and its decisions carried out.

mod bridge;
mod client;
mod config;
mod connection;
mod core;
mod gate;
mod journal;
mod listener;
pub mod mqtt;
mod rules;
mod shell;
mod status;
mod tls;
pub mod topic;

use std::time::{Duration, Instant};

use module_runtime::{Alarm, Context, Event};
use tokio::sync::mpsc;

use shell::Shell;

/// Packets of all connections that may wait for the main loop.
const HAPPENINGS: usize = 1024;

/// How long after an event time is looked at, and the status told; and how often from then on, until
/// all is at rest.
const TICK: Duration = Duration::from_secs(1);

/// How long the disk may take for the last of it, when the module is to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs the module until it is asked to drain.
///
/// # Errors
/// When the configuration is wrong, or the journal cannot be read or written.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = context.config::<config::Sections>()?.check()?;
    let (sender, mut happenings) = mpsc::channel(HAPPENINGS);
    let mut shell = Shell::start(&config, context.peers(), context.node())?;
    if let Some(external) = config.external.clone() {
        tokio::spawn(client::keep(external, sender.clone()));
    }
    if let Some((host, port)) = config.internal.clone() {
        tokio::spawn(listener::listen(host, port, sender.clone()));
    }
    let mut tick = Alarm::default();
    let mut may_change = true;
    loop {
        // An event is looked after a moment later; at rest only an event changes anything.
        if may_change {
            tick.set(Some(Instant::now() + TICK));
        }
        may_change = true;
        tokio::select! {
            event = context.next() => match event {
                Event::Message(delivery) => shell.on_message(delivery),
                Event::PeerUp(peer) => shell.on_peer_up(peer),
                Event::PeerDown(_) => {}
                Event::Drain => break,
            },
            Some(happening) = happenings.recv() => {
                shell.on_happening(happening);
                // As many as are there, within reason: they share one turn to the disk.
                for _ in 0..256 {
                    match happenings.try_recv() {
                        Ok(happening) => shell.on_happening(happening),
                        Err(_) => break,
                    }
                }
            }
            () = shell.work() => {}
            () = tick.ring() => {
                shell.on_tick();
                if let Some(report) = shell.report() {
                    context.report(&report)?;
                }
                may_change = !shell.is_at_rest();
            }
        }
        shell.carry_out();
    }
    shell.say_goodbye();
    let _in_time = tokio::time::timeout(FAREWELL, shell.rest()).await;
    Ok(())
}
