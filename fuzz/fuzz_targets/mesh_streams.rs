//! Runs `mesh::streams` under libFuzzer.
#![no_main]

#[path = "../src/mesh.rs"]
#[expect(dead_code, reason = "each target runs one of the functions")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    targets::streams(data);
});
