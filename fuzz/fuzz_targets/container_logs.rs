//! Runs `edged::trial::container_logs` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    edged::trial::container_logs(data);
});
