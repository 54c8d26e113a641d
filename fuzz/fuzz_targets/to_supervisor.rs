//! Runs [`fuzz::to_supervisor`] under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::to_supervisor(data);
});
