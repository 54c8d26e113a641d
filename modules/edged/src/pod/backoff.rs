//! The growing pause before something that failed is tried again: kubelet's, from 10 s doubled to
//! 5 min, and forgotten when it went well for 10 min.

use std::collections::BTreeMap;

use super::seen::{Contained, Seen};

/// The first pause in milliseconds.
const INITIAL: i64 = 10_000;

/// The longest pause in milliseconds. Nothing waits longer, so a time that is further away was noted
/// before the clock was set back.
pub(crate) const CEILING: i64 = 300_000;

/// How long it has to go well until the pauses begin anew, in milliseconds.
const FORGOTTEN: i64 = 2 * CEILING;

/// The pause of one thing. Times are Unix milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The pause; 0 before the first failure.
    pub(crate) pause: i64,
    /// When the pause last grew.
    grown: i64,
}

impl Backoff {
    /// Makes the pause of something that was tried `times` before, as it would have grown.
    pub(crate) fn after(times: u32, now: i64) -> Self {
        let pause = if times == 0 { 0 } else { INITIAL << (times - 1).min(5) };
        Self { pause: pause.min(CEILING), grown: now }
    }

    /// Returns until when something that failed at `failed` is not to be tried again.
    pub(crate) fn until(&self, failed: i64) -> i64 {
        if failed - self.grown > FORGOTTEN { failed } else { failed + self.pause }
    }

    /// Notes that it is tried again, after it failed at `failed`.
    pub(crate) fn grow(&mut self, failed: i64, now: i64) {
        let fresh = self.pause == 0 || failed - self.grown > FORGOTTEN;
        self.pause = if fresh { INITIAL } else { (self.pause * 2).min(CEILING) };
        self.grown = now;
    }
}

/// Returns the pauses of what an earlier process restarted, by container. What ended with its
/// sandbox, as all does at a reboot, did not fail by itself: it has none.
pub(crate) fn adopted(seen: &Seen, host_network: bool, now: i64) -> BTreeMap<String, Backoff> {
    let sandbox = seen.usable(host_network).map(|sandbox| sandbox.id.as_str());
    let restarted = |it: &&Contained| Some(it.sandbox.as_str()) == sandbox && it.restarts > 0;
    // the newest come first, and are the ones that count
    let pauses = seen.containers.iter().rev().filter(restarted);
    pauses.map(|it| (it.name.clone(), Backoff::after(it.restarts, now))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::seen::Sandbox;

    #[test]
    fn what_ended_at_a_reboot_is_started_again_without_a_pause() {
        let sandbox = |id: &str, ready| Sandbox {
            id: id.to_owned(),
            ready,
            ips: vec!["10.0.0.1".to_owned()],
            ..Sandbox::default()
        };
        let container = |name: &str, sandbox: &str, restarts| Contained {
            name: name.to_owned(),
            sandbox: sandbox.to_owned(),
            restarts,
            ..Contained::default()
        };
        let containers = vec![
            container("steady", "new", 0),
            container("crashing", "new", 4),
            container("crashing", "new", 3),
            container("steady", "old", 2),
        ];
        let mut seen = Seen { sandboxes: vec![sandbox("new", true)], containers };
        let pauses: Vec<_> = adopted(&seen, false, 7).into_iter().collect();
        assert_eq!(pauses, [("crashing".to_owned(), Backoff::after(4, 7))]);
        seen.sandboxes = vec![sandbox("new", false)];
        assert!(adopted(&seen, false, 7).is_empty());
    }

    #[test]
    fn the_first_restart_is_at_once_and_the_pause_doubles_to_five_minutes() {
        let (mut backoff, mut now, mut pauses) = (Backoff::default(), 1_000_000, Vec::new());
        for _ in 0..8 {
            let failed = now;
            now = backoff.until(failed);
            pauses.push((now - failed) / 1000);
            backoff.grow(failed, now);
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn what_ran_for_more_than_ten_minutes_begins_anew() {
        let mut backoff = Backoff::after(5, 0);
        assert_eq!(backoff.pause, 160_000);
        assert_eq!(backoff.until(FORGOTTEN + 1), FORGOTTEN + 1);
        backoff.grow(FORGOTTEN + 1, FORGOTTEN + 1);
        assert_eq!(backoff.pause, INITIAL);
    }
}
