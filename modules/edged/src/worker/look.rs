//! How a worker sees its pod: what the runtime has of it, what ended containers left to say, and
//! which probes run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::cri::{Trouble, words as w};
use crate::notes::About;
use crate::pod::names;
use crate::pod::plan::Health;
use crate::pod::seen::{Contained, Sandbox, Seen, State};
use crate::probes::Purpose;

/// The longest message that an ended container can leave, in bytes.
const MAX_MESSAGE: u64 = 4096;

/// How much of a log is shown instead, in bytes and lines.
const MAX_TAIL: u64 = 2048;
const MAX_LINES: usize = 80;

/// How often an init container is looked at, and for how long, in milliseconds. After that it is
/// enough to hear of its end.
const INIT_LOOK: i64 = 100;
const INIT_LOOKS: i64 = 3000;

impl Worker {
    /// Looks at what there is of the pod.
    pub(super) async fn look(&mut self) -> Result<(), Trouble> {
        let runtime = self.host.runtime.clone();
        let (sandboxes, containers) = runtime.list(names::selector(&self.pod.metadata.uid)).await?;
        let mut seen = Seen::default();
        for sandbox in sandboxes {
            let known = self.seen.sandboxes.iter().find(|known| {
                known.id == sandbox.id
                    && known.ready == (sandbox.state() == w::PodSandboxState::Ready)
            });
            if let Some(known) = known.filter(|known| !known.ready || !known.ips.is_empty()) {
                seen.sandboxes.push(known.clone());
                continue;
            }
            let request = w::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id };
            match runtime.sandbox_status(request).await {
                Ok(answer) => seen.sandboxes.extend(answer.status.map(Sandbox::from)),
                Err(trouble) if trouble.is_not_found() => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let mut ends = BTreeMap::new();
        for container in containers {
            if let Some(end) = self.ends.remove(&container.id) {
                seen.containers.push(end.clone());
                ends.insert(container.id, end);
                continue;
            }
            let (request, sandbox) = (
                w::ContainerStatusRequest { container_id: container.id },
                container.pod_sandbox_id,
            );
            match runtime.container_status(request).await {
                Ok(answer) => {
                    let Some(status) = answer.status else { continue };
                    let contained = read(sandbox, status);
                    if contained.state == State::Exited {
                        ends.insert(contained.id.clone(), contained.clone());
                    }
                    seen.containers.push(contained);
                }
                Err(trouble) if trouble.is_not_found() => {}
                Err(trouble) => return Err(trouble),
            }
        }
        self.ends = ends;
        self.seen = seen;
        Ok(())
    }

    /// Returns when to look at an init container that has just begun: most end soon, and the others
    /// wait for them.
    pub(super) fn inits_soon(&self, now: i64) -> Option<i64> {
        let mut inits = self.pod.spec.init_containers.iter().filter(|init| !init.is_sidecar());
        let young = |it: &Contained| it.state == State::Running && now - it.started < INIT_LOOKS;
        inits.any(|init| self.seen.latest(&init.name).is_some_and(young)).then_some(now + INIT_LOOK)
    }

    /// Keeps the health of running containers, and the probes that find it out.
    pub(super) fn watch_health(&mut self, now: i64) {
        let pod = Arc::clone(&self.pod);
        let ip = self.facts().pod_ips.first().cloned().unwrap_or_default();
        let running = |it: &&Contained| it.state == State::Running;
        let running: Vec<Contained> =
            self.seen.containers.iter().filter(running).cloned().collect();
        self.ledger.health.retain(|id, _| running.iter().any(|it| it.id == *id));
        self.probes.retain(|id, _| running.iter().any(|it| it.id == id));
        let ends = pod.metadata.deletion_timestamp.is_some();
        for contained in &running {
            let Some(container) = pod.spec.container(&contained.name) else { continue };
            // What another process found out before this one began stays until it is found otherwise.
            let last = pod.status.container(&contained.id);
            let health = self.ledger.health.entry(contained.id.clone()).or_insert_with(|| Health {
                started: container.startup_probe.is_none()
                    || last.is_some_and(|last| last.started == Some(true)),
                ready: container.readiness_probe.is_none() || last.is_some_and(|last| last.ready),
                sick: None,
            });
            let (started, id) = (health.started, contained.id.as_str());
            let age = u64::try_from(now.saturating_sub(contained.started)).unwrap_or_default();
            let age = Duration::from_millis(age);
            let container = Arc::new(container.clone());
            let about = About::container(&pod, &container.name);
            let place = (ip.as_str(), &about);
            let mut begin = |purpose| self.probes.begin(purpose, &container, id, place, age);
            if started {
                begin(Purpose::Readiness);
            } else {
                begin(Purpose::Startup);
            }
            if started && !ends {
                begin(Purpose::Liveness);
            }
            if started || ends {
                let done = if ends { Purpose::Liveness } else { Purpose::Startup };
                self.probes.retain(|other, purpose| other != id || purpose != done);
            }
        }
    }
}

/// Reads what the runtime says of a container, and what the container says of its own end.
fn read(sandbox: String, status: w::ContainerStatus) -> Contained {
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let (path, policy) = (annotation(names::MESSAGE_PATH), annotation(names::MESSAGE_POLICY));
    let file = status.mounts.iter().find(|mount| mount.container_path == path);
    let file = file.map(|mount| mount.host_path.clone());
    let log = status.log_path.clone();
    let mut contained = Contained::new(sandbox, status);
    if contained.state == State::Exited {
        let said = file.and_then(|file| tail(Path::new(&file), MAX_MESSAGE)).unwrap_or_default();
        if !said.is_empty() {
            contained.message = said;
        } else if policy == "FallbackToLogsOnError" && contained.exit_code != 0 {
            contained.message =
                tail(Path::new(&log), 2 * MAX_TAIL).map(|it| plain(&it)).unwrap_or_default();
        }
    }
    contained
}

/// Returns the end of a file as text.
fn tail(path: &Path, bytes: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes))).ok()?;
    let mut read = Vec::new();
    file.take(bytes).read_to_end(&mut read).ok()?;
    Some(String::from_utf8_lossy(&read).into_owned())
}

/// Takes the runtime's marks off the lines of a log.
fn plain(log: &str) -> String {
    let text = |line: &str| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
    let lines: Vec<String> = log.lines().map(text).collect();
    let mut lines = lines[lines.len().saturating_sub(MAX_LINES)..].join("\n");
    let most = usize::try_from(MAX_TAIL).unwrap_or_default();
    while lines.len() > most {
        lines = lines.chars().skip(lines.len() - most).collect();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_shown_without_its_marks() {
        let log =
            "2026-11-23T04:23:12.1Z stdout F first\n2026-11-23T04:23:12.2Z stderr F and last\n";
        assert_eq!(plain(log), "first\nand last");
        assert!(plain(&format!("t s F {}\n", "x".repeat(5000))).len() <= 2048);
    }

    #[test]
    fn only_files_are_read_and_not_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "0123456789").unwrap();
        assert_eq!(tail(&file, 4).as_deref(), Some("6789"));
        assert_eq!(tail(folder.path(), 4), None);
        assert_eq!(tail(&folder.path().join("none"), 4), None);
    }
}
