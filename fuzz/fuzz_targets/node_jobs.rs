//! Runs `taskmanager::trial::job` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    taskmanager::trial::job(data);
});
