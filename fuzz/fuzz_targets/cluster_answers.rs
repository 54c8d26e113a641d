//! Runs `metaserver::trial::answers` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    metaserver::trial::answers(data);
});
