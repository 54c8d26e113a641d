//! Each check fails on what it is for, and on nothing else.

use super::checks::all;
use super::facts::{Facts, Room, Runtime};
use super::*;
use crate::report::{Cloud, LinkState};

/// A machine that has all that a node needs.
fn healthy() -> Facts {
    Facts {
        configuration: (String::new(), true),
        now: 1_800_000_000,
        resolved: Some(Ok(())),
        ports: vec![("nodes".into(), Ok(())), ("certificates".into(), Ok(()))],
        token: None,
        certificate: Ok(Some((1_799_000_000, 1_830_000_000))),
        cloud: Some(Cloud { state: LinkState::Connected, ..Cloud::default() }),
        runtime: Some(("unix:///r".into(), Ok(containerd(None)))),
        controllers: Some("cpuset cpu io memory pids\n".into()),
        networks: (1, 9),
        forwarding: true,
        overlay: true,
        rooms: vec![Room { folder: "/var".into(), bytes_free: 50, inodes_free: None }],
        database: Some(Ok(())),
        broker: Some(("tcp://b:1883".into(), Ok(()))),
        mappers: None,
        own_port: Ok(()),
        rivals: Vec::new(),
        memory: Some(512 * 1024),
    }
}

fn containerd(clash: Option<String>) -> Runtime {
    Runtime { name: "containerd".into(), version: "1.6.20".into(), clash }
}

fn trouble() -> Result<(), String> {
    Err("it did not work".into())
}

/// Changes one fact.
type Change = fn(&mut Facts);

#[test]
fn on_a_healthy_machine_nothing_is_wrong() {
    let findings = all(&healthy());
    assert!(
        findings.iter().all(|it| it.level == Level::Ok && it.advice.is_empty()),
        "{findings:?}"
    );
}

#[test]
fn each_check_fails_alone_and_says_what_to_do() {
    let cases: [(&str, Level, Change); 31] = [
        ("configuration", Level::Error, |it| it.configuration = ("error: a".into(), false)),
        ("configuration", Level::Warning, |it| it.configuration = ("warning: a".into(), true)),
        ("clock", Level::Error, |it| {
            (it.now, it.certificate) = (86_400, Ok(Some((0, 1_830_000_000))));
        }),
        ("dns", Level::Error, |it| it.resolved = Some(trouble())),
        ("cloud port", Level::Error, |it| it.ports[0].1 = trouble()),
        ("cloud port", Level::Error, |it| it.ports[1].1 = trouble()),
        ("certificate", Level::Error, |it| it.certificate = Ok(None)),
        ("certificate", Level::Error, |it| it.certificate = Err("of another node".into())),
        ("certificate", Level::Error, |it| it.now = 1_798_000_000),
        ("certificate", Level::Error, |it| it.now = 1_830_000_001),
        ("certificate", Level::Warning, |it| it.now = 1_829_000_000),
        ("certificate", Level::Error, |it| {
            (it.certificate, it.token) = (Ok(None), Some(trouble()));
        }),
        ("certificate", Level::Warning, |it| (it.certificate, it.token) = (Ok(None), Some(Ok(())))),
        ("agent", Level::Error, |it| it.cloud = None),
        ("agent", Level::Error, |it| it.cloud = Some(Cloud::default())),
        ("container runtime", Level::Error, |it| {
            it.runtime = Some(("unix:///r".into(), Err("no".into())));
        }),
        ("container runtime", Level::Error, |it| {
            it.runtime = Some(("unix:///r".into(), Ok(containerd(Some("drivers".into())))));
        }),
        ("cgroups", Level::Warning, |it| it.controllers = None),
        ("cgroups", Level::Warning, |it| it.controllers = Some("cpuset cpu io pids".into())),
        ("cni", Level::Error, |it| it.networks = (0, 9)),
        ("cni", Level::Error, |it| it.networks = (1, 0)),
        ("kernel", Level::Warning, |it| it.forwarding = false),
        ("kernel", Level::Warning, |it| it.overlay = false),
        ("disk", Level::Warning, |it| it.rooms[0].bytes_free = 9),
        ("disk", Level::Error, |it| it.rooms[0].inodes_free = Some(1)),
        ("database", Level::Error, |it| it.database = Some(trouble())),
        ("mqtt", Level::Error, |it| it.broker = Some(("tcp://b:1883".into(), trouble()))),
        ("mappers", Level::Warning, |it| it.mappers = Some("no permission".into())),
        ("ports", Level::Error, |it| it.own_port = trouble()),
        ("other agents", Level::Error, |it| it.rivals = vec!["kubelet (process 7)".into()]),
        ("memory", Level::Warning, |it| it.memory = Some(1024)),
    ];
    for (check, level, change) in cases {
        let mut facts = healthy();
        change(&mut facts);
        let findings = all(&facts);
        let wrong: Vec<_> = findings.iter().filter(|it| it.level != Level::Ok).collect();
        let [one] = wrong[..] else { panic!("{check}: {wrong:?}") };
        assert_eq!((one.check, one.level), (check, level));
        assert!(!one.advice.is_empty() && !one.found.is_empty(), "{one:?}");
    }
}

#[test]
fn what_a_node_does_not_have_yet_or_does_not_want_is_not_wrong() {
    let without = Facts { database: None, broker: None, resolved: None, ..healthy() };
    let facts = Facts { ports: Vec::new(), runtime: None, ..without };
    assert!(all(&facts).iter().all(|it| it.level == Level::Ok));
}
