//! Packets for property tests.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Connack, Connect, Options, Packet, Publish, Qos, Reason, Version, Will};

fn text() -> impl Strategy<Value = Box<str>> {
    "[a-z/é]{0,6}".prop_map(Into::into)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Into::into)
}

fn qos() -> impl Strategy<Value = Qos> {
    prop::sample::select(vec![Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
}

fn reason() -> impl Strategy<Value = Reason> {
    any::<u8>().prop_map(Reason)
}

/// Makes a message with these bounds of its topic.
pub(crate) fn publish(topic: &'static str) -> impl Strategy<Value = Publish> {
    let flags = (any::<bool>(), qos(), any::<bool>(), 1..u16::MAX);
    (flags, topic, bytes(), any::<Option<u32>>(), any::<bool>()).prop_map(
        |((dup, qos, retain, id), topic, payload, expiry, property)| Publish {
            dup: dup && qos > Qos::AtMostOnce,
            qos,
            retain,
            topic: topic.into(),
            id: if qos > Qos::AtMostOnce { id } else { 0 },
            payload,
            expiry,
            // A content type of one letter.
            properties: if property { Bytes::from_static(b"\x03\0\x01x") } else { Bytes::new() },
        },
    )
}

fn will() -> impl Strategy<Value = Will> {
    (publish("[a-z/]{1,6}"), any::<u32>()).prop_map(|(message, delay)| Will {
        message: Publish { dup: false, id: 0, ..message },
        delay,
    })
}

fn connect() -> impl Strategy<Value = Packet> {
    let names = (text(), prop::option::of(text()), prop::option::of(bytes()));
    let bounds = (any::<u16>(), any::<u32>(), 1..u16::MAX, 1..u32::MAX);
    (any::<bool>(), names, prop::option::of(will()), bounds, any::<bool>()).prop_map(
        |(clean, (client, user, password), will, bounds, authentication)| {
            let (keep_alive, session_expiry, receive_maximum, maximum_packet) = bounds;
            Packet::Connect(Box::new(Connect {
                version: Version::V5,
                clean,
                keep_alive,
                client,
                will,
                user,
                password,
                session_expiry,
                receive_maximum,
                maximum_packet,
                authentication,
            }))
        },
    )
}

fn connack() -> impl Strategy<Value = Packet> {
    let rest = (any::<Option<u32>>(), any::<Option<u32>>(), any::<Option<u16>>());
    (any::<bool>(), reason(), prop::option::of(text()), rest).prop_map(
        |(session_present, reason, assigned, rest)| {
            let (session_expiry, maximum_packet, receive_maximum) = rest;
            Packet::Connack(Box::new(Connack {
                session_present,
                reason,
                assigned,
                session_expiry,
                maximum_packet,
                receive_maximum,
            }))
        },
    )
}

fn options() -> impl Strategy<Value = Options> {
    (qos(), any::<bool>(), any::<bool>(), 0_u8..3).prop_map(
        |(qos, no_local, retain_as_published, retain_handling)| Options {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    )
}

/// Makes any packet of MQTT 5.
pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    let id = || 1..u16::MAX;
    let filters = prop::collection::vec((text(), options()), 1..4);
    let reasons = || prop::collection::vec(reason(), 0..4);
    prop_oneof![
        connect(),
        connack(),
        publish("[a-z/]{0,6}").prop_map(Packet::Publish),
        (id(), reason()).prop_map(|(id, reason)| Packet::Puback { id, reason }),
        (id(), reason()).prop_map(|(id, reason)| Packet::Pubrec { id, reason }),
        (id(), reason()).prop_map(|(id, reason)| Packet::Pubrel { id, reason }),
        (id(), reason()).prop_map(|(id, reason)| Packet::Pubcomp { id, reason }),
        (id(), filters).prop_map(|(id, filters)| Packet::Subscribe {
            id,
            identified: false,
            filters,
        }),
        (id(), reasons()).prop_map(|(id, reasons)| Packet::Suback { id, reasons }),
        (id(), prop::collection::vec(text(), 1..4))
            .prop_map(|(id, filters)| Packet::Unsubscribe { id, filters }),
        (id(), reasons()).prop_map(|(id, reasons)| Packet::Unsuback { id, reasons }),
        Just(Packet::Pingreq),
        Just(Packet::Pingresp),
        (reason(), any::<Option<u32>>())
            .prop_map(|(reason, session_expiry)| { Packet::Disconnect { reason, session_expiry } }),
        Just(Packet::Auth),
    ]
}
