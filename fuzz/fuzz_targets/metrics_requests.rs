//! Runs `edgecore::trial::metrics_requests` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edgecore::trial::metrics_requests(data);
});
