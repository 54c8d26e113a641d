//! The life of one module as a state machine without IO: events and the time go in, effects come
//! out, and [`Child::deadline`] says when it wants to be woken.
//!
//! ```text
//!            Start              Turn               Spawned           Ready
//!   Down ──────────► Waiting ──────────► Spawning ─────────► Starting ─────► Running
//!    ▲                  ▲                    │                   │              │
//!    │             pause over           NotSpawned               ├── Stop, Restart, hang, lifeline
//!    │                  │                    ▼                   ▼              ▼
//!    └───── Stop ── Pausing ◄──────── death, still wanted ◄─── Ending ◄─────────┘
//! ```
//!
//! First start and restart are the same path. Between [`Effect::Spawn`] and [`Event::Exited`] no
//! other spawn can happen, because only [`Phase::Waiting`] spawns and only an exit leads back to it.

mod exit;
mod policy;

use serde::{Deserialize, Serialize};

pub use exit::{Cause, Exit, Reason, Status};
pub use policy::{Millis, Policy, Restart};

/// How long a module that lost its lifeline may take to end by itself. A process closes its files
/// shortly before its death can be seen, so without this pause every crash would look like a closed
/// lifeline.
pub const LAST_BREATH: Millis = 100;

/// What happens to a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The modules that it dials are there: it may be spawned.
    Turn,
    /// The process that [`Effect::Spawn`] asked for lives.
    Spawned {
        /// Its process id.
        pid: u32,
    },
    /// There is no process that [`Effect::Spawn`] asked for.
    NotSpawned,
    /// The module serves.
    Ready,
    /// Its main loop turns.
    Beat,
    /// Its lifeline ended, broke its rules, or takes nothing more.
    LifelineLost,
    /// Its process ended and was reaped.
    Exited(Exit),
    /// Time went by; nothing else happened.
    Tick,
    /// The operator, or the agent's start, wants it to run.
    Start,
    /// The operator, or the agent's end, wants it not to run.
    Stop,
    /// The operator wants another life of it.
    Restart,
}

/// What is to be done. Effects are to be carried out in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make a process, then say [`Event::Spawned`] or [`Event::NotSpawned`].
    Spawn,
    /// Ask the process to finish what it holds and to end.
    Drain,
    /// End the process with SIGKILL.
    Kill(Cause),
    /// Keep the evidence of this death.
    Ended {
        /// The process that ended.
        pid: u32,
        /// Why.
        reason: Reason,
    },
}

/// Where a module stands in its life. Every phase knows since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// No process, and none wanted.
    Down,
    /// Wanted; waits for its turn.
    Waiting,
    /// Wanted; waits after a death.
    Pausing {
        /// The end of the pause.
        until: Millis,
    },
    /// A process was asked for.
    Spawning,
    /// The process is there and not ready.
    Starting {
        /// Its process id.
        pid: u32,
    },
    /// The process serves.
    Running {
        /// Its process id.
        pid: u32,
        /// Its latest beat.
        beat: Millis,
    },
    /// The process was asked to end, or killed; its death is to come.
    Ending {
        /// Its process id.
        pid: u32,
        /// Why.
        cause: Cause,
        /// When it will be killed; none once it was.
        kill_at: Option<Millis>,
        /// When it had become ready, if it ever was.
        ready: Option<Millis>,
    },
}

/// One module's life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Child {
    policy: Policy,
    phase: Phase,
    since: Millis,
    /// Whether the module is to run: what the operator and the agent asked for last.
    wanted: bool,
    /// Deaths in a row without a stable life between them.
    deaths: u32,
    /// Processes made so far.
    spawns: u32,
    /// The patience that the living process was started under; a new policy must not kill it for
    /// beating as it was told to.
    patience: Millis,
}

impl Child {
    /// Makes a module that is down.
    #[must_use]
    pub const fn new(policy: Policy, now: Millis) -> Self {
        Self {
            policy,
            phase: Phase::Down,
            since: now,
            wanted: false,
            deaths: 0,
            spawns: 0,
            patience: policy.patience,
        }
    }

    /// Takes a new policy; a process that lives keeps the beat that it was told.
    pub const fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Returns where the module stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns since when it stands there.
    #[must_use]
    pub const fn since(&self) -> Millis {
        self.since
    }

    /// Tells whether it is to run.
    #[must_use]
    pub const fn wanted(&self) -> bool {
        self.wanted
    }

    /// Returns the starts after the first.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.spawns.saturating_sub(1)
    }

    /// Tells whether it dies so often that only the longest pause is left.
    #[must_use]
    pub fn held(&self) -> bool {
        let Restart { ceiling, .. } = self.policy.restart;
        matches!(self.phase, Phase::Pausing { until } if until - self.since >= ceiling)
    }

    /// Returns the process, where one lives or its death was not seen yet.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Starting { pid } | Phase::Running { pid, .. } | Phase::Ending { pid, .. } => {
                Some(pid)
            }
            Phase::Down | Phase::Waiting | Phase::Pausing { .. } | Phase::Spawning => None,
        }
    }

    /// Returns when the next [`Event::Tick`] is due. In the past it means at once.
    #[must_use]
    pub const fn deadline(&self) -> Option<Millis> {
        match self.phase {
            Phase::Down | Phase::Waiting | Phase::Spawning => None,
            Phase::Pausing { until } => Some(until),
            Phase::Starting { .. } => Some(self.since.saturating_add(self.policy.ready_timeout)),
            Phase::Running { beat, .. } => Some(beat.saturating_add(self.patience)),
            Phase::Ending { kill_at, .. } => kill_at,
        }
    }

    /// Takes an event in and puts what is to be done into `effects`.
    pub fn on(&mut self, now: Millis, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Turn => self.turn(now, effects),
            Event::Spawned { pid } => self.spawned(now, pid, effects),
            Event::NotSpawned => self.not_spawned(now),
            Event::Ready => self.ready(now),
            Event::Beat => self.beat(now),
            Event::LifelineLost => self.lifeline_lost(now),
            Event::Exited(exit) => self.exited(now, exit, effects),
            Event::Tick => self.tick(now, effects),
            Event::Start => self.start(now),
            Event::Stop => {
                self.wanted = false;
                self.end(now, effects);
            }
            Event::Restart => {
                self.start(now);
                self.end(now, effects);
            }
        }
    }

    fn turn(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Waiting => {
                self.spawns = self.spawns.saturating_add(1);
                self.patience = self.policy.patience;
                self.enter(now, Phase::Spawning);
                effects.push(Effect::Spawn);
            }
            Phase::Down
            | Phase::Pausing { .. }
            | Phase::Spawning
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Ending { .. } => {}
        }
    }

    fn spawned(&mut self, now: Millis, pid: u32, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Spawning => {
                self.enter(now, Phase::Starting { pid });
                if !self.wanted {
                    self.end(now, effects);
                }
            }
            Phase::Down
            | Phase::Waiting
            | Phase::Pausing { .. }
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Ending { .. } => {}
        }
    }

    fn not_spawned(&mut self, now: Millis) {
        match self.phase {
            Phase::Spawning => self.rest(now, None),
            Phase::Down
            | Phase::Waiting
            | Phase::Pausing { .. }
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Ending { .. } => {}
        }
    }

    const fn ready(&mut self, now: Millis) {
        match self.phase {
            Phase::Starting { pid } => self.enter(now, Phase::Running { pid, beat: now }),
            Phase::Down
            | Phase::Waiting
            | Phase::Pausing { .. }
            | Phase::Spawning
            | Phase::Running { .. }
            | Phase::Ending { .. } => {}
        }
    }

    const fn beat(&mut self, now: Millis) {
        match &mut self.phase {
            Phase::Running { beat, .. } => *beat = now,
            Phase::Down
            | Phase::Waiting
            | Phase::Pausing { .. }
            | Phase::Spawning
            | Phase::Starting { .. }
            | Phase::Ending { .. } => {}
        }
    }

    fn lifeline_lost(&mut self, now: Millis) {
        let (pid, ready) = match self.phase {
            Phase::Starting { pid } => (pid, None),
            Phase::Running { pid, .. } => (pid, Some(self.since)),
            Phase::Down
            | Phase::Waiting
            | Phase::Pausing { .. }
            | Phase::Spawning
            | Phase::Ending { .. } => return,
        };
        let kill_at = Some(now.saturating_add(LAST_BREATH));
        self.enter(now, Phase::Ending { pid, cause: Cause::LifelineLost, kill_at, ready });
    }

    fn exited(&mut self, now: Millis, exit: Exit, effects: &mut Vec<Effect>) {
        let (pid, reason, ready) = match self.phase {
            Phase::Starting { pid } => (pid, Reason::of(exit), None),
            Phase::Running { pid, .. } => (pid, Reason::of(exit), Some(self.since)),
            Phase::Ending { pid, cause, kill_at, ready } => {
                (pid, Reason::after(cause, kill_at.is_none(), exit), ready)
            }
            Phase::Down | Phase::Waiting | Phase::Pausing { .. } | Phase::Spawning => return,
        };
        effects.push(Effect::Ended { pid, reason });
        let requested = matches!(self.phase, Phase::Ending { cause: Cause::Requested, .. });
        if requested && self.wanted {
            self.deaths = 0;
            self.enter(now, Phase::Waiting);
        } else {
            self.rest(now, ready);
        }
    }

    fn tick(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.phase {
            Phase::Pausing { .. } => self.enter(now, Phase::Waiting),
            Phase::Starting { pid } => self.kill(now, pid, Cause::Hang, None, effects),
            Phase::Running { pid, .. } => {
                self.kill(now, pid, Cause::Hang, Some(self.since), effects);
            }
            Phase::Ending { pid, cause, ready, .. } => self.kill(now, pid, cause, ready, effects),
            Phase::Down | Phase::Waiting | Phase::Spawning => {}
        }
    }

    const fn start(&mut self, now: Millis) {
        self.wanted = true;
        match self.phase {
            Phase::Down | Phase::Pausing { .. } => {
                self.deaths = 0;
                self.enter(now, Phase::Waiting);
            }
            // Who asks for another life does not want to wait for it.
            Phase::Ending { .. } => self.deaths = 0,
            Phase::Waiting | Phase::Spawning | Phase::Starting { .. } | Phase::Running { .. } => {}
        }
    }

    /// Ends the process that lives; where none does and none is wanted, there is nothing to end.
    fn end(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let (pid, ready) = match self.phase {
            // A module that is late with its beats will not hear a request either.
            Phase::Running { pid, beat } if now.saturating_sub(beat) > self.patience / 2 => {
                self.kill(now, pid, Cause::Requested, Some(self.since), effects);
                return;
            }
            Phase::Running { pid, .. } => (pid, Some(self.since)),
            Phase::Starting { pid } => (pid, None),
            Phase::Waiting | Phase::Pausing { .. } => {
                if !self.wanted {
                    self.enter(now, Phase::Down);
                }
                return;
            }
            Phase::Down | Phase::Spawning | Phase::Ending { .. } => return,
        };
        let kill_at = Some(now.saturating_add(self.policy.stop_timeout));
        self.enter(now, Phase::Ending { pid, cause: Cause::Requested, kill_at, ready });
        effects.push(Effect::Drain);
    }

    fn kill(
        &mut self,
        now: Millis,
        pid: u32,
        cause: Cause,
        ready: Option<Millis>,
        effects: &mut Vec<Effect>,
    ) {
        self.enter(now, Phase::Ending { pid, cause, kill_at: None, ready });
        effects.push(Effect::Kill(cause));
    }

    /// Goes where a module without a process belongs after a death or a failed spawn; `ready` is
    /// when the last life had become ready.
    fn rest(&mut self, now: Millis, ready: Option<Millis>) {
        let Restart { stable_after, .. } = self.policy.restart;
        if ready.is_some_and(|ready| now.saturating_sub(ready) >= stable_after) {
            self.deaths = 0;
        }
        let pause = self.policy.restart.pause(self.deaths);
        self.deaths = self.deaths.saturating_add(1);
        if !self.wanted {
            self.enter(now, Phase::Down);
        } else if pause == 0 {
            self.enter(now, Phase::Waiting);
        } else {
            self.enter(now, Phase::Pausing { until: now.saturating_add(pause) });
        }
    }

    const fn enter(&mut self, now: Millis, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }
}

#[cfg(test)]
mod tests;
