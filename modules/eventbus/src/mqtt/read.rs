//! Bytes in, packets out. Everything is bounded before it is looked at, and rubbish is an error.

use bytes::{Buf, Bytes, BytesMut};

use super::properties::{Place, Properties, id};
use super::{Connack, Connect, MAX_PACKET, Options, Packet, Publish, Qos, Reason, Version, Will};

/// The largest first packet, in bytes: a name, a will, a user and a password.
const MAX_FIRST: usize = 5 * 65_536;

/// Filters in one packet, at most.
const MAX_FILTERS: usize = 1024;

/// A packet that is none; the text says what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an MQTT packet: {0}")]
pub struct Malformed(pub &'static str);

/// Takes the first packet out of `from`, once it is there whole. `version` is that of the
/// connection; without one the first packet has to be a client's first.
///
/// # Errors
/// [`Malformed`], also for a packet of more than [`MAX_PACKET`] bytes, as soon as its length is
/// known.
pub fn read(from: &mut BytesMut, version: Option<Version>) -> Result<Option<Packet>, Malformed> {
    if let Some(first) = from.first() {
        check_first(*first, version)?;
    }
    let Some((head, length)) = frame(from)? else { return Ok(None) };
    if length > MAX_PACKET || version.is_none() && length > MAX_FIRST {
        return Err(Malformed("it is too large"));
    }
    if from.len() < head + length {
        // Room for all of it, but not for what is only announced.
        from.reserve((head + length - from.len()).min(64 * 1024));
        return Ok(None);
    }
    let first = from[0];
    from.advance(head);
    let mut body = from.split_to(length).freeze();
    let packet = packet(first, &mut body, version)?;
    if body.has_remaining() {
        return Err(Malformed("bytes are left over"));
    }
    Ok(Some(packet))
}

/// Reads the length of the packet, once that is there: of its head, and of its body.
fn frame(from: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (place, byte) in from.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((place + 2, length)));
        }
    }
    if from.len() > 4 { Err(Malformed("its length has no end")) } else { Ok(None) }
}

/// Checks the first byte, so that another protocol is found out before its length is waited for.
const fn check_first(first: u8, version: Option<Version>) -> Result<(), Malformed> {
    let (kind, flags) = (first >> 4, first & 0x0f);
    if version.is_none() && kind != 1 {
        return Err(Malformed("the first packet is not CONNECT"));
    }
    let expected = match kind {
        3 => flags,
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if flags == expected { Ok(()) } else { Err(Malformed("reserved flags are set")) }
}

fn packet(first: u8, from: &mut Bytes, version: Option<Version>) -> Result<Packet, Malformed> {
    let (kind, flags) = (first >> 4, first & 0x0f);
    let is_v5 = version == Some(Version::V5);
    Ok(match kind {
        1 => Packet::Connect(Box::new(connect(from)?)),
        2 => Packet::Connack(Box::new(connack(from, is_v5)?)),
        3 => Packet::Publish(publish(flags, from, is_v5)?),
        4 => ack(from, is_v5).map(|(id, reason)| Packet::Puback { id, reason })?,
        5 => ack(from, is_v5).map(|(id, reason)| Packet::Pubrec { id, reason })?,
        6 => ack(from, is_v5).map(|(id, reason)| Packet::Pubrel { id, reason })?,
        7 => ack(from, is_v5).map(|(id, reason)| Packet::Pubcomp { id, reason })?,
        8 => subscribe(from, is_v5)?,
        9 => {
            let (id, reasons) = reasons(from, is_v5)?;
            Packet::Suback { id, reasons }
        }
        10 => unsubscribe(from, is_v5)?,
        11 => {
            let (id, reasons) = reasons(from, is_v5)?;
            Packet::Unsuback { id, reasons }
        }
        12 => Packet::Pingreq,
        13 => Packet::Pingresp,
        14 => disconnect(from, is_v5)?,
        15 if is_v5 => auth(from)?,
        _ => return Err(Malformed("an unknown kind")),
    })
}

/// Takes `N` bytes.
pub(super) fn number<const N: usize>(from: &mut Bytes) -> Result<[u8; N], Malformed> {
    let mut bytes = [0; N];
    from.try_copy_to_slice(&mut bytes).map_err(|_| Malformed("it is cut off"))?;
    Ok(bytes)
}

fn two(from: &mut Bytes) -> Result<u16, Malformed> {
    Ok(u16::from_be_bytes(number(from)?))
}

/// Takes the identity of a packet, which is never 0.
fn identity(from: &mut Bytes) -> Result<u16, Malformed> {
    match two(from)? {
        0 => Err(Malformed("its identity is 0")),
        id => Ok(id),
    }
}

/// Takes a number of one to four bytes.
pub(super) fn variable(from: &mut Bytes) -> Result<usize, Malformed> {
    let mut value = 0;
    for place in 0..4 {
        let [byte] = number::<1>(from)?;
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("a number has no end"))
}

/// Takes bytes with their length in front.
pub(super) fn binary(from: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = usize::from(two(from)?);
    if from.len() < length {
        return Err(Malformed("it is cut off"));
    }
    Ok(from.split_to(length))
}

/// Takes a text with its length in front.
pub(super) fn text(from: &mut Bytes) -> Result<Box<str>, Malformed> {
    let bytes = binary(from)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Malformed("a text is not UTF-8"))?;
    if text.contains('\0') {
        return Err(Malformed("a text has a zero in it"));
    }
    Ok(text.into())
}

fn properties(from: &mut Bytes, is_v5: bool, place: Place) -> Result<Properties, Malformed> {
    if is_v5 { Properties::read(from, place) } else { Ok(Properties::default()) }
}

fn connect(from: &mut Bytes) -> Result<Connect, Malformed> {
    if &*text(from)? != "MQTT" {
        return Err(Malformed("the protocol is not called MQTT"));
    }
    let version = match number::<1>(from)?[0] {
        4 => Version::V4,
        5 => Version::V5,
        _ => return Err(Malformed("its version is neither 3.1.1 nor 5")),
    };
    let is_v5 = version == Version::V5;
    let [flags] = number::<1>(from)?;
    if flags & 1 != 0 || flags & 0b100 == 0 && flags & 0b11_1000 != 0 {
        return Err(Malformed("reserved flags are set"));
    }
    let keep_alive = two(from)?;
    let properties = properties(from, is_v5, Place::CONNECT)?;
    let client = text(from)?;
    let will = if flags & 0b100 != 0 { Some(will(flags, from, is_v5)?) } else { None };
    let user = if flags & 0x80 != 0 { Some(text(from)?) } else { None };
    let password = if flags & 0x40 != 0 { Some(binary(from)?) } else { None };
    if !is_v5 && password.is_some() && user.is_none() {
        return Err(Malformed("a password without a user"));
    }
    let clean = flags & 0b10 != 0;
    let session_expiry = match version {
        Version::V5 => properties.number(id::SESSION_EXPIRY).unwrap_or(0),
        Version::V4 if clean => 0,
        Version::V4 => u32::MAX,
    };
    let receive_maximum = properties.number(id::RECEIVE_MAXIMUM).unwrap_or(u32::from(u16::MAX));
    let maximum_packet = properties.number(id::MAXIMUM_PACKET).unwrap_or(u32::MAX);
    if receive_maximum == 0 || maximum_packet == 0 {
        return Err(Malformed("a bound of 0"));
    }
    Ok(Connect {
        version,
        clean,
        keep_alive,
        client,
        will,
        user,
        password,
        session_expiry,
        receive_maximum: u16::try_from(receive_maximum).unwrap_or(u16::MAX),
        maximum_packet,
        authentication: properties.authentication,
    })
}

fn will(flags: u8, from: &mut Bytes, is_v5: bool) -> Result<Will, Malformed> {
    let qos = Qos::parse(flags >> 3 & 3).ok_or(Malformed("a QoS of 3"))?;
    let properties = properties(from, is_v5, Place::WILL)?;
    let message = Publish {
        dup: false,
        qos,
        retain: flags & 0x20 != 0,
        topic: text(from)?,
        id: 0,
        payload: binary(from)?,
        expiry: properties.number(id::MESSAGE_EXPIRY),
        properties: properties.passed_on.clone(),
    };
    Ok(Will { message, delay: properties.number(id::WILL_DELAY).unwrap_or(0) })
}

fn connack(from: &mut Bytes, is_v5: bool) -> Result<Connack, Malformed> {
    let [flags, code] = number(from)?;
    if flags > 1 {
        return Err(Malformed("reserved flags are set"));
    }
    let reason = match (is_v5, code) {
        (true, code) => Reason(code),
        (false, 0) => Reason::SUCCESS,
        (false, 1) => Reason::VERSION,
        (false, 2) => Reason::CLIENT,
        (false, 3) => Reason::BUSY,
        (false, 4) => Reason::PASSWORD,
        (false, 5) => Reason::NOT_AUTHORIZED,
        (false, _) => return Err(Malformed("an unknown return code")),
    };
    let properties = properties(from, is_v5, Place::CONNACK)?;
    let receive_maximum = properties.number(id::RECEIVE_MAXIMUM);
    Ok(Connack {
        session_present: flags == 1,
        reason,
        session_expiry: properties.number(id::SESSION_EXPIRY),
        maximum_packet: properties.number(id::MAXIMUM_PACKET),
        receive_maximum: receive_maximum.and_then(|maximum| u16::try_from(maximum).ok()),
        assigned: properties.assigned,
    })
}

fn publish(flags: u8, from: &mut Bytes, is_v5: bool) -> Result<Publish, Malformed> {
    let qos = Qos::parse(flags >> 1 & 3).ok_or(Malformed("a QoS of 3"))?;
    let dup = flags & 8 != 0;
    let topic = text(from)?;
    let id = if qos == Qos::AtMostOnce { 0 } else { identity(from)? };
    if dup && id == 0 {
        return Err(Malformed("QoS 0, and sent again"));
    }
    let properties = properties(from, is_v5, Place::PUBLISH)?;
    if properties.number(id::TOPIC_ALIAS).is_some() {
        return Err(Malformed("a topic alias, which was not agreed on"));
    }
    let payload = from.split_to(from.len());
    let expiry = properties.number(id::MESSAGE_EXPIRY);
    let properties = properties.passed_on;
    Ok(Publish { dup, qos, retain: flags & 1 != 0, topic, id, payload, expiry, properties })
}

fn ack(from: &mut Bytes, is_v5: bool) -> Result<(u16, Reason), Malformed> {
    let id = identity(from)?;
    if !is_v5 || !from.has_remaining() {
        return Ok((id, Reason::SUCCESS));
    }
    let [reason] = number::<1>(from)?;
    if from.has_remaining() {
        Properties::read(from, Place::ACK)?;
    }
    Ok((id, Reason(reason)))
}

fn subscribe(from: &mut Bytes, is_v5: bool) -> Result<Packet, Malformed> {
    let id = identity(from)?;
    let properties = properties(from, is_v5, Place::SUBSCRIBE)?;
    let mut filters = Vec::new();
    while from.has_remaining() {
        let filter = text(from)?;
        let [options] = number::<1>(from)?;
        let reserved = if is_v5 { 0xc0 } else { 0xfc };
        let qos = Qos::parse(options & 3).ok_or(Malformed("a QoS of 3"))?;
        let retain_handling = options >> 4 & 3;
        if options & reserved != 0 || retain_handling == 3 {
            return Err(Malformed("reserved options are set"));
        }
        let (no_local, retain_as_published) = (options & 4 != 0, options & 8 != 0);
        filters.push((filter, Options { qos, no_local, retain_as_published, retain_handling }));
    }
    bounded(filters.len())?;
    let identified = properties.number(id::SUBSCRIPTION_IDENTIFIER).is_some();
    Ok(Packet::Subscribe { id, identified, filters })
}

fn unsubscribe(from: &mut Bytes, is_v5: bool) -> Result<Packet, Malformed> {
    let id = identity(from)?;
    properties(from, is_v5, Place::UNSUBSCRIBE)?;
    let mut filters = Vec::new();
    while from.has_remaining() {
        filters.push(text(from)?);
    }
    bounded(filters.len())?;
    Ok(Packet::Unsubscribe { id, filters })
}

const fn bounded(filters: usize) -> Result<(), Malformed> {
    match filters {
        0 => Err(Malformed("no filter at all")),
        1..=MAX_FILTERS => Ok(()),
        _ => Err(Malformed("more than 1024 filters")),
    }
}

/// Takes an answer that has one reason for each filter. In 3.1.1 the answer to UNSUBSCRIBE has
/// none.
fn reasons(from: &mut Bytes, is_v5: bool) -> Result<(u16, Vec<Reason>), Malformed> {
    let id = identity(from)?;
    properties(from, is_v5, Place::SUBACK)?;
    Ok((id, from.split_to(from.len()).iter().copied().map(Reason).collect()))
}

fn disconnect(from: &mut Bytes, is_v5: bool) -> Result<Packet, Malformed> {
    let mut reason = Reason::SUCCESS;
    let mut session_expiry = None;
    if is_v5 && from.has_remaining() {
        reason = Reason(number::<1>(from)?[0]);
        if from.has_remaining() {
            session_expiry = Properties::read(from, Place::DISCONNECT)?.number(id::SESSION_EXPIRY);
        }
    }
    Ok(Packet::Disconnect { reason, session_expiry })
}

fn auth(from: &mut Bytes) -> Result<Packet, Malformed> {
    if from.has_remaining() {
        number::<1>(from)?;
        if from.has_remaining() {
            Properties::read(from, Place::AUTH)?;
        }
    }
    Ok(Packet::Auth)
}
