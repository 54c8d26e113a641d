//! Who may send what to whom.

use super::*;
use crate::message::{Content, Route};
use crate::words::Source;
use crate::{MessageId, Scope};

fn message(group: Group, operation: Operation, resource: Resource) -> Message {
    let route = Route { source: Source::None, group, operation, resource };
    Message::new(MessageId::from_random([7; 16]), 0, route, Content::NULL)
}

fn pod() -> Resource {
    Resource::object(Scope::Namespace("default".into()), Kind::Pod, "p")
}

#[test]
fn a_broken_edgemesh_cannot_delete_a_pod() {
    let delete = message(Group::Resource, Op::Delete, pod());
    let error = check(Edgemesh, Metamanager, &delete).unwrap_err();
    assert_eq!(error.to_string(), "edgemesh may not send 'delete default/pod/p' to metamanager");
    assert_eq!(check(Edged, Metamanager, &delete), Ok(()));
}

#[test]
fn what_must_arrive_may_wait_in_the_store() {
    let upload = message(Group::User, Op::Upload, Resource::Text("SYS/data".into()));
    for (from, to) in [(Eventbus, Metamanager), (Servicebus, Metamanager), (Metamanager, Edgehub)] {
        assert_eq!(check(from, to, &upload), Ok(()));
    }
    let device = Resource::parse(&Group::Twin, "device/default/d/twin/edge_updated");
    let report = message(Group::Twin, Op::Update, device);
    for (from, to) in [(Devicetwin, Metamanager), (Metamanager, Edgehub)] {
        assert_eq!(check(from, to, &report), Ok(()));
    }
    assert!(check(Edgemesh, Metamanager, &upload).is_err());
}

#[test]
fn every_rule_stands_between_peers() {
    for Rule(from, to, ..) in RULES {
        assert!(from.peers().any(|peer| peer == *to), "{from} and {to} share no connection");
    }
}

#[test]
fn answers_and_diagnostics_pass_between_peers_only() {
    let ping = message(Group::Diagnostic, Op::Ping, Resource::None);
    let answer = ping.response(MessageId::from_random([8; 16]), 0, Content::NULL);
    for (from, to) in [(Edged, Metamanager), (Metamanager, Edged)] {
        assert_eq!(check(from, to, &ping), Ok(()));
        assert_eq!(check(from, to, &answer), Ok(()));
    }
    assert!(check(Edged, Edgemesh, &ping).is_err());
    let orphan = message(Group::Resource, Op::Response, pod());
    assert!(check(Edgemesh, Metamanager, &orphan).is_err());
}
