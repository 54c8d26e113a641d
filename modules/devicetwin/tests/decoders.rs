//! The bodies of the fuzz targets, on this toolchain: messages as they are recorded, changed here
//! and there, and bytes as they come.

#[path = "../../../fuzz/src/devicetwin.rs"]
mod targets;

use proptest::prelude::*;

/// What is recorded, with the byte that chooses before it.
const SEEDS: [(u8, &[u8]); 9] = [
    (0, br#"{"event_id":"e3","timestamp":1,"twin":{"temperature":{"actual":{"value":"22"},"metadata":{"type":"int"}}}}"#),
    (0, br#"{"twin":{"t":{"expected":{"value":"1","metadata":{"timestamp":2}},"optional":false,"expected_version":{"cloud":1,"edge":2}},"gone":null}}"#),
    (1, br#"{"event_id":"e2","timestamp":1}"#),
    (2, br#"{"event_id":"e4","timestamp":1,"state":"online"}"#),
    (0, br#"{"metadata":{"name":"d","namespace":"default","uid":"1"},"spec":{"deviceModelRef":{"name":"m"},"nodeName":"edge1","protocol":{"protocolName":"modbus","configData":{"slaveID":1,"ip":"a","on":true}},"properties":[{"name":"t","desired":{"value":"20"},"reportCycle":1000,"pushMethod":{"dbMethod":{"redis":{"redisClientConfig":{"addr":"a","db":1}}}}}]}}"#),
    (2, br#"{"metadata":{"name":"m","namespace":"default"},"spec":{"protocol":"modbus","properties":[{"name":"t","type":"INT","visitors":{"protocolName":"modbus","configData":{"offset":2}}}]}}"#),
    (4, br#"{"event_id":"m","timestamp":1,"added_devices":[{"id":"default/e","name":"e"}],"removed_devices":[{"id":"default/d","name":"d"}]}"#),
    // a report of t with the value 21, and a mapper, as mappers write them
    (1, b"\x0a\x01d\x12\x0b\x0a\x09\x0a\x01t\x1a\x04\x0a\x0221\x1a\x07default"),
    (0, b"\x08\x01\x12\x1b\x0a\x01x\x22\x06modbus*\x0e/run/mapper.sck"),
];

fn all(data: &[u8]) {
    targets::payloads(data);
    targets::calls(data);
}

fn changed() -> impl Strategy<Value = Vec<u8>> {
    let seed = prop::sample::select(SEEDS.to_vec());
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..6);
    (seed, any::<Option<u8>>(), edits).prop_map(|((choice, seed), other, edits)| {
        let mut data = vec![other.unwrap_or(choice)];
        data.extend(seed);
        for (place, byte, edit) in edits {
            let place = place.index(data.len());
            match edit {
                0 => data[place] = byte,
                1 => data.insert(place, byte),
                _ => drop(data.remove(place)),
            }
            if data.is_empty() {
                data.push(byte);
            }
        }
        data
    })
}

#[test]
fn what_is_recorded_is_taken() {
    for (choice, seed) in SEEDS {
        all(&[&[choice], seed].concat());
    }
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
