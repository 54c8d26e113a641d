//! Faults on command: what a test can do to the cloud and to its links.

use ipc_proto::Message;
use serde::Deserialize;

/// A fault, as the control API reads it: `{"fault": "drop", "count": 3, ...}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Fault {
    /// The next messages are lost.
    Drop {
        /// How many.
        count: u32,
        /// Whether those from the node; else those to it.
        #[serde(default)]
        up: bool,
        /// Only messages whose resource begins so.
        #[serde(default)]
        resource: String,
    },
    /// Every message to the node is late.
    Delay {
        /// By how many milliseconds.
        millis: u64,
    },
    /// Messages to the node come in small pieces.
    Slow {
        /// How many bytes a piece has; at least 1.
        piece: usize,
        /// How many milliseconds lie between two pieces.
        millis: u64,
    },
    /// The next message to the node comes after the one that follows it.
    Reorder,
    /// The node gets something that is no message.
    Garbage {
        /// What.
        kind: Garbage,
    },
    /// The cloud neither reads nor writes any more, but keeps the connection.
    HalfOpen,
    /// The connection is closed, without a word.
    Close,
    /// All connections are closed, and for a while nobody listens. What is in memory stays; the
    /// informers start anew.
    Restart {
        /// For how many milliseconds.
        down_millis: u64,
    },
    /// The servers show a certificate that has expired.
    ExpiredServerCertificate {
        /// Whether they do.
        on: bool,
    },
    /// Nodes are given certificates that have expired.
    ExpiredNodeCertificates {
        /// Whether they are.
        on: bool,
    },
    /// No token is taken.
    RefuseTokens {
        /// Whether none is.
        on: bool,
    },
    /// All faults end. Connections that were half open are closed.
    Heal,
}

/// What is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Garbage {
    /// Text that is no JSON.
    Text,
    /// JSON that ends too early.
    Truncated,
    /// JSON that is no message.
    Json,
    /// A message of a kind that nobody knows.
    Unknown,
    /// Bytes that are no UTF-8, in a text frame.
    Bytes,
    /// Nothing: an empty frame.
    Empty,
}

impl Garbage {
    /// Returns the bytes to send.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Text => b"this is no message",
            Self::Truncated => br#"{"header":{"msg_id":"x"},"route":{"sou"#,
            Self::Json => br#"[1, {"header": 5}, null]"#,
            Self::Unknown => {
                br#"{"header":{"msg_id":"garbage"},"route":{"source":"nobody","group":"nowhere","operation":"frobnicate","resource":"a/b/c/d"},"content":{}}"#
            }
            Self::Bytes => b"\xff\xfe\xc0",
            Self::Empty => b"",
        }
    }
}

/// Messages that are to be lost.
#[derive(Clone, Debug)]
struct Drops {
    up: bool,
    left: u32,
    resource: String,
}

/// The faults that decide about single messages of one link: which are lost, which change places.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    drops: Vec<Drops>,
    reorder: bool,
    held: Option<Box<Message>>,
}

/// The most rules about lost messages that a link keeps.
const MAX_DROPS: usize = 64;

impl Losses {
    /// Takes up a fault; those that concern no single message are not its business.
    pub(crate) fn set(&mut self, fault: &Fault) {
        if let Fault::Drop { count, up, resource } = fault
            && self.drops.len() < MAX_DROPS
        {
            self.drops.push(Drops { up: *up, left: *count, resource: resource.clone() });
        }
        self.reorder |= *fault == Fault::Reorder;
        if *fault == Fault::Heal {
            self.drops.clear();
            self.reorder = false;
        }
    }

    /// Tells whether a message is lost.
    pub(crate) fn takes(&mut self, up: bool, message: &Message) -> bool {
        self.drops.retain(|drop| drop.left > 0);
        let resource = message.route.resource.to_string();
        let hit = |drop: &&mut Drops| drop.up == up && resource.starts_with(&drop.resource);
        let drop = self.drops.iter_mut().find(hit);
        drop.map(|drop| drop.left -= 1).is_some()
    }

    /// Takes a message to the node and returns what is sent now, in order.
    pub(crate) fn outgoing(&mut self, message: Box<Message>) -> [Option<Box<Message>>; 2] {
        if self.takes(false, &message) {
            return [None, None];
        }
        if std::mem::take(&mut self.reorder) {
            self.held = Some(message);
            return [None, None];
        }
        [Some(message), self.held.take()]
    }
}

#[cfg(test)]
mod tests {
    use ipc_proto::{Content, Group, MessageId, Operation, Resource, Route, Source};

    use super::*;

    fn message(id: &str, resource: &str) -> Message {
        let group = Group::Resource;
        let resource = Resource::parse(&group, resource);
        let (source, operation) = (Source::Edgecontroller, Operation::Update);
        let route = Route { source, group, operation, resource };
        Message::new(MessageId::parse(id), 0, route, Content::NULL)
    }

    fn ids(losses: &mut Losses, id: &str, resource: &str) -> Vec<String> {
        let out = losses.outgoing(Box::new(message(id, resource)));
        out.iter().flatten().map(|message| message.header.id.to_string()).collect()
    }

    #[test]
    fn drops_are_counted_and_chosen() {
        let mut losses = Losses::default();
        let fault = r#"{"fault": "drop", "count": 1, "resource": "default/pod/"}"#;
        losses.set(&serde_json::from_str(fault).unwrap());
        assert_eq!(ids(&mut losses, "1", "default/configmap/c"), ["1"]);
        assert!(ids(&mut losses, "2", "default/pod/p").is_empty());
        assert_eq!(ids(&mut losses, "3", "default/pod/p"), ["3"]);
    }

    #[test]
    fn reordering_swaps_two() {
        let mut losses = Losses::default();
        losses.set(&Fault::Reorder);
        assert!(ids(&mut losses, "1", "default/pod/p").is_empty());
        assert_eq!(ids(&mut losses, "2", "default/pod/p"), ["2", "1"]);
        assert_eq!(ids(&mut losses, "3", "default/pod/p"), ["3"]);
    }
}
