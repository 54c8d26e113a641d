//! Seeds, and the ways to change them, for tests that run the bodies of fuzz targets on the ordinary
//! toolchain; `tests/tests/decoders.rs` and `ipc-proto/tests/decoders.rs` include this file.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

/// Reads the seeds of a folder, in the order of their names so that a failure can be run again.
pub(crate) fn seeds_of(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a target has a folder of seeds");
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", folder.display());
    paths.iter().map(|path| fs::read(path).expect("a seed can be read")).collect()
}

/// Changes one of some seeds here and there.
pub(crate) fn changed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec(mutation(), 1..6);
    (any::<Index>(), changes).prop_map(move |(seed, mutations)| {
        let mut bytes = seed.get(&seeds).clone();
        for mutation in &mutations {
            mutation.apply(&mut bytes, &seeds);
        }
        bytes
    })
}

/// One change of some bytes. A place is taken modulo the length.
#[derive(Clone, Debug)]
enum Mutation {
    /// One bit the other way.
    Flip(Index, u8),
    /// Another byte; the generator favours those at the edges of encodings.
    Set(Index, u8),
    /// The end is missing.
    Cut(Index),
    /// Bytes too many.
    Insert(Index, Vec<u8>),
    /// A part comes twice.
    Repeat(Index, Index),
    /// The end is another seed's.
    Splice(Index, Index),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = |index: &Index, bytes: &[u8]| index.index(bytes.len().max(1));
        match self {
            Self::Flip(at, bit) => {
                let at = place(at, bytes);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (bit % 8));
            }
            Self::Set(at, value) => {
                let at = place(at, bytes);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = *value);
            }
            Self::Cut(at) => bytes.truncate(place(at, bytes)),
            Self::Insert(at, more) => {
                let at = place(at, bytes).min(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Repeat(one, other) => {
                let (one, other) = (place(one, bytes), place(other, bytes));
                let part = bytes[one.min(other)..one.max(other)].to_vec();
                bytes.splice(one.min(other)..one.min(other), part);
            }
            Self::Splice(at, seed) => {
                bytes.truncate(place(at, bytes));
                let other = seed.get(seeds);
                bytes.extend_from_slice(&other[bytes.len().min(other.len())..]);
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let edges = prop::sample::select(&[0, 1, 2, 0x20, 0x22, 0x7f, 0x80, 0xfe, 0xff][..]);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (at(), prop_oneof![edges, any::<u8>()]).prop_map(|(at, value)| Mutation::Set(at, value)),
        at().prop_map(Mutation::Cut),
        (at(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), at()).prop_map(|(one, other)| Mutation::Repeat(one, other)),
        (at(), at()).prop_map(|(at, seed)| Mutation::Splice(at, seed)),
    ]
}
