//! Runs `edgecore::trial::configuration` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edgecore::trial::configuration(data);
});
