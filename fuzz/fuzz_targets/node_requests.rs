//! Runs `edged::trial::node_requests` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edged::trial::node_requests(data);
});
