//! The life of jobs, whatever happens in which order, and whenever the process dies.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const TIME: &str = "2026-11-23T04:25:57Z";

/// A store, a cloud and hands, as simple as can be.
#[derive(Default)]
struct World {
    core: Core,
    /// The records that are in the store.
    store: BTreeMap<Name, String>,
    /// What is to be done and is not yet.
    todo: Vec<Effect>,
    /// What the cloud has heard of: job, step, whether it worked.
    heard: Vec<(Name, Action, bool)>,
    /// The steps that were begun.
    begun: Vec<Action>,
    /// What who agreed was told.
    answers: Vec<Result<(), String>>,
    /// The steps that fail.
    failing: Vec<Action>,
}

fn name(kind: &str, job: &str) -> Name {
    Name::parse(&format!("operations.kubeedge.io/{kind}/{job}/node/n"), "n").unwrap()
}

fn prepull(job: &str) -> Name {
    name("v1alpha2/imageprepulljob", job)
}

fn upgrade(job: &str) -> Name {
    name("v1alpha2/nodeupgradejob", job)
}

fn json_of(name: &Name, confirm: bool) -> String {
    let spec = match (name.api, name.kind) {
        (Api::V1alpha2, Kind::Upgrade) => {
            json!({"version": "v1.0.0", "requireConfirmation": confirm})
        }
        (Api::V1alpha2, Kind::Prepull) => json!({"imagePrePullTemplate": {"images": ["busybox"]}}),
        (_, Kind::Config) => json!({"updateFields": {"modules.edgeHub.heartbeat": "20"}}),
        (Api::V1alpha1, Kind::Upgrade) => json!({"State": "", "Item": {
            "UpgradeID": "u", "Version": "v1.0.0", "Image": "a/b", "RequireConfirmation": confirm,
            "CheckItem": ["mem"],
        }}),
        (Api::V1alpha1, Kind::Prepull) => json!({"Item": {"Images": ["a"], "CheckItem": []}}),
    };
    spec.to_string()
}

impl World {
    fn on(&mut self, event: Event) {
        self.todo.extend(self.core.on(event, TIME));
    }

    fn order(&mut self, name: &Name, action: Action, confirm: bool) {
        let json = json_of(name, confirm);
        self.on(Event::Ordered { name: name.clone(), action, json });
    }

    /// Does the next thing, if there is one.
    fn turn(&mut self) -> bool {
        if self.todo.is_empty() {
            return false;
        }
        match self.todo.remove(0) {
            Effect::Keep(name, serial, Some(json)) => {
                self.store.insert(name.clone(), json);
                self.on(Event::Kept(name, serial));
            }
            Effect::Keep(name, _, None) => drop(self.store.remove(&name)),
            Effect::Run { name, action, notes, .. } => {
                if action == Action::Upgrade {
                    assert_eq!(notes, "kept", "{name} knows what was before");
                }
                let kept: Value = serde_json::from_str(&self.store[&name]).unwrap();
                assert_eq!(kept[OWN_KEY]["action"], json!(action), "it was kept before it began");
                self.begun.push(action);
                let failure = self.failing.contains(&action).then(|| "no".to_owned());
                let notes = (action == Action::BackUp).then(|| json!("kept"));
                self.on(Event::Done(
                    name,
                    action,
                    Outcome { failure, notes, ..Outcome::default() },
                ));
            }
            Effect::Tell(name, report, number) => {
                self.heard.push((name.clone(), report.action, report.failure.is_none()));
                self.on(Event::Told(name, number));
            }
            Effect::Answer(answer) => self.answers.push(answer),
        }
        true
    }

    fn run(&mut self) {
        while self.turn() {}
    }

    /// The process dies and a new one reads the store.
    fn die(&mut self) {
        self.todo.clear();
        self.core = Core::default();
        for (name, json) in self.store.clone() {
            self.on(Event::Found { name, json });
        }
    }

    fn steps(&self) -> Vec<(Action, bool)> {
        self.heard.iter().map(|(_, action, worked)| (*action, *worked)).collect()
    }
}

#[test]
fn each_kind_goes_its_way_and_is_forgotten() {
    use Action::{BackUp, Check, Pull, RollBack, Update, Upgrade, WaitingConfirmation};
    let config = name("v1alpha2/configupdatejob", "c");
    for (name, failing, way) in [
        (prepull("p"), None, vec![(Check, true), (Pull, true)]),
        (prepull("p"), Some(Check), vec![(Check, false)]),
        (prepull("p"), Some(Pull), vec![(Check, true), (Pull, false)]),
        (config.clone(), None, vec![(Check, true), (BackUp, true), (Update, true)]),
        (
            config,
            Some(Update),
            vec![(Check, true), (BackUp, true), (Update, false), (RollBack, true)],
        ),
        (
            upgrade("u"),
            Some(Upgrade),
            vec![
                (Check, true),
                (WaitingConfirmation, true),
                (BackUp, true),
                (Upgrade, false),
                (RollBack, true),
            ],
        ),
    ] {
        let mut world = World { failing: failing.into_iter().collect(), ..World::default() };
        world.order(&name, Check, false);
        world.run();
        assert_eq!(world.steps(), way, "{name}");
        assert!(world.store.is_empty() && world.core.jobs.is_empty(), "{name}");
        let failed = u64::from(way.iter().any(|(_, worked)| !worked));
        assert_eq!(world.core.ended(), Ended { done: 1 - failed, failed }, "{name}");
    }
}

#[test]
fn an_upgrade_waits_for_who_agrees_over_deaths() {
    let mut world = World::default();
    world.on(Event::Confirmed);
    world.order(&upgrade("u"), Action::Check, true);
    world.run();
    assert_eq!(world.steps(), [(Action::Check, true), (Action::WaitingConfirmation, true)]);
    world.die();
    world.run();
    world.heard.clear();
    world.on(Event::Confirmed);
    world.run();
    assert_eq!(world.steps(), [(Action::BackUp, true), (Action::Upgrade, true)]);
    assert!(world.answers[0].is_err() && world.answers[1].is_ok());
    assert!(world.store.is_empty());
}

#[test]
fn the_older_api_orders_each_step_but_after_a_confirmation() {
    let old = name("v1alpha1/nodeupgradejob", "u");
    let mut world = World::default();
    for action in [Action::Init, Action::Check, Action::BackUp, Action::Upgrade] {
        world.order(&old, action, false);
        world.run();
        assert_eq!(world.steps().pop(), Some((action, true)));
    }
    world.heard.clear();
    world.begun.clear();
    world.order(&old, Action::Init, true);
    world.run();
    assert_eq!(world.steps(), [(Action::WaitingConfirmation, true)]);
    assert!(world.begun.is_empty());
    world.on(Event::Confirmed);
    world.run();
    assert_eq!(world.begun, [Action::Init, Action::BackUp, Action::Upgrade]);
    assert_eq!(world.steps()[1..], [(Action::Upgrade, true)]);
}

#[test]
fn what_starts_edgehub_anew_waits_until_the_cloud_has_heard_all() {
    let mut world = World::default();
    world.order(&name("v1alpha2/configupdatejob", "c"), Action::Check, false);
    let mut late = Vec::new();
    while !world.todo.is_empty() {
        if matches!(world.todo[0], Effect::Tell(..)) {
            late.push(world.todo.remove(0));
        } else {
            world.turn();
        }
    }
    assert_eq!(world.begun, [Action::Check, Action::BackUp]);
    world.todo.push(late.remove(1));
    world.run();
    assert_eq!(world.begun.last(), Some(&Action::Update));
    assert_eq!(world.steps().last(), Some(&(Action::Update, true)));
}

#[test]
fn the_older_api_hears_a_failure_as_one_of_what_it_ordered() {
    use Action::{BackUp, Init, RollBack, Upgrade};
    for (failing, of_order, of_confirmation) in [
        (BackUp, vec![(Upgrade, false)], vec![(Init, false)]),
        (Upgrade, vec![(Upgrade, false), (RollBack, true)], vec![(Init, false), (RollBack, true)]),
    ] {
        let old = name("v1alpha1/nodeupgradejob", "u");
        let mut world = World { failing: vec![failing], ..World::default() };
        world.order(&old, Upgrade, false);
        world.run();
        assert_eq!(world.steps(), of_order);
        world.order(&old, Init, true);
        world.run();
        world.heard.clear();
        world.on(Event::Confirmed);
        world.run();
        assert_eq!(world.steps(), of_confirmation);
        assert!(world.store.is_empty());
    }
}

#[test]
fn one_job_at_a_time_changes_the_agent() {
    let mut world = World::default();
    world.order(&upgrade("one"), Action::Check, false);
    world.order(&name("v1alpha2/configupdatejob", "two"), Action::Check, false);
    world.order(&prepull("three"), Action::Check, false);
    world.run();
    let refused: Vec<_> = world.heard.iter().filter(|(.., worked)| !worked).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(&*refused[0].0.job, "two");
    // One that waits for its confirmation gives way to a newer one.
    world.order(&upgrade("old"), Action::Check, true);
    world.run();
    world.order(&upgrade("new"), Action::Check, true);
    world.run();
    let failed = (upgrade("old"), Action::WaitingConfirmation, false);
    assert!(world.heard.contains(&failed), "{:?}", world.heard);
    assert_eq!(world.core.standing().count(), 1);
}

#[test]
fn nonsense_is_reported_and_too_many_jobs_are_refused() {
    let mut world = World::default();
    world.on(Event::Ordered { name: upgrade("u"), action: Action::Pull, json: "{}".to_owned() });
    let json = r#"{"version":"v1.0.0;reboot"}"#.to_owned();
    world.on(Event::Ordered { name: upgrade("v"), action: Action::Check, json });
    world.run();
    assert_eq!(world.steps(), [(Action::Pull, false), (Action::Check, false)]);
    assert!(world.begun.is_empty() && world.store.is_empty());
    assert_eq!((world.core.ended().failed, world.core.unheard()), (2, 0));
    for number in 0..100 {
        world.order(&prepull(&format!("p{number}")), Action::Check, false);
    }
    assert!(world.core.jobs.len() <= MAX_KNOWN);
    assert!(world.core.unheard() > 0, "refusals are on their way");
    world.run();
    assert!(world.core.jobs.is_empty() && world.store.is_empty());
}

#[derive(Clone, Debug)]
enum Happening {
    Order(usize, bool),
    Turn,
    Confirm,
    Die,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => (0_usize..5, any::<bool>()).prop_map(|(which, confirm)| Happening::Order(which, confirm)),
        12 => Just(Happening::Turn),
        1 => Just(Happening::Confirm),
        1 => Just(Happening::Die),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_every_job_ends_told(
        happenings in proptest::collection::vec(happening(), 0..120),
        failing in proptest::collection::vec(prop_oneof![
            Just(Action::Check), Just(Action::BackUp), Just(Action::Upgrade), Just(Action::Pull),
            Just(Action::Update), Just(Action::RollBack),
        ], 0..3),
    ) {
        let names = [
            prepull("a"),
            upgrade("b"),
            upgrade("c"),
            name("v1alpha2/configupdatejob", "d"),
            name("v1alpha1/nodeupgradejob", "e"),
        ];
        let mut world = World { failing, ..World::default() };
        for happening in happenings {
            match happening {
                Happening::Order(which, confirm) => {
                    let action = if which == 4 { Action::Init } else { Action::Check };
                    world.order(&names[which], action, confirm);
                }
                Happening::Turn => drop(world.turn()),
                Happening::Confirm => world.on(Event::Confirmed),
                Happening::Die => world.die(),
            }
            let changing = world.core.standing()
                .filter(|(name, _, waits)| name.kind.is_exclusive() && !waits);
            prop_assert!(changing.count() <= 1);
        }
        world.die();
        world.run();
        // What is left waits for somebody on the node, and goes on when there is one.
        prop_assert!(world.core.standing().all(|(.., waits)| waits));
        while world.core.standing().next().is_some() {
            world.on(Event::Confirmed);
            world.run();
        }
        prop_assert!(world.store.is_empty(), "{:?}", world.store);
    }
}
