//! Runs `metamanager::trial::messages` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    metamanager::trial::messages(data);
});
