//! What is said through the tunnel. No IO.
//!
//! A stream begins with a request and its answer, in the words of EdgeMesh's tunnel
//! (`/libp2p/tunnel-proxy/1.0.0`): a length as varint and a protobuf message. Field 6 is our own.
//! After that it is the connection, byte for byte; datagrams have their length, two bytes, before them.
//!
//! A packet between two nodes has before it the number of the node that it goes to, and behind the
//! relay of that from which it comes. An empty one tells that the node is not connected.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;

use crate::node::{LENGTH, NodeId};

/// The greatest message, in bytes: EdgeMesh's bound.
pub const MAX_MESSAGE: usize = 4096;

/// The greatest reason that is said, in characters.
const MAX_REASON: usize = 512;

/// `type` of a request, and of the answers.
const CONNECT: i32 = 0;
const SUCCESS: i32 = 1;
const FAILED: i32 = 2;

/// `protocol`: EdgeMesh's `udp` has no lengths, so datagrams here have another name.
const TCP: &str = "tcp";
const DATAGRAMS: &str = "datagrams";

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Proxy {
    #[prost(int32, optional, tag = "1")]
    r#type: Option<i32>,
    #[prost(string, optional, tag = "2")]
    protocol: Option<String>,
    #[prost(string, optional, tag = "3")]
    node_name: Option<String>,
    #[prost(string, optional, tag = "4")]
    ip: Option<String>,
    #[prost(int32, optional, tag = "5")]
    port: Option<i32>,
    #[prost(string, optional, tag = "6")]
    reason: Option<String>,
}

/// How what goes through a stream is carried on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carriage {
    Tcp,
    Datagrams,
}

/// What is asked of a node: to connect to one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) carriage: Carriage,
    pub(crate) node: String,
    pub(crate) endpoint: SocketAddr,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Connected,
    Failed(String),
}

/// What is no message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a message of over {MAX_MESSAGE} bytes")]
    Length,
    #[error("no message of the tunnel's: {0}")]
    Bytes(#[from] prost::DecodeError),
    #[error("a message of type {0:?}, expected {1}")]
    Type(Option<i32>, &'static str),
    #[error("the protocol is {0:?}, expected tcp or datagrams")]
    Protocol(String),
    #[error("the endpoint is {0:?} port {1:?}, expected an address and a port")]
    Endpoint(String, Option<i32>),
}

impl Request {
    pub(crate) fn write(&self) -> Vec<u8> {
        let protocol = match self.carriage {
            Carriage::Tcp => TCP,
            Carriage::Datagrams => DATAGRAMS,
        };
        let proxy = Proxy {
            r#type: Some(CONNECT),
            protocol: Some(protocol.to_owned()),
            node_name: Some(self.node.clone()),
            ip: Some(self.endpoint.ip().to_string()),
            port: Some(self.endpoint.port().into()),
            reason: None,
        };
        proxy.encode_length_delimited_to_vec()
    }

    /// Reads what follows the length.
    pub(crate) fn read(message: &[u8]) -> Result<Self, Malformed> {
        let Proxy { r#type, protocol, node_name, ip, port, .. } = Proxy::decode(message)?;
        if r#type != Some(CONNECT) {
            return Err(Malformed::Type(r#type, "0 for connect"));
        }
        let carriage = match protocol.as_deref() {
            Some(TCP) => Carriage::Tcp,
            Some(DATAGRAMS) => Carriage::Datagrams,
            other => return Err(Malformed::Protocol(other.unwrap_or_default().to_owned())),
        };
        let ip = ip.unwrap_or_default();
        let address: Option<IpAddr> = ip.parse().ok();
        let number = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let (Some(address), Some(number)) = (address, number) else {
            return Err(Malformed::Endpoint(ip, port));
        };
        let endpoint = SocketAddr::new(address, number);
        Ok(Self { carriage, node: node_name.unwrap_or_default(), endpoint })
    }
}

impl Answer {
    pub(crate) fn write(&self) -> Vec<u8> {
        let (kind, reason) = match self {
            Self::Connected => (SUCCESS, None),
            Self::Failed(reason) => (FAILED, Some(bounded(reason))),
        };
        Proxy { r#type: Some(kind), reason, ..Proxy::default() }.encode_length_delimited_to_vec()
    }

    /// Reads what follows the length.
    pub(crate) fn read(message: &[u8]) -> Result<Self, Malformed> {
        let Proxy { r#type, reason, .. } = Proxy::decode(message)?;
        match r#type {
            Some(SUCCESS) => Ok(Self::Connected),
            Some(FAILED) => {
                let reason = reason.unwrap_or_else(|| "it does not say why".to_owned());
                Ok(Self::Failed(bounded(&reason)))
            }
            other => Err(Malformed::Type(other, "1 or 2 for an answer")),
        }
    }
}

fn bounded(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

/// The length before a message, read byte by byte.
#[derive(Debug, Default)]
pub(crate) struct Length {
    value: usize,
    bytes: u32,
}

impl Length {
    /// Takes a byte; returns the length when it is whole.
    pub(crate) fn take(&mut self, byte: u8) -> Result<Option<usize>, Malformed> {
        self.value |= usize::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        match (byte & 0x80 == 0, self.bytes) {
            (true, _) if self.value <= MAX_MESSAGE => Ok(Some(self.value)),
            (false, 1) => Ok(None),
            _ => Err(Malformed::Length),
        }
    }
}

/// Puts a node's number before a packet.
pub(crate) fn packet(node: NodeId, packet: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(LENGTH + packet.len());
    bytes.put_slice(&node.0);
    bytes.put_slice(packet);
    bytes.freeze()
}

/// Returns the node whose number stands before a packet; nothing when there is no packet.
pub(crate) fn receiver(datagram: &[u8]) -> Option<NodeId> {
    let (node, packet) = datagram.split_first_chunk::<LENGTH>()?;
    (!packet.is_empty()).then_some(NodeId(*node))
}

/// Takes the node's number off a packet; nothing when there is none.
pub(crate) fn unpack(mut datagram: Bytes) -> Option<(NodeId, Bytes)> {
    let (node, _) = datagram.split_first_chunk::<LENGTH>()?;
    let node = NodeId(*node);
    Some((node, datagram.split_off(LENGTH)))
}

/// Reads what a peer may send in either place, for those who try it with rubbish. Returns whether it
/// is a message, with its length before it.
///
/// # Panics
/// When what was read is not the same when written and read once more.
pub fn trial(data: &[u8]) -> bool {
    if let Some((node, packet)) = unpack(Bytes::copy_from_slice(data)) {
        assert_eq!(receiver(data), (!packet.is_empty()).then_some(node));
    }
    let mut length = Length::default();
    let mut whole = None;
    let mut rest = data;
    while let (None, [byte, behind @ ..]) = (whole, rest) {
        rest = behind;
        match length.take(*byte) {
            Ok(length) => whole = length,
            Err(_) => return false,
        }
    }
    let Some(message) = whole.and_then(|length| rest.get(..length)) else { return false };
    let body = |written: Vec<u8>| {
        let head = written.iter().position(|byte| byte & 0x80 == 0).map_or(0, |at| at + 1);
        written[head..].to_vec()
    };
    let request = Request::read(message);
    if let Ok(request) = &request {
        assert_eq!(Request::read(&body(request.write())).as_ref(), Ok(request));
    }
    let answer = Answer::read(message);
    if let Ok(answer) = &answer {
        assert_eq!(Answer::read(&body(answer.write())).as_ref(), Ok(answer));
    }
    request.is_ok() || answer.is_ok()
}

#[cfg(test)]
mod tests;
