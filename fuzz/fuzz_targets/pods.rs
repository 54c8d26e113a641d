//! Runs `edged::trial::pods` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edged::trial::pods(data);
});
