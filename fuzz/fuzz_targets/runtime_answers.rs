//! Runs `edged::trial::runtime_answers` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edged::trial::runtime_answers(data);
});
