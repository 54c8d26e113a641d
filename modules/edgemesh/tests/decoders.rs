//! The bodies of the fuzz targets, on this toolchain: packets and requests as they are recorded,
//! changed here and there, and bytes as they come.

#[path = "../../../fuzz/src/mesh.rs"]
mod targets;

use proptest::prelude::*;

/// A query with EDNS for a service that leads to itself, a short one for another name, records as a
/// reply has them, the beginnings of requests, and what nodes ask and answer.
const SEEDS: [&[u8]; 8] = [
    b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\x06circle\x04shop\x03svc\x07cluster\x05local\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0",
    b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x1c\0\x01",
    b"\x02\0\0\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x13\xc0\x13\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\x01\0\x01",
    b"\0\x01\0\xc0\x1d\0\x06\0\x01\0\0\0\x1e\0\x18\xc0\x1d\xc0\x1d\0\0\0\x01\0\0\x1c\x20\0\0\x07\x08\0\x01\x51\x80\0\0\0\x05",
    b"\x10GET / HTTP/1.1\r\nHost: web\r\nX-User: anna\r\n\r\n",
    b"\x19\x08\0\x12\x03tcp\x1a\x05edge2\x22\x0810.0.0.1\x28\x50",
    b"\x08\x08\x02\x32\x04away",
    b"\x30PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

fn all(data: &[u8]) {
    targets::names(data);
    targets::requests(data);
    targets::streams(data);
}

fn changed() -> impl Strategy<Value = Vec<u8>> {
    let seed = prop::sample::select(SEEDS.to_vec());
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..6);
    (seed, edits).prop_map(|(seed, edits)| {
        let mut data = seed.to_vec();
        for (place, byte, edit) in edits {
            let place = place.index(data.len());
            match edit {
                0 => data[place] = byte,
                1 => data.insert(place, byte),
                _ => drop(data.remove(place)),
            }
        }
        data
    })
}

#[test]
fn what_is_recorded_is_taken() {
    SEEDS.iter().for_each(|seed| all(seed));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_changed_on_its_way_does_no_harm(data in changed()) {
        all(&data);
    }

    #[test]
    fn any_bytes_do_no_harm(data in prop::collection::vec(any::<u8>(), 0..512)) {
        all(&data);
    }
}
