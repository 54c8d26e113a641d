//! What the whole is tested with: the rig that runs the shipped binary, the traffic and the chaos
//! that go on in it, and the benches. The behaviours themselves stand in `tests/`, one file each.

pub mod bench;
pub mod chaos;
pub mod rig;
pub mod traffic;
