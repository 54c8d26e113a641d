//! Why a container is stopped.

use std::fmt;

/// The reason to stop a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its pod is to end.
    PodEnds,
    /// All that its pod had to run has run.
    PodDone,
    /// A probe of this kind failed.
    Sick(&'static str),
    /// Its specification changed.
    Changed,
    /// Its pod has another sandbox.
    OldSandbox,
    /// Its pod has no sandbox.
    NoSandbox,
    /// There is a newer one of its name.
    Double,
    /// Its pod has no container of its name.
    Foreign,
    /// The runtime does not know how it is.
    Lost,
    /// What was to follow its start failed.
    HookFailed,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodEnds => f.write_str("the pod ends"),
            Self::PodDone => f.write_str("the pod is done"),
            Self::Sick(probe) => write!(f, "its {probe} probe failed"),
            Self::Changed => f.write_str("its specification changed"),
            Self::OldSandbox => f.write_str("it is in an old sandbox"),
            Self::NoSandbox => f.write_str("its sandbox is gone"),
            Self::Double => f.write_str("another of its name is newer"),
            Self::Foreign => f.write_str("the pod has no such container"),
            Self::Lost => f.write_str("the runtime lost its state"),
            Self::HookFailed => f.write_str("its postStart hook failed"),
        }
    }
}

impl Why {
    /// Says it as kubelet does.
    pub(crate) fn said(self, container: &str) -> String {
        match self {
            Self::Sick(probe) => {
                format!("Container {container} failed {probe} probe, will be restarted")
            }
            Self::Changed => format!("Container {container} definition changed, will be restarted"),
            Self::HookFailed => "FailedPostStartHook".to_owned(),
            Self::PodEnds
            | Self::PodDone
            | Self::OldSandbox
            | Self::NoSandbox
            | Self::Double
            | Self::Foreign
            | Self::Lost => format!("Stopping container {container}"),
        }
    }
}
