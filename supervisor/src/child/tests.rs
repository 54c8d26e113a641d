//! The life of a module: examples that read like behaviours, and histories that nobody thought of.

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy {
    patience: 10_000,
    ready_timeout: 5000,
    stop_timeout: 3000,
    restart: Restart { initial: 1000, ceiling: 8000, stable_after: 60_000 },
};

const KILLED: Exit = Exit { status: Status::Signal(9), out_of_memory: false };
const CLEAN: Exit = Exit { status: Status::Code(0), out_of_memory: false };

/// A module with a clock, where time passes only when a test says so.
struct Life {
    child: Child,
    now: Millis,
    next_pid: u32,
}

impl Life {
    fn new() -> Self {
        Self { child: Child::new(POLICY, 0), now: 0, next_pid: 100 }
    }

    fn running() -> Self {
        let mut life = Self::new();
        life.tell(Event::Start);
        life.become_ready();
        life
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.child.on(self.now, event, &mut effects);
        effects
    }

    fn become_ready(&mut self) {
        assert_eq!(self.tell(Event::Turn), [Effect::Spawn]);
        self.next_pid += 1;
        assert_eq!(self.tell(Event::Spawned { pid: self.next_pid }), []);
        assert_eq!(self.tell(Event::Ready), []);
        assert_eq!(self.child.phase(), Phase::Running { pid: self.next_pid, beat: self.now });
    }

    fn wait(&mut self, duration: Millis) -> Vec<Effect> {
        self.now += duration;
        self.tell(Event::Tick)
    }

    fn ends(&mut self, exit: Exit) -> Reason {
        let effects = self.tell(Event::Exited(exit));
        let [Effect::Ended { pid, reason }] = effects[..] else { panic!("{effects:?}") };
        assert_eq!(pid, self.next_pid);
        reason
    }
}

#[test]
fn the_first_death_is_followed_by_a_start_at_once_and_the_next_by_growing_pauses() {
    let mut life = Life::running();
    assert_eq!(life.ends(KILLED), Reason::Signal(9));
    for pause in [1000, 2000, 4000] {
        life.become_ready();
        life.ends(KILLED);
        assert_eq!(life.child.deadline(), Some(life.now + pause));
        assert!(!life.child.held());
        assert_eq!(life.wait(pause - 1), []);
        assert_eq!(life.tell(Event::Turn), [], "no start before the pause is over");
        life.wait(1);
    }
    assert_eq!(life.child.restarts(), 3);
}

#[test]
fn a_module_that_keeps_dying_is_held_and_still_tried_at_the_longest_pause() {
    let mut life = Life::running();
    for _ in 0..40 {
        life.ends(KILLED);
        if let Some(deadline) = life.child.deadline() {
            life.wait(deadline - life.now);
        }
        life.become_ready();
    }
    life.ends(KILLED);
    assert!(life.child.held());
    assert_eq!(life.child.deadline(), Some(life.now + 8000));
    life.wait(8000);
    life.become_ready();
    assert!(!life.child.held());
}

#[test]
fn a_stable_minute_forgives_all_deaths() {
    let mut life = Life::running();
    life.ends(KILLED);
    life.become_ready();
    for _ in 0..12 {
        life.wait(5000);
        life.tell(Event::Beat);
    }
    life.ends(KILLED);
    assert_eq!(life.child.phase(), Phase::Waiting);
}

#[test]
fn a_module_that_misses_its_beats_is_killed_as_hung() {
    let mut life = Life::running();
    life.wait(9999);
    assert_eq!(life.tell(Event::Beat), []);
    assert_eq!(life.wait(9999), []);
    assert_eq!(life.wait(1), [Effect::Kill(Cause::Hang)]);
    assert_eq!(life.wait(60_000), [], "it is killed once");
    assert_eq!(life.ends(KILLED), Reason::Hang);
}

#[test]
fn a_module_that_does_not_become_ready_is_killed_as_hung() {
    let mut life = Life::new();
    life.tell(Event::Start);
    life.tell(Event::Turn);
    life.next_pid = 7;
    life.tell(Event::Spawned { pid: 7 });
    assert_eq!(life.wait(4999), []);
    assert_eq!(life.wait(1), [Effect::Kill(Cause::Hang)]);
    assert_eq!(life.ends(KILLED), Reason::Hang);
}

#[test]
fn a_stop_is_a_request_first_and_final() {
    let mut life = Life::running();
    assert_eq!(life.tell(Event::Stop), [Effect::Drain]);
    assert_eq!(life.wait(2999), []);
    assert_eq!(life.wait(1), [Effect::Kill(Cause::Requested)]);
    assert_eq!(life.ends(KILLED), Reason::Requested);
    assert_eq!(life.child.phase(), Phase::Down);
    assert_eq!(life.wait(1_000_000), []);
    assert_eq!(life.tell(Event::Turn), []);
    life.tell(Event::Start);
    life.become_ready();
}

#[test]
fn a_restart_takes_no_pause() {
    let mut life = Life::running();
    life.ends(KILLED);
    life.become_ready();
    assert_eq!(life.tell(Event::Restart), [Effect::Drain]);
    assert_eq!(life.ends(CLEAN), Reason::Requested);
    assert_eq!(life.child.phase(), Phase::Waiting);
}

#[test]
fn a_stopped_process_that_is_late_with_its_beats_is_not_asked_but_killed() {
    let mut life = Life::running();
    life.wait(5001);
    assert_eq!(life.tell(Event::Restart), [Effect::Kill(Cause::Requested)]);
    assert_eq!(life.ends(KILLED), Reason::Requested);
    assert_eq!(life.child.phase(), Phase::Waiting);
}

#[test]
fn a_crash_on_the_way_down_is_told_as_a_crash() {
    let mut life = Life::running();
    life.tell(Event::Stop);
    let crash = Exit { status: Status::Signal(11), out_of_memory: false };
    assert_eq!(life.ends(crash), Reason::Signal(11));
}

#[test]
fn a_death_is_not_mistaken_for_a_closed_lifeline() {
    let mut life = Life::running();
    assert_eq!(life.tell(Event::LifelineLost), []);
    assert_eq!(life.ends(KILLED), Reason::Signal(9));
}

#[test]
fn a_module_without_its_lifeline_has_one_breath_left() {
    let mut life = Life::running();
    life.tell(Event::LifelineLost);
    assert_eq!(life.wait(LAST_BREATH), [Effect::Kill(Cause::LifelineLost)]);
    assert_eq!(life.ends(KILLED), Reason::LifelineClosed);
    let mut life = Life::running();
    life.tell(Event::LifelineLost);
    let orphaned = Exit { status: Status::Code(3), out_of_memory: false };
    assert_eq!(life.ends(orphaned), Reason::LifelineClosed);
}

#[test]
fn a_death_of_the_memory_bound_is_told_as_such() {
    let mut life = Life::running();
    let exit = Exit { out_of_memory: true, ..KILLED };
    assert_eq!(life.ends(exit), Reason::OutOfMemory);
}

#[test]
fn a_new_policy_does_not_kill_a_process_that_beats_as_it_was_told() {
    let mut life = Life::running();
    life.child.set_policy(Policy { patience: 100, ..POLICY });
    assert_eq!(life.wait(5000), []);
    life.ends(KILLED);
    life.become_ready();
    assert_eq!(life.wait(100), [Effect::Kill(Cause::Hang)]);
}

#[test]
fn reasons_are_printed_as_the_control_protocol_documents_them() {
    let printed = [
        Reason::Signal(9),
        Reason::Exit(1),
        Reason::Hang,
        Reason::OutOfMemory,
        Reason::Requested,
        Reason::LifelineClosed,
    ]
    .map(|reason| reason.to_string());
    assert_eq!(printed, ["signal 9", "exit 1", "hang", "oom", "requested", "lifeline closed"]);
}

/// What a world without manners may do; most of it at the wrong time.
fn events() -> impl Strategy<Value = Vec<(Millis, Event)>> {
    let exit = (any::<bool>(), any::<bool>(), -1..12_i32).prop_map(|(memory, signal, number)| {
        let status = if signal { Status::Signal(number.max(1)) } else { Status::Code(number) };
        Event::Exited(Exit { status, out_of_memory: memory })
    });
    let event = prop_oneof![
        4 => Just(Event::Turn),
        4 => Just(Event::Spawned { pid: 0 }),
        1 => Just(Event::NotSpawned),
        4 => Just(Event::Ready),
        2 => Just(Event::Beat),
        1 => Just(Event::LifelineLost),
        4 => exit,
        4 => Just(Event::Tick),
        2 => Just(Event::Start),
        1 => Just(Event::Stop),
        1 => Just(Event::Restart),
    ];
    let step = prop_oneof![3 => 0..10_u64, 1 => 0..2000_u64, 1 => 0..100_000_u64];
    prop::collection::vec((step, event), 0..200)
}

/// What a history must never show, kept while it runs.
#[derive(Default)]
struct Watch {
    /// A spawn was asked for and not answered.
    asked: bool,
    process: Option<u32>,
    wanted: bool,
    next_pid: u32,
    /// No spawn may be asked for before this.
    not_before: Millis,
}

impl Watch {
    /// Makes an event fit the world: answers come only to questions, deaths only to the living.
    fn fit(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Spawned { .. } if self.asked => {
                self.asked = false;
                self.next_pid += 1;
                self.process = Some(self.next_pid);
                Some(Event::Spawned { pid: self.next_pid })
            }
            Event::NotSpawned if self.asked => {
                self.asked = false;
                Some(event)
            }
            Event::Exited(_) if self.process.is_some() => Some(event),
            Event::Spawned { .. } | Event::NotSpawned | Event::Exited(_) => None,
            Event::Start | Event::Restart => {
                self.wanted = true;
                Some(event)
            }
            Event::Stop => {
                self.wanted = false;
                Some(event)
            }
            Event::Turn | Event::Ready | Event::Beat | Event::LifelineLost | Event::Tick => {
                Some(event)
            }
        }
    }

    fn check(&mut self, now: Millis, event: Event, effects: &[Effect]) {
        let ends = effects.iter().filter(|one| matches!(one, Effect::Ended { .. })).count();
        let died = matches!(event, Event::Exited(_));
        assert_eq!(ends, usize::from(died), "no_effect_lost: one end for each death");
        if died {
            self.process = None;
        }
        for effect in effects {
            match effect {
                Effect::Spawn => {
                    assert!(!self.asked && self.process.is_none(), "never_spawns_while_one_lives");
                    assert!(self.wanted, "stop_is_final_until_start");
                    assert!(now >= self.not_before, "no_start_before_the_pause_is_over");
                    self.asked = true;
                }
                Effect::Drain | Effect::Kill(_) => {
                    assert!(self.process.is_some(), "only_the_living_are_asked_or_killed");
                }
                Effect::Ended { .. } => {}
            }
        }
    }

    fn check_pause(&mut self, now: Millis, child: &Child) {
        self.not_before = match child.phase() {
            Phase::Pausing { until } => {
                let pause = until - child.since();
                assert!((1000..=8000).contains(&pause), "the_pause_is_within_its_bounds: {pause}");
                assert_eq!(child.held(), pause == 8000, "held_means_the_longest_pause");
                until
            }
            Phase::Down
            | Phase::Waiting
            | Phase::Spawning
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Ending { .. } => now,
        };
        assert_eq!(child.pid(), self.process, "the_process_is_the_one_that_lives");
        assert_eq!(child.wanted(), self.wanted, "the_last_word_counts");
    }
}

proptest! {
    #[test]
    fn no_history_breaks_an_invariant(history in events()) {
        let (mut child, mut watch, mut now) = (Child::new(POLICY, 0), Watch::default(), 0);
        for (step, event) in history {
            now += step;
            let Some(event) = watch.fit(event) else { continue };
            let mut effects = Vec::new();
            child.on(now, event, &mut effects);
            watch.check(now, event, &effects);
            watch.check_pause(now, &child);
        }
    }

    /// Whatever happened before, a module that is wanted runs in the end if its processes behave,
    /// and one that is not wanted ends.
    #[test]
    fn every_history_can_still_end_well(history in events(), wanted in any::<bool>()) {
        let (mut child, mut watch, mut now) = (Child::new(POLICY, 0), Watch::default(), 0);
        for (step, event) in history {
            now += step;
            let Some(event) = watch.fit(event) else { continue };
            let mut effects = Vec::new();
            child.on(now, event, &mut effects);
            watch.check(now, event, &effects);
        }
        child.on(now, if wanted { Event::Start } else { Event::Stop }, &mut Vec::new());
        for _ in 0..20 {
            let event = match child.phase() {
                Phase::Down | Phase::Running { .. } => break,
                Phase::Waiting => Event::Turn,
                Phase::Spawning => Event::Spawned { pid: 1 },
                Phase::Starting { .. } => Event::Ready,
                Phase::Ending { kill_at: None, .. } => Event::Exited(KILLED),
                Phase::Pausing { .. } | Phase::Ending { .. } => {
                    now = child.deadline().expect("every wait has an end");
                    Event::Tick
                }
            };
            child.on(now, event, &mut Vec::new());
        }
        prop_assert_eq!(matches!(child.phase(), Phase::Running { .. }), wanted);
        prop_assert_eq!(child.phase() == Phase::Down, !wanted);
    }
}
