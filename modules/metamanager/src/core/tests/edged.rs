//! What edged asks for.

use super::*;

const NOT_FOUND: &str = r#"{"ErrStatus":{"metadata":{},"reason":"NotFound","code":404}}"#;

#[test]
fn pods_are_asked_of_the_database_alone() {
    let mut world = World::linked();
    world.says(Module::Edgehub, pushed("insert", "ns/pod/web", 5, POD));
    let receipt = world.says(Module::Edged, request("query", "default/pod", "null"));
    assert_eq!(world.response(receipt), format!("[{POD}]"), "whatever namespace is named");
    let receipt = world.says(Module::Edged, request("query", "ns/pod/web", "null"));
    assert_eq!(world.response(receipt), POD);
    let receipt = world.says(Module::Edged, request("query", "ns/pod/other", "null"));
    assert!(world.response(receipt).contains(r#""reason":"NotFound""#));
    assert_eq!(world.requests, []);
}

#[test]
fn a_config_map_is_asked_of_the_cloud_once() {
    let mut world = World::linked();
    let query = request("query", "ns/configmap/c", "null");
    let receipt = world.says(Module::Edged, query.clone());
    assert_eq!(world.ends.get(&receipt), None);
    assert_eq!(world.requests[0].1, query);
    world.cloud_answers(POD, "7");
    assert_eq!(world.response(receipt), POD);
    assert_eq!(world.row("ns/configmap/c"), Some(POD));
    let receipt = world.says(Module::Edged, request("query", "ns/configmap/c", "null"));
    assert_eq!(world.response(receipt), POD);
    assert_eq!(world.requests, []);
}

/// The cloud keeps the latest answer on each object alone, and a change of it puts an answer aside.
#[test]
fn an_object_is_asked_for_once_at_a_time_and_everybody_hears_the_answer() {
    let query = || request("query", "ns/configmap/c", "null");
    let mut world = World::linked();
    let receipts = [(); 3].map(|()| world.says(Module::Edged, query()));
    assert_eq!(world.requests.len(), 1);
    world.cloud_answers(POD, "7");
    for receipt in receipts {
        assert_eq!(world.response(receipt), POD);
    }
    let receipts =
        ["a", "b"].map(|_| world.says(Module::Edged, request("query", "ns/secret/s", "null")));
    world.says(Module::Edgehub, pushed("update", "ns/secret/s", 5, POD));
    for receipt in receipts {
        assert_eq!(world.response(receipt), POD);
    }
    let (_, tag) = world.asked(Module::Edgehub);
    world.replied(tag, Err(Silence::Unknown("no answer".to_owned())));
    // Without an answer nobody waits on.
    let volume = || request("query", "null/persistentvolume/v", "null");
    let receipts = [(); 2].map(|()| world.says(Module::Edged, volume()));
    let (_, tag) = world.asked(Module::Edgehub);
    assert_eq!(world.requests, []);
    world.replied(tag, Err(Silence::Unknown("no answer".to_owned())));
    for receipt in receipts {
        assert!(world.failure(receipt).contains("no answer"));
    }
}

#[test]
fn errors_are_passed_on_and_never_stored() {
    for error in [NOT_FOUND, "{}", r#"{"ErrStatus":{"reason":"Forbidden"}}"#, "null", "[]"] {
        let mut world = World::linked();
        let receipt = world.says(Module::Edged, request("query", "ns/secret/s", "null"));
        world.cloud_answers(error, "");
        assert_eq!(world.response(receipt), error);
        assert!(world.rows.is_empty(), "{error}");
    }
}

#[test]
fn a_volume_is_asked_of_the_cloud_first_and_without_it_of_the_database() {
    let mut world = World::linked();
    let query = || request("query", "null/persistentvolume/v", "null");
    let receipt = world.says(Module::Edged, query());
    world.cloud_answers(POD, "7");
    assert_eq!(world.response(receipt), POD);
    // The cloud fails, does not answer, goes away while it is asked, and is not there at all.
    let receipt = world.says(Module::Edged, query());
    world.cloud_answers(r#"{"ErrStatus":{"reason":"InternalError"}}"#, "");
    assert_eq!(world.response(receipt), POD);
    let receipt = world.says(Module::Edged, query());
    let (_, tag) = world.asked(Module::Edgehub);
    world.replied(tag, Err(Silence::Unknown("no answer".to_owned())));
    assert_eq!(world.response(receipt), POD);
    let receipt = world.says(Module::Edged, query());
    world.link(false);
    assert_eq!(world.response(receipt), POD);
    let receipt = world.says(Module::Edged, query());
    assert_eq!(world.response(receipt), POD);
    // It is gone.
    world.link(true);
    world.requests.clear();
    let receipt = world.says(Module::Edged, query());
    world.cloud_answers(NOT_FOUND, "");
    assert_eq!(world.response(receipt), NOT_FOUND);
    assert_eq!(world.row("null/persistentvolume/v"), None);
}

#[test]
fn an_answer_after_the_link_broke_is_still_kept() {
    let mut world = World::linked();
    let receipt = world.says(Module::Edged, request("query", "ns/configmap/c", "null"));
    world.link(false);
    let reason = world.failure(receipt);
    assert!(reason.contains("not connected") && reason.contains("ns/configmap/c"), "{reason}");
    world.cloud_answers(POD, "7");
    assert_eq!(world.row("ns/configmap/c"), Some(POD));
}

fn token(expires: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"sa"}},"spec":{{"audiences":["filled in"],"expirationSeconds":3600}},
            "status":{{"token":"t","expirationTimestamp":"{expires}"}}}}"#
    )
}

const TOKEN: &str = r#"{"spec":{"audiences":null,"expirationSeconds":3600}}"#;

#[test]
fn a_token_is_found_again_under_its_request_and_renewed_in_time() {
    // The world begins at 2027-01-15T08:00:00Z.
    let mut world = World::linked();
    let query = || request("query", "ns/serviceaccounttoken/sa", TOKEN);
    let receipt = world.says(Module::Edged, query());
    let first = token("2027-01-15T09:00:00Z");
    world.cloud_answers(&first, "");
    assert_eq!(world.response(receipt), first);
    let receipt = world.says(Module::Edged, query());
    assert_eq!(world.response(receipt), first);
    assert_eq!(world.requests, []);
    world.now.unix_ms += 50 * 60 * 1000;
    let receipt = world.says(Module::Edged, query());
    let second = token("2027-01-15T09:50:00Z");
    world.cloud_answers(&second, "");
    assert_eq!(world.response(receipt), second);
    // A pod starts with an old token rather than not at all.
    world.link(false);
    world.now.unix_ms += 24 * 60 * 60 * 1000;
    let receipt = world.says(Module::Edged, query());
    assert_eq!(world.response(receipt), second);
    let other = request("query", "ns/serviceaccounttoken/sa", r#"{"spec":{"audiences":["x"]}}"#);
    let receipt = world.says(Module::Edged, other);
    assert!(world.failure(receipt).contains("not stored"));
    let bad = request("query", "ns/serviceaccounttoken/sa", r#"{"spec":7}"#);
    let receipt = world.says(Module::Edged, bad);
    assert!(world.failure(receipt).contains("not a token request"));
}

#[test]
fn edged_hears_that_the_cloud_is_back_and_a_lease_never_waits() {
    let mut world = World::new();
    let lease = |n: u32| request("update", "kube-node-lease/lease/e", &format!("{{\"n\":{n}}}"));
    let receipt = world.says(Module::Edged, lease(3));
    assert!(world.failure(receipt).contains("not connected"));
    world.handle(Event::PeerUp(Module::Edged));
    world.link(true);
    let (to, notice) = world.sent.pop().unwrap();
    assert_eq!((to, notice.route.operation.as_str()), (Module::Edged, "connect"));
    assert_eq!(ipc_proto::allow::check(Module::Metamanager, to, &notice), Ok(()));
    assert_eq!(world.requests, []);
    let receipt = world.says(Module::Edged, lease(4));
    let reply = format!(r#"{{"Object":{POD},"Err":null}}"#);
    world.cloud_answers(&reply, "");
    assert_eq!(world.response(receipt), reply);
    world.link(false);
    let query = request("query", "kube-node-lease/lease/e", "null");
    let receipt = world.says(Module::Edged, query);
    let typed = POD.replacen('{', r#"{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","#, 1);
    assert_eq!(world.response(receipt), format!(r#"{{"Object":{typed},"Err":null}}"#));
    let nowhere = request("update", "null/lease/e", "{}");
    let receipt = world.says(Module::Edged, nowhere);
    assert!(world.failure(receipt).contains("namespace"));
}

#[test]
fn a_node_is_registered_by_the_cloud_alone_and_then_kept() {
    let mut world = World::new();
    let node = || request("insert", "null/node/e", r#"{"metadata":{"name":"e"}}"#);
    let receipt = world.says(Module::Edged, node());
    assert!(world.failure(receipt).contains("not connected"));
    world.link(true);
    let receipt = world.says(Module::Edged, node());
    let reply = r#"{"Object":{"metadata":{"name":"e","uid":"n"}},"Err":null}"#;
    world.cloud_answers(reply, "3");
    assert_eq!(world.response(receipt), reply);
    let kept = r#"{"kind":"Node","apiVersion":"v1","metadata":{"name":"e","uid":"n"}}"#;
    assert_eq!(world.row("null/node/e"), Some(kept));
    let exists = r#"{"Object":null,"Err":{"ErrStatus":{"reason":"AlreadyExists","code":409}}}"#;
    let receipt = world.says(Module::Edged, node());
    world.cloud_answers(exists, "");
    assert_eq!(world.response(receipt), exists);
    assert_eq!(world.row("null/node/e"), Some(kept));
}

#[test]
fn a_status_is_on_the_disk_before_it_is_answered_and_answered_by_the_cloud() {
    let mut world = World::linked();
    world.says(Module::Edgehub, pushed("insert", "ns/pod/web", 5, POD));
    world.held = Some(Vec::new());
    let patch = request("patch", "ns/podpatch/web", r#""{\"status\":{}}""#);
    let receipt = world.says(Module::Edged, patch.clone());
    assert_eq!(world.requests, [], "it is not on the disk");
    for (changes, then) in world.held.take().unwrap() {
        changes.into_iter().for_each(|change| world.apply(change));
        world.handle(Event::Committed(then));
    }
    assert_eq!(world.row("ns/podpatch/web"), Some(r#"{"status":{}}"#));
    assert_eq!(world.requests[0].1.header.id, patch.header.id);
    let answer = r#"{"metadata":{"name":"web","uid":"u-1"},"status":{"phase":"Running"}}"#;
    let wrapped = format!(r#"{{"Object":{answer},"Err":null}}"#);
    world.cloud_answers(&wrapped, "6");
    assert_eq!(world.response(receipt), wrapped);
    let kept = answer.replacen('{', r#"{"kind":"Pod","apiVersion":"v1","#, 1);
    assert_eq!(world.row("ns/pod/web"), Some(&*kept), "the row has the latest status");
    assert!(world.outbox.is_empty());
}

#[test]
fn statuses_wait_for_the_cloud_and_the_latest_counts() {
    let mut world = World::new();
    let patch = |n: u32| request("patch", "ns/podpatch/web", &format!("\"{n}\""));
    for n in 1..=3 {
        let receipt = world.says(Module::Edged, patch(n));
        assert_eq!(world.response(receipt), "\"OK\"", "it is kept and will arrive");
    }
    let delete = request("delete", "ns/pod/old", "{}");
    world.says(Module::Edged, delete);
    let event = |name: &str| request("insert", &format!("ns/event/{name}"), "{}");
    world.says(Module::Edged, event("a"));
    world.says(Module::Edged, event("b"));
    assert_eq!(world.outbox.len(), 4);
    world.link(true);
    let requests: Vec<_> =
        world.requests.iter().map(|(_, message, _)| text(message.content.raw())).collect();
    assert_eq!(requests, ["\"3\"", "{}"]);
    let events: Vec<_> = world.delivered.iter().map(|(_, sequence)| *sequence).collect();
    assert_eq!(events, [5, 6], "in order");
    world.cloud_answers("\"OK\"", "");
    world.cloud_answers(r#"{"Object":null,"Err":{"ErrStatus":{"reason":"NotFound"}}}"#, "");
    for sequence in events {
        world.handle(Event::Delivered(sequence, Ok(())));
    }
    assert!(world.outbox.is_empty());
}

#[test]
fn a_status_that_is_not_answered_is_sent_again_and_given_up_in_the_end() {
    let mut world = World::linked();
    let patch = request("patch", "ns/podpatch/web", "\"1\"");
    let receipt = world.says(Module::Edged, patch);
    let no_answer = || Err(Silence::Unknown("no answer in time".to_owned()));
    let (_, tag) = world.asked(Module::Edgehub);
    world.replied(tag, no_answer());
    assert_eq!(world.response(receipt), "\"OK\"");
    let (_, tag) = world.asked(Module::Edgehub);
    world.link(false);
    world.replied(tag, no_answer());
    assert_eq!(world.requests, [], "there is no cloud to try");
    world.link(true);
    for _ in 0..2 {
        let (_, tag) = world.asked(Module::Edgehub);
        world.replied(tag, no_answer());
    }
    assert_eq!(world.requests, []);
    assert!(world.outbox.is_empty());
}

#[test]
fn a_restart_sends_what_the_outbox_still_has() {
    let mut before = World::new();
    before.says(Module::Edged, request("patch", "null/nodepatch/e", "\"1\""));
    let mut after = World::new();
    after.outbox = before.outbox;
    after.last_parcel = before.last_parcel;
    after.link(true);
    assert_eq!(after.requests.len(), 1);
}

#[test]
fn a_long_queue_goes_out_window_by_window() {
    let mut world = World::new();
    for n in 0..500 {
        world.says(Module::Edged, request("insert", &format!("ns/event/e{n}"), "{}"));
    }
    world.link(true);
    let mut most = 0;
    let mut arrived = Vec::new();
    while let Some((_, sequence)) = world.delivered.first().cloned() {
        most = most.max(world.delivered.len());
        world.delivered.remove(0);
        arrived.push(sequence);
        world.handle(Event::Delivered(sequence, Ok(())));
    }
    assert_eq!(arrived, (1..=500).collect::<Vec<_>>());
    assert!((32..=64).contains(&most), "{most}");
    assert!(world.outbox.is_empty());
}

#[test]
fn whole_statuses_go_to_the_cloud_every_minute() {
    let mut world = World::linked();
    let status = r#"{"UID":"u-1","Name":"web","Status":{}}"#;
    let receipt = world.says(Module::Edged, request("update", "ns/podstatus/web", status));
    assert_eq!(world.response(receipt), "\"OK\"");
    world.cloud_answers("\"OK\"", "");
    world.now.at = world.core.deadline();
    world.handle(Event::Time);
    let (sync, _) = world.asked(Module::Edgehub);
    assert_eq!(sync.route.resource.to_string(), "ns/podstatus");
    assert_eq!(text(sync.content.raw()), format!("[{status}]"));
}

#[test]
fn nonsense_is_answered_as_such() {
    let mut world = World::linked();
    for (operation, resource, json) in [
        ("delete", "ns/secret/s", "{}"),
        ("patch", "ns/podpatch/web", "{}"),
        ("patch", "ns/podpatch/web", "\"no JSON\""),
        ("patch", "ns/podpatch", "\"x\""),
        ("update", "ns/pod", "{}"),
        ("insert", "ns/pod/web", "{"),
        ("insert", "ns/pod/web", "\u{0}"),
        ("upload", "ns/pod/web", "{}"),
        ("keepalive", "node", "\"ping\""),
        ("query", "a/b/c/d", "null"),
        ("createvolume", "ns/volume/v", "{}"),
    ] {
        let receipt = world.says(Module::Edged, request(operation, resource, json));
        assert!(!world.failure(receipt).is_empty(), "{operation} {resource} {json}");
    }
    assert!(world.rows.is_empty() && world.outbox.is_empty());
}
