//! Ephemeral containers (`kubectl debug`): they come to a pod that lives, run once, and count for
//! nothing else.

use super::{Planner, Sandbox, State};

impl Planner<'_> {
    /// Starts those that never ran, whatever the other containers do.
    pub(super) fn start_ephemeral(&mut self, sandbox: &Sandbox) {
        let pod = self.pod;
        for container in &pod.spec.ephemeral_containers {
            let latest = self.seen.latest(&container.name);
            let ran = latest.is_some_and(|it| it.state != State::Created)
                || pod.status.ran(&container.name).is_some();
            if !ran {
                self.start(container, sandbox);
            }
        }
    }
}
