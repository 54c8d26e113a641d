//! What a pod asks of the runtime, without the engine: for who measures the engine beside the bare
//! calls for the same pod.

use std::path::Path;

use crate::cri::words as w;
use crate::pod::make::{self, Parts, Settings};
use crate::pod::spec::Pod;

/// Returns the sandbox and the containers that the engine would have made for a pod, given as JSON,
/// but for its control group and what a store or a cloud adds. Logs are below `logs`; each container
/// has `mounts`.
///
/// # Errors
/// When it is no pod.
pub fn configs(
    pod: &[u8],
    logs: &Path,
    mounts: &[w::Mount],
) -> serde_json::Result<(w::PodSandboxConfig, Vec<w::ContainerConfig>)> {
    let pod: Pod = serde_json::from_slice(pod)?;
    let settings = Settings { logs: Some(logs), ..Settings::default() };
    let container = |it| {
        let mut config = make::container(&pod, it, &settings, Parts::default());
        config.image = Some(w::ImageSpec { image: it.image.clone() });
        config.mounts = mounts.to_vec();
        config
    };
    let containers = pod.spec.containers.iter().map(container).collect();
    Ok((make::sandbox(&pod, &settings, 0, ""), containers))
}
