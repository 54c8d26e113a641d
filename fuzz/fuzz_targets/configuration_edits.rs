//! Runs `edgecore::trial::edits` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edgecore::trial::edits(data);
});
