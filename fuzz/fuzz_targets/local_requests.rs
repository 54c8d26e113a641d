//! Runs `metaserver::trial::requests` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    metaserver::trial::requests(data);
});
