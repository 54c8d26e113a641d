//! MQTT 3.1.1 and 5 as values: packets, and what they are made of.
//!
//! Bytes in, packets out ([`read()`]), and back ([`write()`]). No IO, no clock, no state: what a packet
//! means is the broker's and the client's business.

pub mod properties;
mod read;
#[cfg(test)]
pub(crate) mod strategies;
#[cfg(test)]
mod tests;
mod write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use read::{Malformed, read};
pub use write::write;

/// The largest packet that is taken, in bytes: CloudCore's router takes bodies of 12 MiB.
pub const MAX_PACKET: usize = 12 * 1024 * 1024;

/// The version of the protocol on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    V5,
}

/// How surely a message is to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Qos {
    /// At most once.
    #[default]
    AtMostOnce,
    /// At least once.
    AtLeastOnce,
    /// Exactly once.
    ExactlyOnce,
}

impl Qos {
    /// Takes a level as it stands in a packet.
    #[must_use]
    pub const fn parse(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// The outcome of something, as MQTT 5 numbers it. What 3.1.1 cannot say is mapped on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason(pub u8);

impl Reason {
    /// It worked; also a normal end, and a subscription with QoS 0.
    pub const SUCCESS: Self = Self(0x00);
    /// The client goes and wants its will published.
    pub const WITH_WILL: Self = Self(0x04);
    /// Nothing was subscribed to by that filter.
    pub const NO_SUBSCRIPTION: Self = Self(0x11);
    /// It failed, and nothing else is known.
    pub const UNSPECIFIED: Self = Self(0x80);
    /// The packet cannot be read.
    pub const MALFORMED: Self = Self(0x81);
    /// The packet has no place here.
    pub const PROTOCOL: Self = Self(0x82);
    /// The version is neither 3.1.1 nor 5.
    pub const VERSION: Self = Self(0x84);
    /// The client's name cannot be taken.
    pub const CLIENT: Self = Self(0x85);
    /// User or password are wrong.
    pub const PASSWORD: Self = Self(0x86);
    /// The user may not do this.
    pub const NOT_AUTHORIZED: Self = Self(0x87);
    /// The broker has too many clients.
    pub const BUSY: Self = Self(0x89);
    /// The broker ends.
    pub const SHUTTING_DOWN: Self = Self(0x8b);
    /// Extended authentication is not offered.
    pub const AUTHENTICATION: Self = Self(0x8c);
    /// The client was silent for too long.
    pub const KEEP_ALIVE: Self = Self(0x8d);
    /// Another connection took the session over.
    pub const TAKEN_OVER: Self = Self(0x8e);
    /// The filter is none.
    pub const FILTER: Self = Self(0x8f);
    /// The topic is none.
    pub const TOPIC: Self = Self(0x90);
    /// No message with that identity is on its way.
    pub const UNKNOWN_ID: Self = Self(0x92);
    /// More messages than agreed are on their way.
    pub const RECEIVE_MAXIMUM: Self = Self(0x93);
    /// Topic aliases were not agreed on.
    pub const TOPIC_ALIAS: Self = Self(0x94);
    /// The packet is too large.
    pub const TOO_LARGE: Self = Self(0x95);
    /// A bound is reached.
    pub const QUOTA: Self = Self(0x97);
    /// Shared subscriptions are not offered.
    pub const SHARED: Self = Self(0x9e);
    /// Subscription identifiers are not offered.
    pub const IDENTIFIERS: Self = Self(0xa1);

    /// Tells whether it says that something failed.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self.0 >= 0x80
    }
}

/// A message, as it stands in a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Sent before, on this session.
    pub dup: bool,
    /// How surely it is to arrive.
    pub qos: Qos,
    /// To be kept for later subscribers; or kept, on its way to one.
    pub retain: bool,
    /// Its topic.
    pub topic: Box<str>,
    /// Its identity on this session, 0 with QoS 0.
    pub id: u16,
    /// Its body.
    pub payload: Bytes,
    /// In how many seconds it is worth nothing any more.
    pub expiry: Option<u32>,
    /// The properties that are passed on as they are, encoded.
    pub properties: Bytes,
}

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The protocol's version.
    pub version: Version,
    /// Whether its former session is to be forgotten.
    pub clean: bool,
    /// The longest silence in seconds; 0 for any.
    pub keep_alive: u16,
    /// Its name; empty for one to be chosen.
    pub client: Box<str>,
    /// What to publish when it is lost.
    pub will: Option<Will>,
    /// The user.
    pub user: Option<Box<str>>,
    /// The password.
    pub password: Option<Bytes>,
    /// How long its session is to be kept after the connection, in seconds; `u32::MAX` for ever.
    pub session_expiry: u32,
    /// How many messages it takes at a time.
    pub receive_maximum: u16,
    /// The largest packet that it takes.
    pub maximum_packet: u32,
    /// Whether it wants extended authentication.
    pub authentication: bool,
}

/// What to publish when a client is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// The message; its `id` and `dup` mean nothing.
    pub message: Publish,
    /// Seconds to wait for the client to come back.
    pub delay: u32,
}

/// The broker's answer to [`Connect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connack {
    /// Whether the former session goes on.
    pub session_present: bool,
    /// Whether the client is taken.
    pub reason: Reason,
    /// The name that was chosen for the client.
    pub assigned: Option<Box<str>>,
    /// How long the session is kept, where that is not what the client wanted.
    pub session_expiry: Option<u32>,
    /// The largest packet that the broker takes.
    pub maximum_packet: Option<u32>,
    /// How many messages with QoS 1 and 2 the broker takes at a time.
    pub receive_maximum: Option<u16>,
}

/// How a client wants what it subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// The highest QoS.
    pub qos: Qos,
    /// Not its own messages.
    pub no_local: bool,
    /// With the retain flag as it was published.
    pub retain_as_published: bool,
    /// Which retained messages it wants: 0 all, 1 those of a new subscription, 2 none.
    pub retain_handling: u8,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A client's first.
    Connect(Box<Connect>),
    /// The answer to it.
    Connack(Box<Connack>),
    /// A message.
    Publish(Publish),
    /// A message with QoS 1 has arrived.
    Puback {
        /// Which.
        id: u16,
        /// How it went.
        reason: Reason,
    },
    /// A message with QoS 2 has arrived.
    Pubrec {
        /// Which.
        id: u16,
        /// How it went.
        reason: Reason,
    },
    /// A message with QoS 2 will not be sent again.
    Pubrel {
        /// Which.
        id: u16,
        /// How it went.
        reason: Reason,
    },
    /// Its identity is free again.
    Pubcomp {
        /// Which.
        id: u16,
        /// How it went.
        reason: Reason,
    },
    /// A client wants messages.
    Subscribe {
        /// The packet's identity.
        id: u16,
        /// Whether a subscription identifier came along.
        identified: bool,
        /// Which messages.
        filters: Vec<(Box<str>, Options)>,
    },
    /// The answer to it, one for each filter.
    Suback {
        /// The packet's identity.
        id: u16,
        /// How it went.
        reasons: Vec<Reason>,
    },
    /// A client wants them no longer.
    Unsubscribe {
        /// The packet's identity.
        id: u16,
        /// Which.
        filters: Vec<Box<str>>,
    },
    /// The answer to it, one for each filter.
    Unsuback {
        /// The packet's identity.
        id: u16,
        /// How it went.
        reasons: Vec<Reason>,
    },
    /// A sign of life.
    Pingreq,
    /// The answer to it.
    Pingresp,
    /// The connection is about to end.
    Disconnect {
        /// Why.
        reason: Reason,
        /// How long the session is to be kept after all.
        session_expiry: Option<u32>,
    },
    /// Extended authentication, which is not offered.
    Auth,
}
