//! Runs [`fuzz::control_response`] under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::control_response(data);
});
