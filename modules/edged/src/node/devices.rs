//! What of the node's status is of plug-ins: devices as resources by their plug-ins' names, and the
//! volumes of storage drivers that are in use.

use serde_json::Value;

use crate::csi::Csi;
use crate::devices::Amounts;

/// Adds them. A device that once was told of stays, with the number 0: a patch takes nothing away.
pub(super) fn add(status: &mut Value, devices: &Amounts, csi: &Csi) {
    let now = module_runtime::unix_millis();
    for (name, known) in devices {
        let (all, usable) = known.amount(now);
        status["capacity"][name.as_str()] = all.to_string().into();
        status["allocatable"][name.as_str()] = usable.to_string().into();
    }
    status["volumesInUse"] = csi.in_use().into();
}
