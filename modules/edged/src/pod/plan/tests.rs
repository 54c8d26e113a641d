//! The plan against a runtime made up of lists: whatever happens to it, the pod gets where it is to
//! be, in order, once.

use proptest::prelude::*;

use super::*;

/// A runtime that does what it is told, unless it is to fail.
#[derive(Debug, Default)]
struct World {
    seen: Seen,
    ledger: Ledger,
    now: i64,
    next: u32,
    /// Names of the containers in the order in which they were started.
    started: Vec<String>,
}

impl World {
    fn id(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{kind}{}", self.next)
    }

    fn take(&mut self, pod: &Pod, step: Step) {
        match step {
            Step::Stop { id, .. } => self.exit(&id, 137),
            Step::StopSandbox(id) => {
                assert!(!self.seen.containers.iter().any(|c| c.sandbox == id && c.is_alive()));
                self.seen.sandboxes.iter_mut().filter(|s| s.id == id).for_each(|s| s.ready = false);
            }
            Step::MakeSandbox { attempt } => {
                assert!(!self.seen.sandboxes.iter().any(|sandbox| sandbox.ready), "two at once");
                assert!(self.seen.sandboxes.iter().all(|sandbox| sandbox.attempt < attempt));
                let (id, ips) = (self.id("s"), vec!["10.0.0.1".to_owned()]);
                self.seen.sandboxes.insert(0, Sandbox { id, attempt, ready: true, ips });
            }
            Step::Start { name, sandbox, restarts } => self.start(pod, name, sandbox, restarts),
            Step::Remove(id) => {
                let at = self.seen.containers.iter().position(|c| c.id == id).expect("it exists");
                assert!(!self.seen.containers.remove(at).is_alive());
            }
            Step::RemoveSandbox(id) => self.seen.sandboxes.retain(|sandbox| sandbox.id != id),
        }
    }

    fn start(&mut self, pod: &Pod, name: String, sandbox: String, restarts: u32) {
        let newest = &self.seen.sandboxes[0];
        assert!(newest.ready && newest.id == sandbox, "started outside the sandbox in use");
        let alive = |c: &&Contained| c.name == name && c.is_alive();
        assert!(self.seen.containers.iter().find(alive).is_none(), "{name} runs twice");
        if let Some(finished) = self.seen.latest(&name).map(|latest| latest.finished) {
            let pause = self.ledger.pauses.entry(name.clone()).or_default();
            assert!(self.now >= pause.until(finished), "started in its pause");
            pause.grow(finished, self.now);
        }
        let id = self.id("c");
        let hash = pod.spec.container(&name).map(names::hash);
        let health = Health { started: true, ready: true, sick: None };
        self.ledger.health.insert(id.clone(), health);
        self.started.push(name.clone());
        let (state, started) = (State::Running, self.now);
        let new =
            Contained { id, sandbox, name, state, restarts, hash, started, ..Contained::default() };
        self.seen.containers.insert(0, new);
    }

    fn exit(&mut self, id: &str, code: i32) {
        let now = self.now;
        for container in self.seen.containers.iter_mut().filter(|c| c.id == id && c.is_alive()) {
            (container.state, container.exit_code, container.finished) = (State::Exited, code, now);
        }
    }

    /// Follows the plans until there is nothing to do; init containers end well meanwhile.
    fn settle(&mut self, pod: &Pod, end: Option<i64>) -> Plan {
        for _ in 0..200 {
            let plan = plan(pod, &self.seen, &self.ledger, end, self.now);
            assert_eq!(plan, super::plan(pod, &self.seen, &self.ledger, end, self.now));
            let steps = plan.steps.clone();
            let idle = steps.is_empty();
            steps.into_iter().for_each(|step| self.take(pod, step));
            let inits = pod.spec.init_containers.iter().filter(|init| !init.is_sidecar());
            let running: Vec<_> = inits
                .filter_map(|init| self.seen.latest(&init.name))
                .filter(|latest| latest.state == State::Running)
                .map(|latest| latest.id.clone())
                .collect();
            running.iter().for_each(|id| self.exit(id, 0));
            match plan.wake {
                _ if !idle || !running.is_empty() => {}
                Some(wake) if wake > self.now => self.now = wake,
                _ => return plan,
            }
        }
        panic!("the plan does not come to an end: {self:#?}");
    }
}

fn pod(policy: RestartPolicy, inits: &[(&str, bool)], mains: &[&str]) -> Pod {
    let container = |name: &str| Container { name: name.to_owned(), ..Container::default() };
    let mut pod = Pod::default();
    pod.spec.restart_policy = policy;
    pod.spec.containers = mains.iter().map(|name| container(name)).collect();
    pod.spec.init_containers = inits
        .iter()
        .map(|(name, sidecar)| Container {
            restart_policy: sidecar.then_some(RestartPolicy::Always),
            ..container(name)
        })
        .collect();
    pod
}

fn running(world: &World) -> Vec<&str> {
    let mut names: Vec<_> =
        world.seen.containers.iter().filter(|c| c.is_alive()).map(|c| &*c.name).collect();
    names.sort_unstable();
    names
}

#[test]
fn init_containers_run_in_order_before_the_others() {
    let pod =
        pod(RestartPolicy::Always, &[("i1", false), ("side", true), ("i2", false)], &["a", "b"]);
    let mut world = World::default();
    assert_eq!(world.settle(&pod, None).stage, Stage::Living);
    assert_eq!(world.started, ["i1", "side", "i2", "a", "b"]);
    assert_eq!(running(&world), ["a", "b", "side"]);
    let plan = world.settle(&pod, Some(5));
    assert_eq!((plan.stage, running(&world).len()), (Stage::Ended, 0));
}

#[test]
fn a_sidecar_outlives_the_others_and_ends_with_them() {
    let pod = pod(RestartPolicy::Never, &[("side", true)], &["a"]);
    let mut world = World::default();
    world.settle(&pod, None);
    let id = world.seen.latest("a").expect("it runs").id.clone();
    world.exit(&id, 0);
    let first = plan(&pod, &world.seen, &world.ledger, None, world.now);
    assert!(matches!(&first.steps[..], [Step::Stop { name, .. }] if name == "side"), "{first:?}");
    assert_eq!(world.settle(&pod, None).stage, Stage::Done);
    assert_eq!(world.started, ["side", "a"]);
}

#[test]
fn an_init_container_that_failed_for_good_fails_the_pod() {
    let pod = pod(RestartPolicy::Never, &[("i", false)], &["a"]);
    let mut world = World::default();
    for _ in 0..2 {
        let plan = plan(&pod, &world.seen, &world.ledger, None, 0);
        plan.steps.into_iter().for_each(|step| world.take(&pod, step));
    }
    world.exit("c2", 3);
    assert_eq!(world.settle(&pod, None).stage, Stage::Done);
    assert_eq!(world.started, ["i"]);
}

#[test]
fn restart_policies_are_kept() {
    for (policy, code, again) in [
        (RestartPolicy::Always, 0, true),
        (RestartPolicy::OnFailure, 0, false),
        (RestartPolicy::OnFailure, 1, true),
        (RestartPolicy::Never, 1, false),
    ] {
        let pod = pod(policy, &[], &["a"]);
        let mut world = World::default();
        world.settle(&pod, None);
        world.exit("c2", code);
        let plan = world.settle(&pod, None);
        assert_eq!(plan.stage == Stage::Living, again, "{policy:?} {code}");
        assert_eq!(world.started.len(), 1 + usize::from(again));
        assert_eq!(world.seen.sandboxes[0].ready, again);
    }
}

#[test]
fn a_container_whose_specification_changed_is_made_anew() {
    let mut pod = pod(RestartPolicy::Never, &[], &["a", "b"]);
    let mut world = World::default();
    world.settle(&pod, None);
    pod.spec.containers[0].image = "other".to_owned();
    world.settle(&pod, None);
    assert_eq!((world.started.len(), running(&world)), (3, vec!["a", "b"]));
}

#[test]
fn what_could_not_be_done_waits_for_its_time() {
    let pod = pod(RestartPolicy::Always, &[], &["a"]);
    let mut world = World::default();
    let hold = Hold { until: 500, ..Hold::default() };
    world.ledger.holds.insert(SANDBOX.to_owned(), hold);
    let plan = plan(&pod, &world.seen, &world.ledger, None, 0);
    assert_eq!((plan.steps.len(), plan.wake), (0, Some(500)));
    world.settle(&pod, None);
    assert!(world.now >= 500 && running(&world) == ["a"]);
}

#[test]
fn a_container_that_was_made_and_never_started_is_no_restart() {
    let pod = pod(RestartPolicy::Always, &[], &["a"]);
    let mut world = World::default();
    world.settle(&pod, None);
    let ran = &mut world.seen.containers[0];
    (ran.state, ran.id) = (State::Created, "made".to_owned());
    let first = plan(&pod, &world.seen, &world.ledger, None, world.now);
    assert_eq!(first.steps, [Step::Remove("made".to_owned())]);
    world.settle(&pod, None);
    assert_eq!((running(&world), world.seen.containers[0].restarts), (vec!["a"], 0));
}

#[test]
fn restarts_are_counted_on_when_the_runtime_forgot_those_that_ran() {
    let mut pod = pod(RestartPolicy::Always, &[], &["a"]);
    let told = r#"{"containerStatuses":[{"name":"a","containerID":"r://gone","restartCount":7}]}"#;
    pod.status = serde_json::from_str(told).unwrap();
    let mut world = World::default();
    world.settle(&pod, None);
    assert_eq!((running(&world), world.seen.containers[0].restarts), (vec!["a"], 8));
}

/// Something that happens to a pod.
#[derive(Clone, Debug)]
enum Mishap {
    Exit(usize, i32),
    Lose(usize),
    Sick(usize),
    SandboxDies,
    Reboot,
    SecondSandbox,
    Double(usize),
    Foreign,
    Later(i64),
    Half,
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        (0..6_usize, 0..2_i32).prop_map(|(at, code)| Mishap::Exit(at, code)),
        (0..6_usize).prop_map(Mishap::Lose),
        (0..6_usize).prop_map(Mishap::Sick),
        Just(Mishap::SandboxDies),
        Just(Mishap::Reboot),
        Just(Mishap::SecondSandbox),
        (0..6_usize).prop_map(Mishap::Double),
        Just(Mishap::Foreign),
        (0..900_000_i64).prop_map(Mishap::Later),
        Just(Mishap::Half),
    ]
}

fn suffer(world: &mut World, pod: &Pod, mishap: &Mishap) {
    let at = |world: &World, at: usize| world.seen.containers.get(at).map(|c| c.id.clone());
    match *mishap {
        Mishap::Exit(index, code) => {
            if let Some(id) = at(world, index) {
                world.exit(&id, code);
            }
        }
        Mishap::Lose(index) => {
            if let Some(container) = world.seen.containers.get_mut(index).filter(|c| c.is_alive()) {
                container.state = State::Unknown;
            }
        }
        Mishap::Sick(index) => {
            if let Some(id) = at(world, index) {
                world.ledger.health.entry(id).or_default().sick = Some(Sick::default());
            }
        }
        Mishap::SandboxDies => world.seen.sandboxes.iter_mut().for_each(|s| s.ready = false),
        Mishap::Reboot => {
            let now = world.now;
            world.seen.sandboxes.iter_mut().for_each(|s| s.ready = false);
            for container in world.seen.containers.iter_mut().filter(|c| c.is_alive()) {
                (container.state, container.exit_code, container.finished) =
                    (State::Exited, 255, now);
            }
        }
        Mishap::SecondSandbox => {
            let attempt = world.seen.sandboxes.first().map_or(0, |s| s.attempt + 1);
            let (id, ips) = (world.id("s"), vec!["10.0.0.2".to_owned()]);
            world.seen.sandboxes.insert(0, Sandbox { id, attempt, ready: true, ips });
        }
        Mishap::Double(index) => {
            let alive = world.seen.containers.get(index).filter(|it| it.is_alive());
            if let Some(container) = alive.cloned() {
                let id = world.id("c");
                world.seen.containers.insert(0, Contained { id, ..container });
            }
        }
        Mishap::Foreign => {
            let sandbox = world.seen.sandboxes.first().map(|it| it.id.clone()).unwrap_or_default();
            let (id, name, state) = (world.id("c"), "foreign".to_owned(), State::Running);
            let foreign = Contained { id, sandbox, name, state, ..Contained::default() };
            world.seen.containers.push(foreign);
        }
        Mishap::Later(by) => world.now += by,
        Mishap::Half => {
            let plan = plan(pod, &world.seen, &world.ledger, None, world.now);
            if let Some(step) = plan.steps.into_iter().next() {
                world.take(pod, step);
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_pod_gets_where_it_is_to_be(
        policy in prop_oneof![
            Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never),
        ],
        inits in prop::collection::vec(any::<bool>(), 0..3),
        mains in 1..4_usize,
        mishaps in prop::collection::vec((mishap(), any::<bool>()), 0..30),
    ) {
        let inits: Vec<_> = ["i0", "i1", "i2"].into_iter().zip(inits).collect();
        let pod = pod(policy, &inits, &["a", "b", "c"][..mains]);
        let mut world = World::default();
        for (mishap, settle) in mishaps {
            suffer(&mut world, &pod, &mishap);
            if settle {
                world.settle(&pod, None);
            }
        }
        let plan = world.settle(&pod, None);
        let ready = world.seen.sandboxes.iter().filter(|s| s.ready).count();
        match plan.stage {
            Stage::Living => {
                prop_assert_eq!(ready, 1);
                prop_assert!(policy != RestartPolicy::Always || running(&world).len() >= mains);
            }
            Stage::Done => {
                prop_assert!(policy != RestartPolicy::Always);
                prop_assert_eq!((ready, running(&world).len()), (0, 0));
            }
            Stage::Ended => prop_assert!(false, "nobody ended it"),
        }
        let mut alive = running(&world);
        alive.dedup();
        prop_assert_eq!(alive.len(), running(&world).len(), "something runs twice");
        prop_assert!(!alive.contains(&"foreign"));
        for name in ["a", "b", "c", "i0", "i1", "i2"] {
            let ended = |c: &&Contained| c.name == name && c.state == State::Exited;
            prop_assert!(world.seen.containers.iter().filter(ended).count() <= 1, "not tidied");
        }
        let plan = world.settle(&pod, Some(1));
        prop_assert_eq!(plan.stage, Stage::Ended);
        prop_assert_eq!(running(&world).len(), 0);
        prop_assert!(world.seen.sandboxes.iter().all(|s| !s.ready));
    }
}
