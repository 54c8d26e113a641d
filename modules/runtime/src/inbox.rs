//! What the peers send, in the order in which it is to be handled.

use std::collections::VecDeque;

use ipc_proto::Module;
use tokio::sync::{mpsc, watch};

use crate::diagnostic;
use crate::peers::{Delivery, Lives, Peers};

/// Messages handed over in a row before everything else gets its turn.
const BURST: u32 = 64;

/// What a module's main loop is told.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all events are messages, moved on at once")]
pub enum Event {
    /// A message came in; it is to be settled.
    Message(Delivery),
    /// A peer's process is connected, perhaps a new one.
    PeerUp(Module),
    /// The connection to a peer ended. Its messages that are here already still come.
    PeerDown(Module),
    /// Finish what you hold and return. Told once.
    Drain,
}

/// The receiving end of a module's peers. It answers `ping` and `echo` itself.
#[derive(Debug)]
pub struct Inbox {
    peers: Peers,
    deliveries: mpsc::Receiver<Delivery>,
    lives: watch::Receiver<Lives>,
    /// What the module was told of its peers.
    told: Lives,
    changes: VecDeque<Event>,
    burst: u32,
}

impl Inbox {
    pub(crate) fn new(
        peers: Peers,
        deliveries: mpsc::Receiver<Delivery>,
        lives: watch::Receiver<Lives>,
    ) -> Self {
        Self {
            peers,
            deliveries,
            lives,
            told: Lives::default(),
            changes: VecDeque::new(),
            burst: 0,
        }
    }

    /// Waits for the next event; never [`Event::Drain`]. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.next_ready() {
                return event;
            }
            if self.burst >= BURST {
                self.burst = 0;
                crate::let_others_work().await;
                continue;
            }
            let delivery = tokio::select! {
                biased;
                Ok(()) = self.lives.changed() => {
                    self.note_lives();
                    continue;
                }
                Some(delivery) = self.deliveries.recv() => delivery,
                // The links have ended: there is nothing more to come.
                else => std::future::pending().await,
            };
            if let Some(delivery) = diagnostic::take(delivery, &self.peers) {
                return Event::Message(delivery);
            }
        }
    }

    /// Returns the next event that needs no waiting, as long as the burst lasts.
    pub(crate) fn next_ready(&mut self) -> Option<Event> {
        if self.lives.has_changed().unwrap_or(false) {
            self.note_lives();
        }
        if let Some(change) = self.changes.pop_front() {
            return Some(change);
        }
        while self.burst < BURST {
            let Ok(delivery) = self.deliveries.try_recv() else {
                self.burst = 0;
                return None;
            };
            self.burst += 1;
            if let Some(delivery) = diagnostic::take(delivery, &self.peers) {
                return Some(Event::Message(delivery));
            }
        }
        None
    }

    /// Turns what has changed among the peers into events.
    fn note_lives(&mut self) {
        let lives = *self.lives.borrow_and_update();
        for module in Module::ALL {
            let (before, after) = (self.told[module.index()], lives[module.index()]);
            if before == after {
                continue;
            }
            if before.is_some() {
                self.changes.push_back(Event::PeerDown(module));
            }
            if after.is_some() {
                self.changes.push_back(Event::PeerUp(module));
            }
        }
        self.told = lives;
    }
}
