//! Runs `edged::trial::small_words` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edged::trial::small_words(data);
});
