//! Runs `servicebus::trial::calls` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    servicebus::trial::calls(data);
});
