//! Runs `edged::trial::manifests` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edged::trial::manifests(data);
});
