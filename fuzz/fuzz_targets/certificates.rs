//! Runs `edgehub::trial::certificates` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edgehub::trial::certificates(data);
});
