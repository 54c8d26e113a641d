//! What happens to modules and to the runtime, and how the node shows it.

use super::*;

fn none() -> Pressures {
    Pressures::new()
}

fn standing(
    module: Module,
    state: ModuleState,
    restarts: u32,
    end: Option<(&str, i64)>,
) -> Standing {
    let last_end = end.map(|(why, at)| (why.into(), at));
    Standing { module, state, restarts, last_end }
}

fn reasons(notes: &[Note]) -> Vec<&'static str> {
    notes.iter().map(|it| it.reason).collect()
}

fn modules(conditions: &[Condition]) -> (bool, &'static str, i64) {
    let found = conditions.iter().find(|it| it.kind == MODULES).unwrap();
    (found.holds, found.reason, found.since)
}

#[test]
fn a_module_that_dies_shows_in_an_event_and_for_a_while_in_the_condition() {
    let mut it = Conditions::new("edge1");
    let mesh = |restarts, end| standing(Module::Edgemesh, ModuleState::Running, restarts, end);
    let (conditions, notes) = it.look("", &none(), &[mesh(3, Some(("exit 1", 0)))], 400_000);
    assert_eq!(modules(&conditions), (true, ALL_RUN, 400_000));
    let usual = ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"];
    assert_eq!(reasons(&notes), [&usual[..], &["NodeReady"]].concat());
    let died = [mesh(4, Some(("signal 9", 500_000)))];
    let (conditions, notes) = it.look("", &none(), &died, 500_007);
    assert_eq!(modules(&conditions), (false, "ModuleDied", 500_007));
    assert_eq!(notes[0].message, "edgemesh of edgecore ended: signal 9; restarts: 4");
    assert_eq!(it.look("", &none(), &died, 500_008).1, []);
    let (conditions, _) = it.look("", &none(), &died, 500_000 + RECENT);
    assert_eq!(modules(&conditions), (true, ALL_RUN, 500_000 + RECENT));
}

#[test]
fn hanging_held_and_stopped_are_told_apart() {
    let mut it = Conditions::new("edge1");
    let bus = |state, restarts, end| [standing(Module::Eventbus, state, restarts, end)];
    drop(it.look("", &none(), &bus(ModuleState::Running, 0, None), 0));
    let (conditions, notes) =
        it.look("", &none(), &bus(ModuleState::Backoff, 0, Some(("hang", 5))), 6);
    assert_eq!(reasons(&notes), ["ModuleHung"]);
    assert_eq!(modules(&conditions).1, "ModuleHung");
    let (conditions, notes) =
        it.look("", &none(), &bus(ModuleState::Held, 9, Some(("exit 1", 7))), RECENT * 2);
    assert_eq!(reasons(&notes), ["ModuleDied", "ModuleHeld"]);
    assert_eq!(modules(&conditions).1, "ModuleHeld");
    let (conditions, notes) =
        it.look("", &none(), &bus(ModuleState::Stopped, 10, Some((REQUESTED, 7))), RECENT * 2);
    assert_eq!(reasons(&notes), [""; 0]);
    assert!(modules(&conditions).0);
}

#[test]
fn edged_tells_of_its_own_end_in_its_next_life() {
    let own = [standing(Module::Edged, ModuleState::Running, 1, Some(("signal 11", 1000)))];
    let (_, notes) = Conditions::new("edge1").look("", &none(), &own, 1500);
    assert!(reasons(&notes).contains(&"ModuleDied"));
    let (_, notes) = Conditions::new("edge1").look("", &none(), &own, 1000 + OWN_END);
    assert!(!reasons(&notes).contains(&"ModuleDied"));
}

#[test]
fn a_new_process_goes_on_from_what_the_cloud_knows() {
    let mut it = Conditions::new("edge1");
    it.learn(&json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:09Z"},
        {"type": "DiskPressure", "status": "True", "lastTransitionTime": "1970-01-01T00:00:01Z"},
        {"type": 7},
    ]}}));
    let (conditions, notes) = it.look("", &none(), &[], 20_000);
    let since = |kind| conditions.iter().find(|it| it.kind == kind).map(|it| it.since);
    assert_eq!((since("Ready"), since("DiskPressure")), (Some(9000), Some(20_000)));
    assert!(reasons(&notes).contains(&"NodeHasNoDiskPressure"));
    assert!(!reasons(&notes).contains(&"NodeReady"));
    let (conditions, notes) = it.look("no runtime", &none(), &[], 30_000);
    assert_eq!(reasons(&notes), ["NodeNotReady"]);
    assert_eq!(conditions.last().map(|it| (it.holds, it.since)), Some((false, 30_000)));
}

#[test]
fn a_node_that_is_short_of_something_says_of_what() {
    let mut it = Conditions::new("edge1");
    drop(it.look("", &none(), &[], 0));
    let short = Pressures::from([Pressure::Disk, Pressure::Memory]);
    let (conditions, notes) = it.look("", &short, &[], 5);
    assert_eq!(reasons(&notes), ["NodeHasInsufficientMemory", "NodeHasDiskPressure"]);
    let told: Vec<_> = conditions.iter().map(|it| (it.kind, it.holds, it.reason)).collect();
    assert_eq!(
        told,
        [
            ("MemoryPressure", true, "KubeletHasInsufficientMemory"),
            ("DiskPressure", true, "KubeletHasDiskPressure"),
            ("PIDPressure", false, "KubeletHasSufficientPID"),
            ("Ready", true, "EdgeReady"),
        ]
    );
    assert_eq!(conditions[0].message, "kubelet has insufficient memory available");
    let (_, notes) = it.look("", &none(), &[], 9);
    assert_eq!(reasons(&notes), ["NodeHasSufficientMemory", "NodeHasNoDiskPressure"]);
}
