//! The order among modules: examples, and histories with every module in them.

use Module::{Devicetwin, Edged, Edgehub, Edgemesh, Eventbus, Metamanager, Metaserver};
use proptest::prelude::*;

use super::*;
use crate::child::{Exit, Reason, Restart, Status};

const POLICY: Policy = Policy {
    patience: 10_000,
    ready_timeout: 5000,
    stop_timeout: 3000,
    restart: Restart { initial: 1000, ceiling: 8000, stable_after: 60_000 },
};

fn all() -> ModuleSet {
    Module::ALL.into_iter().collect()
}

fn set(modules: &[Module]) -> ModuleSet {
    modules.iter().copied().collect()
}

/// A fleet with a world around it that does what it is asked and remembers the order.
struct World {
    fleet: Fleet,
    now: Millis,
    processes: [Option<u32>; Module::COUNT],
    asked: ModuleSet,
    next_pid: u32,
    done: Effects,
}

impl World {
    fn new(enabled: ModuleSet) -> Self {
        Self {
            fleet: Fleet::new(POLICY, enabled, 0),
            now: 0,
            processes: [None; Module::COUNT],
            asked: ModuleSet::EMPTY,
            next_pid: 100,
            done: Vec::new(),
        }
    }

    /// Puts an input in and answers every spawn with a process.
    fn input(&mut self, input: Input) -> Effects {
        let mut effects = Vec::new();
        self.fleet.on(self.now, input, &mut effects);
        let mut at = 0;
        while at < effects.len() {
            let (module, effect) = effects[at];
            self.note(module, effect);
            if effect == Effect::Spawn {
                self.asked = self.asked.without(module);
                self.next_pid += 1;
                self.processes[module.index()] = Some(self.next_pid);
                let spawned = Event::Spawned { pid: self.next_pid };
                self.fleet.on(self.now, Input::Module(module, spawned), &mut effects);
            }
            at += 1;
        }
        self.done.extend_from_slice(&effects);
        effects
    }

    fn note(&mut self, module: Module, effect: Effect) {
        let process = &mut self.processes[module.index()];
        match effect {
            Effect::Spawn => {
                assert!(process.is_none() && !self.asked.contains(module), "never_two_processes");
                assert!(self.fleet.enabled().contains(module), "only_enabled_modules_run");
                self.asked = self.asked.with(module);
            }
            Effect::Drain | Effect::Kill(_) => assert!(process.is_some(), "only_the_living_end"),
            Effect::Ended { pid, .. } => assert_eq!(process.take(), Some(pid), "each_end_once"),
        }
    }

    fn module(&mut self, module: Module, event: Event) -> Effects {
        self.input(Input::Module(module, event))
    }

    fn exit(&mut self, module: Module, code: i32) -> Effects {
        let exit = Exit { status: Status::Code(code), out_of_memory: false };
        self.module(module, Event::Exited(exit))
    }

    /// Lets every process that was made become ready, until nobody else is made.
    fn all_become_ready(&mut self) {
        while let Some(module) = all()
            .iter()
            .find(|module| matches!(self.fleet.child(*module).phase(), Phase::Starting { .. }))
        {
            self.module(module, Event::Ready);
        }
    }

    fn running(enabled: ModuleSet) -> Self {
        let mut world = Self::new(enabled);
        world.input(Input::Start(enabled));
        world.all_become_ready();
        world.done.clear();
        world
    }

    fn order_of(&self, wanted: Effect) -> Vec<Module> {
        let of = |(module, effect): &(Module, Effect)| (*effect == wanted).then_some(*module);
        self.done.iter().filter_map(of).collect()
    }

    fn lives(&self, module: Module) -> bool {
        self.processes[module.index()].is_some()
    }
}

#[test]
fn modules_start_in_dial_order_each_when_those_that_it_dials_are_ready() {
    let mut world = World::new(all());
    assert_eq!(world.input(Input::Start(all())), [(Metamanager, Effect::Spawn)]);
    let spawned = world.module(Metamanager, Event::Ready);
    let second = [Devicetwin, Edged, Edgemesh].map(|module| (module, Effect::Spawn));
    assert_eq!(spawned, second);
    assert!(!world.fleet.settled());
    world.all_become_ready();
    assert!(world.fleet.settled());
    let order = world.order_of(Effect::Spawn);
    for (at, module) in order.iter().enumerate() {
        assert!(module.dials().iter().all(|dialled| order[..at].contains(dialled)), "{order:?}");
    }
    assert_eq!(order.len(), Module::COUNT);
}

#[test]
fn a_module_does_not_wait_long_for_one_that_does_not_come() {
    let mut world = World::new(all());
    world.input(Input::Start(all()));
    world.now = TURN_LIMIT;
    assert_eq!(world.fleet.deadline(), Some(TURN_LIMIT));
    world.input(Input::Tick);
    assert_eq!(world.order_of(Effect::Spawn).len(), Module::COUNT);
}

#[test]
fn a_module_does_not_wait_for_one_that_failed_or_is_disabled() {
    let mut world = World::new(set(&[Metamanager, Edged, Edgehub]));
    world.input(Input::Start(world.fleet.enabled()));
    world.exit(Metamanager, 1);
    world.exit(Metamanager, 1);
    assert!(!world.lives(Metamanager));
    assert_eq!(world.order_of(Effect::Spawn), [Metamanager, Metamanager, Edgehub, Edged]);
}

#[test]
fn modules_stop_in_reverse_order_each_when_those_that_dial_it_have_ended() {
    let mut world = World::running(all());
    world.input(Input::Shutdown);
    assert!(world.fleet.stopping());
    while let Some((module, _)) = world
        .done
        .iter()
        .copied()
        .find(|(module, effect)| *effect == Effect::Drain && world.lives(*module))
    {
        let diallers: Vec<_> =
            module.dialled_by().filter(|dialler| world.lives(*dialler)).collect();
        assert_eq!(diallers, [], "{module} was asked to end before those that dial it had ended");
        world.exit(module, 0);
    }
    assert!(world.fleet.finished());
    assert_eq!(world.order_of(Effect::Drain).last(), Some(&Metamanager));
}

#[test]
fn a_module_that_dies_while_the_agent_stops_is_not_started_again() {
    let mut world = World::running(all());
    world.input(Input::Shutdown);
    world.exit(Metamanager, 1);
    world.input(Input::Start(all()));
    world.now += 100_000;
    world.input(Input::Tick);
    assert!(!world.lives(Metamanager));
    assert_eq!(world.order_of(Effect::Spawn), []);
}

#[test]
fn one_module_restarts_while_all_others_live_on() {
    let mut world = World::running(all());
    let before = world.processes;
    assert_eq!(world.input(Input::Restart(set(&[Metamanager]))), [(Metamanager, Effect::Drain)]);
    let ended = world.exit(Metamanager, 0);
    assert!(matches!(
        ended[..],
        [(_, Effect::Ended { reason: Reason::Requested, .. }), (_, Effect::Spawn)]
    ));
    world.all_become_ready();
    for module in Module::ALL {
        assert_eq!(
            world.processes[module.index()] == before[module.index()],
            module != Metamanager
        );
    }
}

#[test]
fn several_modules_restart_in_order() {
    let mut world = World::running(all());
    world.input(Input::Restart(set(&[Metamanager, Edged, Metaserver])));
    assert_eq!(world.order_of(Effect::Drain), [Metaserver]);
    world.exit(Metaserver, 0);
    world.exit(Edged, 0);
    assert_eq!(world.order_of(Effect::Drain), [Metaserver, Edged, Metamanager]);
    assert_eq!(world.order_of(Effect::Spawn), [], "they wait for metamanager");
    world.exit(Metamanager, 0);
    world.all_become_ready();
    assert_eq!(world.order_of(Effect::Spawn), [Metamanager, Edged, Metaserver]);
}

#[test]
fn a_stop_overtakes_a_restart_and_a_start_takes_back_a_stop() {
    let mut world = World::running(all());
    let both = set(&[Metamanager, Edged]);
    world.input(Input::Restart(both));
    world.input(Input::Stop(set(&[Metamanager])));
    world.input(Input::Start(set(&[Metamanager])));
    world.exit(Edged, 0);
    assert_eq!(world.order_of(Effect::Drain), [Edged]);
}

#[test]
fn a_reload_ends_nobody_but_those_whose_peers_have_changed() {
    let mut world = World::running(all());
    let mut effects = Vec::new();
    world.fleet.configure(1, POLICY, all(), ModuleSet::EMPTY, &mut effects);
    assert_eq!(effects, []);
    let moved = set(&[Eventbus]);
    let anew = world.fleet.configure(1, POLICY, all().without(Eventbus), moved, &mut effects);
    assert_eq!(anew, set(&[Metamanager, Devicetwin, Edgehub]));
    assert_eq!(effects, [(Eventbus, Effect::Drain)]);
}

#[test]
fn a_module_that_is_disabled_cannot_be_started() {
    let mut world = World::running(all().without(Edgemesh));
    assert_eq!(world.input(Input::Start(all())), []);
    assert_eq!(world.input(Input::Restart(set(&[Edgemesh]))), []);
    assert!(!world.lives(Edgemesh));
}

fn inputs() -> impl Strategy<Value = Vec<(Millis, Input)>> {
    let module = || prop::sample::select(Module::ALL.to_vec());
    let modules = || {
        any::<[bool; Module::COUNT]>().prop_map(|chosen| {
            Module::ALL.into_iter().filter(|module| chosen[module.index()]).collect::<ModuleSet>()
        })
    };
    let code = prop_oneof![Just(0), Just(1)];
    let exit = (module(), code).prop_map(|(module, code)| {
        let exit = Exit { status: Status::Code(code), out_of_memory: false };
        Input::Module(module, Event::Exited(exit))
    });
    let input = prop_oneof![
        8 => module().prop_map(|module| Input::Module(module, Event::Ready)),
        4 => module().prop_map(|module| Input::Module(module, Event::Beat)),
        1 => module().prop_map(|module| Input::Module(module, Event::LifelineLost)),
        8 => exit,
        8 => Just(Input::Tick),
        2 => modules().prop_map(Input::Start),
        1 => modules().prop_map(Input::Stop),
        1 => modules().prop_map(Input::Restart),
    ];
    prop::collection::vec((prop_oneof![3 => 0..50_u64, 1 => 0..20_000_u64], input), 0..150)
}

/// Runs a history in a world where only the living die.
fn run(world: &mut World, history: Vec<(Millis, Input)>) {
    for (step, input) in history {
        world.now += step;
        if let Input::Module(module, Event::Exited(_)) = input
            && !world.lives(module)
        {
            continue;
        }
        world.input(input);
    }
}

proptest! {
    /// `note` checks never_two_processes, only_enabled_modules_run, only_the_living_end and
    /// each_end_once on the way.
    #[test]
    fn every_history_ends_with_all_running_again(history in inputs()) {
        let mut world = World::new(all());
        world.input(Input::Start(all()));
        run(&mut world, history);
        world.input(Input::Start(all()));
        for _ in 0..200 {
            world.all_become_ready();
            let ending = all().iter().find(|module| {
                matches!(world.fleet.child(*module).phase(), Phase::Ending { .. })
            });
            match ending {
                Some(module) => {
                    world.exit(module, 0);
                }
                None if all().iter().all(|module| world.lives(module)) => break,
                None => {
                    let deadline = world.fleet.deadline().expect("somebody is still to come");
                    world.now = world.now.max(deadline);
                    world.input(Input::Tick);
                }
            }
        }
        prop_assert!(world.fleet.settled());
        prop_assert!(all().iter().all(|module| world.lives(module)));
    }

    #[test]
    fn every_history_can_be_shut_down(history in inputs(), deaf in any::<bool>()) {
        let mut world = World::new(all());
        world.input(Input::Start(all()));
        run(&mut world, history);
        world.input(Input::Shutdown);
        world.done.clear();
        for _ in 0..200 {
            let ending = all().iter().find(|module| {
                let phase = world.fleet.child(*module).phase();
                matches!(phase, Phase::Ending { kill_at, .. } if kill_at.is_none() || !deaf)
            });
            match ending {
                Some(module) => {
                    world.exit(module, 0);
                }
                None if world.fleet.finished() => break,
                None => {
                    world.now = world.now.max(world.fleet.deadline().expect("a time to kill"));
                    world.input(Input::Tick);
                }
            }
        }
        prop_assert!(world.fleet.finished());
        prop_assert_eq!(world.order_of(Effect::Spawn), [], "stop_is_final");
    }
}
