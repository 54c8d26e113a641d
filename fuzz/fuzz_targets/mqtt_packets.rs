//! Runs `mqtt::packets` under libFuzzer.
#![no_main]

#[path = "../src/mqtt.rs"]
#[expect(dead_code, reason = "each target runs one of the functions")]
mod mqtt;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    mqtt::packets(data);
});
