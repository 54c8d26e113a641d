//! What the other modules keep and ask.

use super::*;
use crate::row::Words;

/// Returns the effects of one message in an empty world.
fn effects(from: Module, message: Message) -> Vec<Effect> {
    let mut world = World::linked();
    let mut effects = Vec::new();
    let receipt = Receipt(9);
    world.core.handle(world.now, Event::Message { from, message, receipt }, &mut effects);
    effects
}

fn changes(from: Module, message: Message) -> Vec<Change> {
    match effects(from, message).pop() {
        Some(Effect::Commit(changes, Then::Do(then))) => {
            assert_eq!(then, [Effect::Respond(Receipt(9), ok())], "answered once committed");
            changes
        }
        other => panic!("expected a commit, got {other:?}"),
    }
}

fn question(from: Module, message: Message) -> Question {
    match effects(from, message).pop() {
        Some(Effect::Ask(question, _)) => question,
        other => panic!("expected a question, got {other:?}"),
    }
}

#[test]
fn topics_and_urls_have_their_tables() {
    let topic = |operation| message("bus", "user", operation, "a/b", "null");
    let words = Words::Topics;
    assert_eq!(changes(Module::Eventbus, topic("insert")), [Change::AddWord(words, "a/b".into())]);
    assert_eq!(
        changes(Module::Eventbus, topic("delete")),
        [Change::RemoveWord(words, "a/b".into())]
    );
    assert_eq!(question(Module::Eventbus, topic("query")), Question::Words(words));
    let url = message("servicebus", "user", "insert", "http://x", "null");
    assert_eq!(changes(Module::Servicebus, url), [Change::AddWord(Words::Urls, "http://x".into())]);
}

#[test]
fn jobs_are_kept_where_go_keeps_them() {
    let task = "operations.kubeedge.io/v1alpha2/nodeupgradejob/j/node/e";
    let job = |operation, task: &str| message("taskmanager", "taskmanager", operation, task, "{}");
    let [Change::PutRecord(mirror, _)] = &changes(Module::Taskmanager, job("insert", task))[..]
    else {
        panic!()
    };
    let key = "/operations.kubeedge.io/v1alpha2/nodeupgradejobspecs/j/nodes/e";
    assert_eq!(&*mirror.key, key);
    let gvr = "operations.kubeedge.io/v1alpha2, Resource=nodeupgradejobspecs";
    assert_eq!(&*mirror.resource, gvr);
    assert_eq!(question(Module::Taskmanager, job("query", task)), Question::Record(key.into()));
    let all = job("query", "operations.kubeedge.io/v1alpha2/nodeupgradejob");
    assert_eq!(question(Module::Taskmanager, all), Question::Records(gvr.into()));
    let nonsense = effects(Module::Taskmanager, job("insert", "a/b"));
    assert!(matches!(nonsense[..], [Effect::Fail(..)]));
}

#[test]
fn twins_are_told_from_devices_by_their_group() {
    let device =
        |group, operation, json| message("twin", group, operation, "default/device/sensor1", json);
    let rows = device("twin", "update", r#"{"id":"another","state":"online"}"#);
    let [Change::PutTwin(twin)] = &changes(Module::Devicetwin, rows)[..] else { panic!() };
    assert_eq!((&*twin.id, &*twin.state), ("default/sensor1", "online"));
    let twin = device("twin", "query", "null");
    assert_eq!(question(Module::Devicetwin, twin), Question::Twin("default/sensor1".into()));
    let object = device("meta", "query", "null");
    let key = "default/device/sensor1".into();
    assert_eq!(question(Module::Devicetwin, object), Question::Object(key));
    let wrong = effects(Module::Devicetwin, device("twin", "update", "[1]"));
    assert!(matches!(wrong[..], [Effect::Fail(..)]));
    let mapper = message("twin", "meta", "insert", "default/devicemapper/m", "{}");
    let [Change::Put(row)] = &changes(Module::Devicetwin, mapper)[..] else { panic!() };
    assert_eq!((&*row.key, &row.mirror), ("node/nodeID/namespace/devicemapper/m", &None));
}

#[test]
fn uploads_and_twin_reports_go_through_the_outbox() {
    let upload = message("bus", "user", "upload", "default/up", "\"x\"");
    let report = message("twin", "resource", "update", "device/ns/d/twin/edge_updated", "{}");
    for (from, message) in [(Module::Eventbus, upload), (Module::Devicetwin, report)] {
        let mut world = World::new();
        let mut request = message.clone();
        request.header.sync = true;
        let receipt = world.says(from, request);
        assert_eq!(world.response(receipt), "\"OK\"");
        // Else edgehub would wait for an answer that the cloud never gives.
        assert_eq!(world.outbox[&1].1, message, "on its way up nobody waits for an answer");
    }
}

#[test]
fn metaserver_and_edgemesh_ask_the_database_alone() {
    for from in [Module::Metaserver, Module::Edgemesh] {
        let mut world = World::linked();
        let query = message("x", "meta", "query", "ns/configmap/c", "null");
        let receipt = world.says(from, query);
        assert!(world.response(receipt).contains("NotFound"));
        assert_eq!(world.requests, []);
    }
    let listener = message("edgemesh", "meta", "insert", "default/listener/a.b", "\"9.251.0.1\"");
    let [Change::Put(row)] = &changes(Module::Edgemesh, listener)[..] else { panic!() };
    assert_eq!((&*row.kind, &row.value[..]), ("listener", b"\"9.251.0.1\"".as_slice()));
}

#[test]
fn the_clusters_certificate_is_asked_of_the_cloud_and_kept() {
    let mut world = World::linked();
    let query = || message("metaserver", "meta", "query", "k8s/ca.crt", "null");
    let receipt = world.says(Module::Metaserver, query());
    world.cloud_answers("\"PEM\\n\"", "");
    assert_eq!(world.response(receipt), "\"PEM\\n\"");
    assert_eq!(world.row("k8s/ca.crt"), Some("PEM\n"));
    world.link(false);
    let receipt = world.says(Module::Metaserver, query());
    assert_eq!(world.response(receipt), "\"PEM\\n\"");
}

#[test]
fn metaserver_hears_of_each_change_and_that_it_missed_some() {
    let mut world = World::linked();
    let news = |fate| News {
        key: "/core/v1/pods/ns/web".into(),
        fate,
        version: 5,
        value: Bytes::from_static(b"{}"),
    };
    world.handle(Event::News(news(Fate::Came)));
    assert_eq!(world.sent, [], "it is not there");
    world.handle(Event::PeerUp(Module::Metaserver));
    for fate in [Fate::Came, Fate::Changed, Fate::Went] {
        world.handle(Event::News(news(fate)));
    }
    let said = |world: &mut World| -> Vec<_> {
        let sent = std::mem::take(&mut world.sent).into_iter();
        sent.map(|(_, it)| format!("{} {}", it.route.operation, it.route.resource)).collect()
    };
    let expected =
        ["insert", "update", "delete"].map(|word| format!("{word} /core/v1/pods/ns/web"));
    assert_eq!(said(&mut world), expected);
    world.handle(Event::Crowded(Module::Metaserver));
    world.handle(Event::News(news(Fate::Changed)));
    assert_eq!(said(&mut world), [""; 0], "it is behind");
    world.now.at += CROWDED_PAUSE;
    world.handle(Event::Time);
    assert_eq!(said(&mut world), ["update /"]);
}
