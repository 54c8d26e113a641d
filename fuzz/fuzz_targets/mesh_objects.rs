//! Runs `edgemesh::trial::objects::objects` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edgemesh::trial::objects::objects(data);
});
