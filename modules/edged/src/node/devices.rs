//! The devices of plug-ins in the node's status: as resources by their plug-ins' names.

use serde_json::Value;

use crate::devices::Amounts;

/// Adds them. What once was told of stays, with the number 0: a patch takes nothing away.
pub(super) fn add(status: &mut Value, devices: &Amounts, now: i64) {
    for (name, known) in devices {
        let (all, usable) = known.amount(now);
        status["capacity"][name.as_str()] = all.to_string().into();
        status["allocatable"][name.as_str()] = usable.to_string().into();
    }
}
