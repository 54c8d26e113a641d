//! Faults on command: what a test can do to the cloud and to its links.

use std::collections::VecDeque;
use std::time::Duration;

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

/// The faults of one link, and what they do to the messages that pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    drops: Vec<(bool, u32, String)>,
    /// By how much messages to the node are late.
    pub(crate) delay: Duration,
    /// The pieces in which messages to the node come.
    pub(crate) pieces: Option<(usize, Duration)>,
    reorder: bool,
    held: Option<Message>,
}

impl Link {
    /// Takes up a fault that concerns messages; others are the socket's.
    pub(crate) fn set(&mut self, fault: &Fault) {
        match fault {
            Fault::Drop { count, up, resource } => {
                self.drops.push((*up, *count, resource.clone()));
            }
            Fault::Delay { millis } => self.delay = Duration::from_millis(*millis),
            Fault::Slow { piece, millis } => {
                self.pieces = Some(((*piece).max(1), Duration::from_millis(*millis)));
            }
            Fault::Reorder => self.reorder = true,
            Fault::Heal => {
                let held = self.held.take();
                *self = Self { held, ..Self::default() };
            }
            Fault::Garbage { .. }
            | Fault::HalfOpen
            | Fault::Close
            | Fault::Restart { .. }
            | Fault::ExpiredServerCertificate { .. }
            | Fault::ExpiredNodeCertificates { .. }
            | Fault::RefuseTokens { .. } => {}
        }
    }

    /// Tells whether a message is lost.
    pub(crate) fn loses(&mut self, up: bool, message: &Message) -> bool {
        let resource = message.route.resource.to_string();
        let hit = |(way, count, prefix): &mut (bool, u32, String)| {
            *way == up && *count > 0 && resource.starts_with(prefix.as_str())
        };
        let Some((_, count, _)) = self.drops.iter_mut().find_map(|drop| hit(drop).then_some(drop))
        else {
            return false;
        };
        *count -= 1;
        self.drops.retain(|(_, count, _)| *count > 0);
        true
    }

    /// Takes a message to the node and returns what is sent now.
    pub(crate) fn outgoing(&mut self, message: Message) -> VecDeque<Message> {
        let mut out = VecDeque::new();
        if self.loses(false, &message) {
            return out;
        }
        if std::mem::take(&mut self.reorder) {
            self.held = Some(message);
            return out;
        }
        out.push_back(message);
        out.extend(self.held.take());
        out
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

    fn ids(link: &mut Link, id: &str, resource: &str) -> Vec<String> {
        let out = link.outgoing(message(id, resource));
        out.iter().map(|message| message.header.id.to_string()).collect()
    }

    #[test]
    fn drops_are_counted_and_chosen() {
        let mut link = Link::default();
        let fault = r#"{"fault": "drop", "count": 1, "resource": "default/pod/"}"#;
        link.set(&serde_json::from_str(fault).unwrap());
        assert_eq!(ids(&mut link, "1", "default/configmap/c"), ["1"]);
        assert!(ids(&mut link, "2", "default/pod/p").is_empty());
        assert_eq!(ids(&mut link, "3", "default/pod/p"), ["3"]);
    }

    #[test]
    fn reordering_swaps_two() {
        let mut link = Link::default();
        link.set(&Fault::Reorder);
        assert!(ids(&mut link, "1", "default/pod/p").is_empty());
        assert_eq!(ids(&mut link, "2", "default/pod/p"), ["2", "1"]);
        assert_eq!(ids(&mut link, "3", "default/pod/p"), ["3"]);
    }
}
