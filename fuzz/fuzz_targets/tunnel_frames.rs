//! Runs `tunnel::frames` under libFuzzer.
#![no_main]

#[path = "../src/tunnel.rs"]
mod tunnel;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tunnel::frames(data);
});
