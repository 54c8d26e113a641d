//! What is asked of edgemesh's decoders: queries and replies of DNS, the head of a request,
//! and how streams of the tunnel begin.
//!
//! libFuzzer runs these functions through `fuzz_targets/`, the ordinary tests through
//! `modules/edgemesh/tests/decoders.rs`; both include this file.

use edgemesh::trial;

/// What clients ask, and what other servers reply.
pub(crate) fn names(data: &[u8]) {
    trial::names::names(data);
    trial::names::reply(data);
}

/// How connections begin.
pub(crate) fn requests(data: &[u8]) {
    trial::requests::requests(data);
}

/// How streams from other nodes begin.
pub(crate) fn streams(data: &[u8]) {
    trial::streams::trial(data);
}
