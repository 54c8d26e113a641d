//! Runs [`fuzz::to_module`] under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::to_module(data);
});
