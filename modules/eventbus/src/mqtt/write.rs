//! Packets in, bytes out.

use bytes::{BufMut, BytesMut};

use super::properties::{Writer, id};
use super::{Connack, Connect, Options, Packet, Publish, Reason, Version};

/// Appends a packet to `out`, as `version` spells it. What 3.1.1 has no words for is left out.
pub fn write(packet: &Packet, version: Version, out: &mut BytesMut) {
    let is_v5 = version == Version::V5;
    if let Packet::Publish(message) = packet {
        return publish(message, is_v5, out);
    }
    let mut body = BytesMut::new();
    let first = match packet {
        Packet::Connect(it) => connect(it, &mut body),
        Packet::Connack(it) => connack(it, is_v5, &mut body),
        Packet::Publish(_) => unreachable!("written above"),
        Packet::Puback { id, reason } => ack(0x40, *id, *reason, is_v5, &mut body),
        Packet::Pubrec { id, reason } => ack(0x50, *id, *reason, is_v5, &mut body),
        Packet::Pubrel { id, reason } => ack(0x62, *id, *reason, is_v5, &mut body),
        Packet::Pubcomp { id, reason } => ack(0x70, *id, *reason, is_v5, &mut body),
        Packet::Subscribe { id, filters, .. } => subscribe(*id, filters, is_v5, &mut body),
        Packet::Suback { id, reasons: all } => reasons(0x90, *id, all, is_v5, &mut body),
        Packet::Unsubscribe { id, filters } => {
            body.put_u16(*id);
            no_properties(is_v5, &mut body);
            filters.iter().for_each(|filter| text(&mut body, filter));
            0xa2
        }
        Packet::Unsuback { id, reasons: all } => reasons(0xb0, *id, all, is_v5, &mut body),
        Packet::Pingreq => 0xc0,
        Packet::Pingresp => 0xd0,
        Packet::Disconnect { reason, session_expiry } => {
            if is_v5 {
                body.put_u8(reason.0);
                Writer::default().four(id::SESSION_EXPIRY, *session_expiry).finish(&mut body);
            }
            0xe0
        }
        Packet::Auth => 0xf0,
    };
    out.reserve(body.len() + 5);
    out.put_u8(first);
    variable(out, body.len());
    out.put_slice(&body);
}

/// Appends a number in one to four bytes. What is larger cannot be written and never is: packets
/// are bounded below that.
pub(super) fn variable(out: &mut BytesMut, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0x7f);
        value >>= 7;
        if value == 0 {
            return out.put_u8(low);
        }
        out.put_u8(low | 0x80);
    }
}

/// Appends bytes with their length in front; what is longer than 65,535 is cut.
fn binary(out: &mut BytesMut, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(&bytes[..usize::from(length)]);
}

/// Appends a text with its length in front.
pub(super) fn text(out: &mut BytesMut, text: &str) {
    binary(out, text.as_bytes());
}

fn no_properties(is_v5: bool, out: &mut BytesMut) {
    if is_v5 {
        out.put_u8(0);
    }
}

/// Writes a message. Its body is copied once, straight into `out`.
fn publish(message: &Publish, is_v5: bool, out: &mut BytesMut) {
    let Publish { dup, qos, retain, topic, id, payload, expiry, properties } = message;
    let mut head = BytesMut::with_capacity(topic.len() + 16);
    text(&mut head, topic);
    if *id != 0 {
        head.put_u16(*id);
    }
    if is_v5 {
        Writer::default().four(id::MESSAGE_EXPIRY, *expiry).raw(properties).finish(&mut head);
    }
    out.reserve(head.len() + payload.len() + 5);
    out.put_u8(0x30 | u8::from(*dup) << 3 | (*qos as u8) << 1 | u8::from(*retain));
    variable(out, head.len() + payload.len());
    out.put_slice(&head);
    out.put_slice(payload);
}

fn connect(connect: &Connect, out: &mut BytesMut) -> u8 {
    let is_v5 = connect.version == Version::V5;
    text(out, "MQTT");
    out.put_u8(if is_v5 { 5 } else { 4 });
    let will = connect
        .will
        .as_ref()
        .map_or(0, |will| 4 | (will.message.qos as u8) << 3 | u8::from(will.message.retain) << 5);
    let secrets = u8::from(connect.user.is_some()) << 7 | u8::from(connect.password.is_some()) << 6;
    out.put_u8(u8::from(connect.clean) << 1 | will | secrets);
    out.put_u16(connect.keep_alive);
    if is_v5 {
        let maximum = Some(connect.maximum_packet).filter(|maximum| *maximum != u32::MAX);
        let mut writer = Writer::default();
        writer
            .four(id::SESSION_EXPIRY, Some(connect.session_expiry))
            .two(id::RECEIVE_MAXIMUM, Some(connect.receive_maximum))
            .four(id::MAXIMUM_PACKET, maximum);
        if connect.authentication {
            writer.text(id::AUTHENTICATION_METHOD, Some(""));
        }
        writer.finish(out);
    }
    text(out, &connect.client);
    if let Some(will) = &connect.will {
        if is_v5 {
            Writer::default()
                .four(id::WILL_DELAY, Some(will.delay))
                .four(id::MESSAGE_EXPIRY, will.message.expiry)
                .raw(&will.message.properties)
                .finish(out);
        }
        text(out, &will.message.topic);
        binary(out, &will.message.payload);
    }
    if let Some(user) = &connect.user {
        text(out, user);
    }
    if let Some(password) = &connect.password {
        binary(out, password);
    }
    0x10
}

fn connack(connack: &Connack, is_v5: bool, out: &mut BytesMut) -> u8 {
    out.put_u8(u8::from(connack.session_present));
    let old = match connack.reason {
        Reason::SUCCESS => 0,
        Reason::VERSION => 1,
        Reason::CLIENT => 2,
        Reason::PASSWORD => 4,
        Reason::NOT_AUTHORIZED => 5,
        _ => 3,
    };
    out.put_u8(if is_v5 { connack.reason.0 } else { old });
    if is_v5 {
        let mut writer = Writer::default();
        writer
            .four(id::SESSION_EXPIRY, connack.session_expiry)
            .text(id::ASSIGNED_CLIENT, connack.assigned.as_deref())
            .four(id::MAXIMUM_PACKET, connack.maximum_packet)
            .two(id::RECEIVE_MAXIMUM, connack.receive_maximum);
        if !connack.reason.is_failure() {
            writer.byte(id::IDENTIFIERS_AVAILABLE, 0).byte(id::SHARED_AVAILABLE, 0);
        }
        writer.finish(out);
    }
    0x20
}

fn ack(first: u8, id: u16, reason: Reason, is_v5: bool, out: &mut BytesMut) -> u8 {
    out.put_u16(id);
    if is_v5 && reason != Reason::SUCCESS {
        out.put_u8(reason.0);
    }
    first
}

fn subscribe(id: u16, filters: &[(Box<str>, Options)], is_v5: bool, out: &mut BytesMut) -> u8 {
    out.put_u16(id);
    no_properties(is_v5, out);
    for (filter, options) in filters {
        text(out, filter);
        let more = u8::from(options.no_local) << 2
            | u8::from(options.retain_as_published) << 3
            | options.retain_handling << 4;
        out.put_u8(options.qos as u8 | if is_v5 { more } else { 0 });
    }
    0x82
}

fn reasons(first: u8, id: u16, reasons: &[Reason], is_v5: bool, out: &mut BytesMut) -> u8 {
    out.put_u16(id);
    no_properties(is_v5, out);
    for reason in reasons {
        match (is_v5, first) {
            (true, _) => out.put_u8(reason.0),
            (false, 0x90) => out.put_u8(if reason.is_failure() { 0x80 } else { reason.0 }),
            // In 3.1.1 the answer to UNSUBSCRIBE says nothing.
            (false, _) => {}
        }
    }
    first
}
