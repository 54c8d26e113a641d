//! The body of the fuzz target on the ordinary toolchain: rubbish, and frames with a few bytes
//! changed.

#[path = "../../../fuzz/src/tunnel.rs"]
mod targets;

use proptest::prelude::*;

/// Frames that are taken, behind the byte that says how they are cut.
const SEEDS: [&[u8]; 7] = [
    b"\x03\x81\x04\x03\x03\x80\x03",
    b"\x01\x81\x02\x02\x04\x81\x02\x02\x04",
    b"\x02\x81\x27\x00\x05failed to Update KubeletEndpoint Port",
    b"\x05\x01\x02\x01\x00\x80\x17{\"MessID\":1,\"url\":null}",
    b"\x01\x8a\x08ping you\x89\x01p\x82\x03\xff\x01\x03",
    b"\x04\x81\x7e\x00\x80\x01\x03",
    b"\x09\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00\x01\x03",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rubbish_does_no_harm(data in prop::collection::vec(any::<u8>(), 0..80)) {
        targets::frames(&data);
    }

    #[test]
    fn changed_frames_do_no_harm(
        seed in prop::sample::select(&SEEDS[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut data = seed.to_vec();
        for (at, byte) in changes {
            let at = at.index(data.len());
            data[at] = byte;
        }
        data.extend(rest);
        targets::frames(&data);
    }
}
