//! `ping` and `echo`, which every module answers from its own main loop: an answer shows that the
//! loop turns.
//!
//! A ping is answered with no content. An echo comes back with its content, by way of the modules
//! that its resource names: `a/b/c` is passed on to `a` as an echo of `b/c`. It is settled once
//! its answer is settled, so no kill on the way loses it. The echoes of one sender are answered in
//! the order in which they came.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use ipc_proto::{Group, Module, Operation, Resource};
use tracing::debug;

use crate::peers::{Delivery, Peers, Relayed};

/// The echoes that were passed on, and those behind them.
#[derive(Debug, Default)]
pub(crate) struct Diagnostic {
    /// By sender, oldest first.
    echoes: [VecDeque<Echo>; Module::COUNT],
    /// How many there are in all.
    pending: usize,
}

#[derive(Debug)]
struct Echo {
    delivery: Delivery,
    /// The answer of the next module; nothing when this module is the last.
    relayed: Option<Relayed>,
}

impl Diagnostic {
    /// Takes a message that is a diagnostic; gives any other back.
    pub(crate) fn take(&mut self, delivery: Delivery, peers: &Peers) -> Option<Delivery> {
        let route = &delivery.message.route;
        if route.group != Group::Diagnostic {
            return Some(delivery);
        }
        if route.operation == Operation::Ping {
            answered(delivery.respond(ipc_proto::Content::NULL));
        } else if route.operation == Operation::Echo {
            self.echo(delivery, peers);
        } else {
            delivery.unsupported();
        }
        None
    }

    fn echo(&mut self, delivery: Delivery, peers: &Peers) {
        let relayed = match relay(&delivery, peers) {
            Ok(relayed) => relayed,
            Err(error) => return answered(delivery.respond_error(&format!("{error:#}"))),
        };
        let waiting = &mut self.echoes[delivery.from.index()];
        if relayed.is_none() && waiting.is_empty() {
            return finish(delivery);
        }
        waiting.push_back(Echo { delivery, relayed });
        self.pending += 1;
    }

    /// Answers the echoes whose turn has come. Never ready: it has nothing for the module.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        if self.pending == 0 {
            return;
        }
        for waiting in &mut self.echoes {
            while let Some(first) = waiting.front_mut() {
                let answer = match &mut first.relayed {
                    None => None,
                    Some(relayed) => match Pin::new(relayed).poll(cx) {
                        Poll::Ready(answer) => Some(answer),
                        Poll::Pending => break,
                    },
                };
                let Some(Echo { delivery, .. }) = waiting.pop_front() else { break };
                self.pending -= 1;
                match answer {
                    None => finish(delivery),
                    Some(Ok(Ok(answer))) if answer.route.operation == Operation::Error => {
                        let reason: String = answer.content.decode().unwrap_or_default();
                        answered(delivery.respond_error(&reason));
                    }
                    Some(Ok(Ok(answer))) => answered(delivery.respond(answer.content)),
                    Some(Ok(Err(error))) => answered(delivery.respond_error(&error.to_string())),
                    // This process is on its way out: the echo stays with its sender.
                    Some(Err(_)) => drop(delivery),
                }
            }
        }
    }
}

/// Passes an echo on to the next module of its path; nothing when there is none.
fn relay(delivery: &Delivery, peers: &Peers) -> anyhow::Result<Option<Relayed>> {
    let Resource::Text(path) = &delivery.message.route.resource else { return Ok(None) };
    let (next, rest) = path.split_once('/').unwrap_or((path, ""));
    let next: Module = next.parse()?;
    let (here, from) = (peers.module().name(), delivery.from.name());
    let mut hops = std::iter::once(here).chain(path.split('/'));
    let mut before = hops.next();
    for hop in hops {
        // Echoes of one sender are answered in order: the second would wait for the first.
        anyhow::ensure!(
            (before, hop) != (Some(from), here),
            "the path '{path}' comes from {from} to {here} twice, expected once"
        );
        before = Some(hop);
    }
    let resource = Resource::parse(&Group::Diagnostic, rest);
    let content = delivery.message.content.clone();
    let echo = peers.message(Group::Diagnostic, Operation::Echo, resource, content);
    Ok(Some(peers.relay(next, echo)?))
}

fn finish(delivery: Delivery) {
    let content = delivery.message.content.clone();
    answered(delivery.respond(content));
}

fn answered(result: Result<(), crate::SendError>) {
    if let Err(error) = result {
        debug!("cannot answer a diagnostic: {error}");
    }
}
