//! What systemd is told, where it asked to be: readiness, one line of status, that the main loop
//! still turns, reloads and the end.

use sd_notify::NotifyState;

use crate::child::Millis;

/// The service manager's ear.
#[derive(Debug)]
pub(crate) struct Notify {
    /// The watchdog's limit in milliseconds, where there is one.
    watchdog: Option<Millis>,
    fed: Millis,
    ready: bool,
    status: String,
}

impl Notify {
    /// Finds out what systemd wants to hear.
    pub(crate) fn new() -> Self {
        let watchdog = sd_notify::watchdog_enabled()
            .map(|limit| Millis::try_from(limit.as_millis()).unwrap_or(Millis::MAX));
        Self { watchdog, fed: 0, ready: false, status: String::new() }
    }

    /// Returns when the watchdog is to be fed next: after half its limit.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.watchdog.map(|limit| self.fed.saturating_add(limit / 2))
    }

    /// Feeds the watchdog when half its limit is over. Called by the main loop alone.
    pub(crate) fn turn(&mut self, now: Millis) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.fed = now;
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// Tells the status when it has changed.
    pub(crate) fn status(&mut self, status: String) {
        if self.status != status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Tells once that the agent is up.
    pub(crate) fn ready(&mut self) {
        if !self.ready {
            self.ready = true;
            tell(&[NotifyState::Ready]);
        }
    }

    /// Tells that a reload begins; [`Notify::ready`] ends it, in this image or the next.
    pub(crate) fn reloading(&mut self) {
        self.ready = false;
        if let Ok(moment) = NotifyState::monotonic_usec_now() {
            tell(&[NotifyState::Reloading, moment]);
        }
    }

    /// Tells that the end begins.
    pub(crate) fn stopping() {
        tell(&[NotifyState::Stopping]);
    }
}

/// A service manager that does not listen is no reason to fail.
fn tell(states: &[NotifyState<'_>]) {
    sd_notify::notify(states).ok();
}
