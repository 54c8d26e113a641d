//! Runs `edgestream::trial::sessions` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edgestream::trial::sessions(data);
});
