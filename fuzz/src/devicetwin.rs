//! What is asked of devicetwin's decoders and decisions: whatever comes is taken or refused, once.
//!
//! libFuzzer runs these functions through `fuzz_targets/`, the ordinary tests through
//! `modules/devicetwin/tests/decoders.rs`; both include this file.

use devicetwin::trial;

/// What applications say by MQTT and what the cloud's objects say.
pub(crate) fn payloads(data: &[u8]) {
    trial::payload(data);
    trial::object(data);
}

/// What mappers say.
pub(crate) fn calls(data: &[u8]) {
    trial::call(data);
}
