//! A containerd of the test's own, and what the engine says to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use private_containerd::Lack;

pub(super) use private_containerd::IMAGE;

use crate::cri::{Runtime, words as w};

/// How long anything may take here.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// A running containerd.
pub(super) struct Containerd(private_containerd::Containerd);

/// Starts a containerd, unless this machine has none; then it says so, and in CI it fails.
pub(super) async fn containerd() -> Option<Containerd> {
    let lacks: Vec<_> = private_containerd::lacks().iter().map(Lack::to_string).collect();
    if lacks.is_empty() {
        let started = tokio::task::spawn_blocking(private_containerd::Containerd::start).await;
        return Some(Containerd(started.unwrap().unwrap()));
    }
    let lacks = lacks.join(", ");
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!ci, "this test needs {lacks}, and in CI it must run");
    eprintln!("skipped: this machine lacks {lacks}");
    None
}

/// Tells whether a test may make network namespaces. Elsewhere it says so, and in CI it fails.
pub(crate) fn may_use_the_kernel() -> bool {
    let root = rustix::process::geteuid().is_root();
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(root || !ci, "this test needs root's powers, and in CI it must run");
    if !root {
        eprintln!("skipped: this test needs root's powers");
    }
    root
}

impl Containerd {
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.socket()
    }

    /// Loads an image from a file.
    pub(super) fn import(&self, image: &Path) {
        self.0.import(image).unwrap();
    }

    pub(super) fn runtime(&self) -> Runtime {
        Runtime::new(self.socket())
    }

    /// Removes all that runs, and ends. An engine that still works may be faster, or in between.
    pub(super) async fn end(self) {
        let runtime = self.runtime();
        let nothing_runs = async || {
            let (sandboxes, _) = runtime.list(BTreeMap::new()).await.unwrap();
            let left = sandboxes.len();
            for sandbox in sandboxes {
                let request = w::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
                let _done_or_tried_again = runtime.stop_sandbox(request).await;
                let request = w::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
                let _done_or_tried_again = runtime.remove_sandbox(request).await;
            }
            left == 0
        };
        until("nothing runs", nothing_runs).await;
    }
}

/// Waits until something holds.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
