//! Tests of what goes.

use super::*;

fn container(id: &str, pod: &str, state: w::ContainerState, at: i64) -> w::Container {
    w::Container {
        id: id.to_owned(),
        pod_sandbox_id: format!("s-{pod}"),
        state: state.into(),
        created_at: at * 1_000_000,
        labels: names::selector(pod),
        ..w::Container::default()
    }
}

fn sandbox(pod: &str, state: w::PodSandboxState) -> w::PodSandbox {
    let (id, labels) = (format!("s-{pod}"), names::selector(pod));
    w::PodSandbox { id, labels, state: state.into(), ..w::PodSandbox::default() }
}

#[test]
fn only_what_is_left_of_pods_that_are_over_goes_and_the_oldest_first() {
    use w::ContainerState::{Exited, Running};
    let containers = [
        container("young", "over", Exited, 90),
        container("old", "over", Exited, 10),
        container("crashed", "lives", Exited, 5),
        container("runs", "lives", Running, 1),
    ];
    let sandboxes = [
        sandbox("over", w::PodSandboxState::NotReady),
        sandbox("lives", w::PodSandboxState::Ready),
    ];
    let over = HashSet::from(["over".to_owned()]);
    let choose = |most, least_age| {
        let kept = Kept { least_age, ..Kept::default() };
        choose(&containers, &sandboxes, &over, most, &kept, 100)
    };
    assert_eq!(choose(3, 0), Waste::default());
    assert_eq!(choose(2, 0).containers, ["old"]);
    assert_eq!(choose(2, 0).sandboxes, [""; 0]);
    assert_eq!(choose(0, 0).containers, ["old", "young"]);
    assert_eq!(choose(0, 0).sandboxes, ["s-over"]);
    assert_eq!(choose(0, 50).containers, ["old"]);
}

#[test]
fn the_newest_is_kept_whatever_is_said() {
    let kept = |each, least_age| Kept { each, all: -1, least_age };
    assert!(kept(1, 0).keeps(0, 0) && kept(0, 0).keeps(0, 0) && !kept(1, 0).keeps(1, 0));
    assert!(kept(3, 0).keeps(2, 0) && !kept(3, 0).keeps(3, 0));
    assert!(kept(1, 100).keeps(5, 99) && kept(-1, 0).keeps(99, 0));
}
