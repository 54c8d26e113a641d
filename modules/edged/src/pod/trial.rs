//! A trial of pods as nobody would have let them into a cluster: all that is done with one without
//! a runtime and a disk.

use std::path::Path;

use super::amounts::Room;
use super::plan::{Health, Ledger, Sick, plan};
use super::seen::{Contained, Sandbox, Seen, State};
use super::spec::Pod;
use super::{make, names, unsupported};
use crate::admission;
use crate::env::{self, Facts, Found, services};
use crate::status::{self, Situation};
use crate::volumes::payload;

/// What there is of the pod.
fn seen(state: State) -> Seen {
    let contained = |id: &str, exit_code: i32| Contained {
        id: id.to_owned(),
        sandbox: "s".to_owned(),
        name: "c".to_owned(),
        state,
        exit_code,
        restarts: u32::MAX,
        started: i64::MAX,
        finished: i64::MIN,
        ..Contained::default()
    };
    let ips = vec!["10.0.0.1".to_owned()];
    let sandbox = Sandbox { id: "s".to_owned(), attempt: u32::MAX, ready: true, ips };
    Seen { sandboxes: vec![sandbox], containers: vec![contained("c1", 1), contained("c0", 0)] }
}

/// Does with a pod all that is done without a runtime and a disk.
pub(crate) fn take(pod: &Pod) {
    let facts = Facts { memory: 1 << 30, cpu: 1000, ..Facts::default() };
    let settings = make::Settings { root: Some(Path::new("/r")), memory: 1, ..Default::default() };
    let tokens = [((String::new(), 3600), "t".to_owned())].into();
    let _refused = unsupported(pod);
    let _admitted = admission::fits(pod, std::iter::once(pod), &Room::default());
    let _armored = admission::may(pod, &["net.*".to_owned()], true);
    let _sandbox = make::sandbox(pod, &settings, 1, "now");
    let _hosts = make::hosts_file(pod, &facts.pod_ips, "cluster.local", "");
    let links = services::links(pod, &[], None);
    for container in pod.spec.all_containers() {
        let made = env::variables(pod, container, &facts, &Found::new(), &links);
        let variables = made.unwrap_or_default();
        let parts = make::Parts { variables, ..make::Parts::default() };
        let _made = make::container(pod, container, &settings, parts);
        let _user = make::check_user(pod, container, &Default::default());
        assert!(names::hash(container) == names::hash(container));
    }
    for volume in &pod.spec.volumes {
        for path in payload::files(pod, volume, &facts, &Found::new(), &tokens)
            .into_iter()
            .flatten()
            .flatten()
        {
            assert!(
                !path.0.starts_with('/') && !path.0.split('/').any(|part| part == ".."),
                "{}",
                path.0
            );
        }
    }
    for state in [State::Created, State::Running, State::Exited, State::Unknown] {
        let (seen, mut ledger) = (seen(state), Ledger::default());
        let sick = Some(Sick { probe: "liveness", grace: Some(i64::MIN) });
        ledger.health.insert("c1".to_owned(), Health { started: true, ready: true, sick });
        for end in [None, Some(0), Some(i64::MAX)] {
            let plan = plan(pod, &seen, &ledger, end, 1_795_407_792_000);
            let situation = Situation {
                pod,
                uid: &pod.metadata.uid,
                held: false,
                seen: &seen,
                ledger: &ledger,
                stage: plan.stage,
                verdict: None,
                runtime: "x",
                host_ips: &["192.0.2.1".to_owned()],
                start: 0,
                now: 1_795_407_792_000,
            };
            let mut transitions = status::transitions(pod);
            let _patch = status::patch(&situation, &mut transitions);
        }
    }
}
