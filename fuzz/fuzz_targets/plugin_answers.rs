//! Runs `edged::trial::plugin_answers` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edged::trial::plugin_answers(data);
});
