//! What is asked of eventbus's decoders: MQTT's packets, and topics.
//!
//! libFuzzer runs these functions through `fuzz_targets/`, the ordinary tests through
//! `modules/eventbus/tests/decoders.rs`; both include this file.

use bytes::BytesMut;
use eventbus::mqtt::{self, Packet, Version};
use eventbus::topic;

/// Packets of one connection, as many as the bytes hold: what is taken comes back the same when it
/// is written and read once more. The first byte chooses the version.
pub(crate) fn packets(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let mut version = match choice % 3 {
        0 => None,
        1 => Some(Version::V4),
        _ => Some(Version::V5),
    };
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(packet)) = mqtt::read(&mut buffer, version) {
        if let (Packet::Connect(connect), None) = (&packet, version) {
            version = Some(connect.version);
        }
        let Some(version) = version else { return };
        let mut once = BytesMut::new();
        mqtt::write(&packet, version, &mut once);
        let mut copy = once.clone();
        let again = mqtt::read(&mut copy, Some(version)).expect("what is written can be read");
        let mut twice = BytesMut::new();
        mqtt::write(&again.expect("it is whole"), version, &mut twice);
        assert_eq!(once, twice, "written and read once more");
    }
}

/// A filter and a topic, with a zero between them.
pub(crate) fn topics(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((filter, name)) = text.split_once('\0') else { return };
    if topic::is_topic(name) {
        assert!(topic::is_filter(name), "a topic is a filter of itself");
        assert!(topic::matches(name, name), "a topic takes itself");
    }
    if topic::is_filter(filter) {
        assert!(topic::covers(filter, filter), "a filter covers itself");
    }
    if topic::covers(filter, name) && topic::is_topic(name) {
        assert!(topic::matches(filter, name), "what covers a topic takes it");
    }
    let _way = topic::way(name);
}
