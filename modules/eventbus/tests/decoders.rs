//! The bodies of the fuzz targets on the ordinary toolchain: rubbish, and packets with a few bytes
//! changed.

#[path = "../../../fuzz/src/mqtt.rs"]
mod targets;

use proptest::prelude::*;

/// Packets of both versions that are taken.
const SEEDS: [&[u8]; 8] = [
    b"\0\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01z",
    b"\0\x10\x1b\0\x04MQTT\x05\x06\0\x0a\0\0\x01z\x05\x18\0\0\0\x01\0\x01w\0\x02by",
    b"\x01\x32\x07\0\x03a/b\0\x01body",
    b"\x02\x33\x0e\0\x01t\0\x07\x05\x02\0\0\0\x09hey",
    b"\x02\x82\x0a\0\x01\0\0\x04a/+/\x2a",
    b"\x01\xa2\x07\0\x02\0\x03a/#",
    b"\x02\x40\x04\0\x01\x10\0",
    b"\x02\xe0\x07\0\x05\x11\0\0\0\x05",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rubbish_does_no_harm(data in prop::collection::vec(any::<u8>(), 0..80)) {
        targets::packets(&data);
        targets::topics(&data);
    }

    #[test]
    fn changed_packets_do_no_harm(
        seed in prop::sample::select(&SEEDS[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        rest in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut data = seed.to_vec();
        for (at, byte) in changes {
            let at = at.index(data.len());
            data[at] = byte;
        }
        data.truncate(cut.index(data.len()) + 1);
        data.extend(rest);
        targets::packets(&data);
    }

    #[test]
    fn topics_and_filters_agree(text in "[a+#$/]{0,6}\0[a+#$/]{0,6}") {
        targets::topics(text.as_bytes());
    }
}
