//! Tests of the codec.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

fn written(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    write(packet, version, &mut out);
    out
}

fn read_all(bytes: &[u8], version: Option<Version>) -> Result<Option<Packet>, Malformed> {
    read(&mut BytesMut::from(bytes), version)
}

/// What is left of a packet in MQTT 3.1.1.
fn older(packet: Packet) -> Packet {
    if let Packet::Publish(message) = packet {
        Packet::Publish(Publish { expiry: None, properties: Bytes::new(), ..message })
    } else if let Packet::Puback { id, .. } = packet {
        Packet::Puback { id, reason: Reason::SUCCESS }
    } else {
        packet
    }
}

proptest! {
    #[test]
    fn every_packet_comes_back(packet in strategies::packet()) {
        let version = (!matches!(packet, Packet::Connect(_))).then_some(Version::V5);
        let mut bytes = written(&packet, Version::V5);
        bytes.extend_from_slice(b"next");
        let back = read(&mut bytes, version).unwrap();
        prop_assert_eq!(back, Some(packet));
        prop_assert_eq!(&bytes[..], b"next");
    }

    #[test]
    fn the_older_version_says_what_it_can(packet in prop_oneof![
        strategies::publish("[a-z]{1,4}").prop_map(Packet::Publish),
        (1..u16::MAX).prop_map(|id| Packet::Puback { id, reason: Reason::QUOTA }),
        (1..u16::MAX).prop_map(|id| Packet::Pubrel { id, reason: Reason::SUCCESS }),
    ]) {
        let bytes = written(&packet, Version::V4);
        prop_assert_eq!(read_all(&bytes, Some(Version::V4)).unwrap(), Some(older(packet)));
    }

    #[test]
    fn a_packet_that_is_not_whole_is_waited_for(
        packet in strategies::packet(), cut in any::<prop::sample::Index>(),
    ) {
        let version = (!matches!(packet, Packet::Connect(_))).then_some(Version::V5);
        let bytes = written(&packet, Version::V5);
        let cut = cut.index(bytes.len());
        prop_assert_eq!(read_all(&bytes[..cut], version).unwrap(), None);
    }

    #[test]
    fn rubbish_is_an_error_or_a_packet_and_never_a_crash(
        bytes in prop::collection::vec(any::<u8>(), 0..200), v5 in any::<bool>(),
    ) {
        let version = if v5 { Version::V5 } else { Version::V4 };
        for version in [None, Some(version)] {
            let _either = read_all(&bytes, version);
        }
    }

    #[test]
    fn a_packet_with_one_byte_changed_is_taken_without_harm(
        packet in strategies::packet(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = written(&packet, Version::V5);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for version in [None, Some(Version::V4), Some(Version::V5)] {
            let _either = read_all(&bytes, version);
        }
    }
}

#[test]
fn what_mosquitto_sends_is_understood() {
    // CONNECT of mosquitto_pub 2.0, version 3.1.1, a random name.
    let connect = b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0";
    let Some(Packet::Connect(connect)) = read_all(connect, None).unwrap() else { panic!() };
    assert_eq!((connect.version, connect.clean, connect.keep_alive), (Version::V4, true, 60));
    assert_eq!(connect.session_expiry, 0);
}

#[test]
fn what_breaks_the_rules_is_told_apart() {
    let cases: [(&[u8], &str); 12] = [
        (b"\x30\0", "the first packet is not CONNECT"),
        (b"\x10\xff\xff\xff\x7f", "it is too large"),
        (b"\x10\xff\xff\xff\xff\x7f", "its length has no end"),
        (b"\x10\x0c\0\x04MQTX\x04\x02\0\x3c\0\0", "the protocol is not called MQTT"),
        (b"\x10\x0c\0\x04MQTT\x03\x02\0\x3c\0\0", "its version is neither 3.1.1 nor 5"),
        (b"\x10\x0c\0\x04MQTT\x04\x03\0\x3c\0\0", "reserved flags are set"),
        (b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\x05", "it is cut off"),
        (b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\0x", "bytes are left over"),
        (b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01\xff", "a text is not UTF-8"),
        (b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01\0", "a text has a zero in it"),
        (b"\x10\x0e\0\x04MQTT\x04\x42\0\x3c\0\0\0\0", "a password without a user"),
        (b"\x10\x0c\0\x04MQTT\x04\x0a\0\x3c\0\0", "reserved flags are set"),
    ];
    for (bytes, why) in cases {
        assert_eq!(read_all(bytes, None), Err(Malformed(why)), "{bytes:?}");
    }
    let cases: [(&[u8], &str); 7] = [
        (b"\x36\x05\0\x01a\0\x01", "a QoS of 3"),
        (b"\x32\x05\0\x01a\0\0", "its identity is 0"),
        (b"\x38\x03\0\x01a", "QoS 0, and sent again"),
        (b"\x82\x02\0\x01", "it is cut off"),
        (b"\x82\x03\0\x01\0", "no filter at all"),
        (b"\x80\x07\0\x01\0\0\x01a\0", "reserved flags are set"),
        (b"\x30\x07\0\x01a\x03\x23\0\x01", "a topic alias, which was not agreed on"),
    ];
    for (bytes, why) in cases {
        assert_eq!(read_all(bytes, Some(Version::V5)), Err(Malformed(why)), "{bytes:?}");
    }
}
