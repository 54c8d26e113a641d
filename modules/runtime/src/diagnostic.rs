//! `ping` and `echo`, which every module answers from its own main loop: an answer shows that the
//! loop turns.
//!
//! A ping is answered with no content. An echo comes back with its content, by way of the modules
//! that its resource names: `a/b/c` is passed on to `a` as an echo of `b/c`. It is settled once
//! its answer is settled, so no kill on the way loses it. Echoes that take the same way are
//! answered in the order in which they came, since nothing on it changes their order.

use anyhow::Context as _;
use ipc_proto::{Content, Group, Module, Operation, Resource};
use tracing::debug;

use crate::peers::{Delivery, Peers};

/// Takes a message that is a diagnostic; gives any other back.
pub(crate) fn take(delivery: Delivery, peers: &Peers) -> Option<Delivery> {
    let route = &delivery.message.route;
    if route.group != Group::Diagnostic {
        return Some(delivery);
    }
    let answered = if route.operation == Operation::Ping {
        delivery.respond(Content::NULL)
    } else if route.operation == Operation::Echo {
        match next_hop(&route.resource) {
            Ok(None) => {
                let content = delivery.message.content.clone();
                delivery.respond(content)
            }
            Ok(Some((next, rest))) => {
                let content = delivery.message.content.clone();
                let echo = peers.message(Group::Diagnostic, Operation::Echo, rest, content);
                peers.relay(next, echo, delivery)
            }
            Err(error) => delivery.respond_error(&format!("{error:#}")),
        }
    } else {
        delivery.unsupported();
        Ok(())
    };
    if let Err(error) = answered {
        debug!("cannot answer a diagnostic: {error}");
    }
    None
}

/// Takes the first module off an echo's path.
fn next_hop(path: &Resource) -> anyhow::Result<Option<(Module, Resource)>> {
    let Resource::Text(path) = path else { return Ok(None) };
    let (next, rest) = path.split_once('/').unwrap_or((path, ""));
    let next = next.parse().with_context(|| format!("no way along '{path}'"))?;
    Ok(Some((next, Resource::parse(&Group::Diagnostic, rest))))
}
