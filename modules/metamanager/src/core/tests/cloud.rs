//! What the cloud sends.

use super::*;

#[test]
fn an_object_is_acknowledged_when_it_is_committed_and_not_before() {
    let mut world = World::linked();
    world.handle(Event::PeerUp(Module::Edged));
    world.sent.clear();
    world.held = Some(Vec::new());
    let receipt = world.says(Module::Edgehub, pushed("insert", "ns/pod/web", 5, POD));
    assert_eq!(world.ends.get(&receipt), None);
    assert_eq!(world.sent, []);
    let held = world.held.take().unwrap();
    for (changes, then) in held {
        changes.into_iter().for_each(|change| world.apply(change));
        world.handle(Event::Committed(then));
    }
    assert_eq!(world.ends[&receipt], End::Settled);
    assert_eq!(world.row("ns/pod/web"), Some(POD));
    let [(Module::Edged, passed_on)] = &world.sent[..] else { panic!("{:?}", world.sent) };
    assert_eq!(passed_on.content, raw(POD));
    let mirror = world.rows["ns/pod/web"].mirror.as_ref().unwrap();
    assert_eq!((&*mirror.key, mirror.version), ("/core/v1/pods/ns/web", 5));
}

#[test]
fn every_type_goes_to_who_acts_on_it() {
    let all = [Module::Edged, Module::Edgemesh, Module::Devicetwin];
    let expected: &[(&str, &str, &[Module])] = &[
        ("edgecontroller", "pod", &[Module::Edged]),
        ("edgecontroller", "configmap", &[Module::Edged]),
        ("edgecontroller", "secret", &[Module::Edged]),
        ("edgecontroller", "persistentvolume", &[Module::Edged]),
        ("edgecontroller", "persistentvolumeclaim", &[Module::Edged]),
        ("edgecontroller", "volumeattachment", &[Module::Edged]),
        ("edgecontroller", "gadget", &[Module::Edged]),
        ("edgecontroller", "node", &[Module::Edgemesh]),
        ("edgecontroller", "service", &[Module::Edgemesh]),
        ("edgecontroller", "endpoints", &[Module::Edgemesh]),
        ("edgecontroller", "devicemodel", &[Module::Devicetwin]),
        ("devicecontroller", "device", &[Module::Devicetwin]),
        ("dynamiccontroller", "configmap", &[Module::Edged]),
        ("dynamiccontroller", "endpointslice", &[Module::Edgemesh]),
        ("dynamiccontroller", "destinationrule", &[Module::Edgemesh]),
        ("dynamiccontroller", "deployment", &[]),
        ("policycontroller", "serviceaccountaccess", &[]),
        ("edgecontroller", "rule", &[]),
        ("edgecontroller", "ruleendpoint", &[]),
        ("somebody", "pod", &[Module::Edged]),
    ];
    for operation in ["insert", "update", "delete"] {
        for (source, kind, readers) in expected {
            let mut world = World::linked();
            all.iter().for_each(|module| world.handle(Event::PeerUp(*module)));
            world.sent.clear();
            let object = message(source, "resource", operation, &format!("ns/{kind}/x"), POD);
            let receipt = world.says(Module::Edgehub, object);
            assert_eq!(world.ends[&receipt], End::Settled, "{operation} {kind}");
            let to: Vec<_> = world.sent.iter().map(|(to, _)| *to).collect();
            assert_eq!(to, *readers, "{operation} {kind} of {source}");
            let stored = world.rows.values().any(|row| *row.kind == **kind);
            assert_eq!(stored, operation != "delete", "{operation} {kind}");
        }
    }
}

#[test]
fn lists_of_older_clouds_become_single_rows() {
    let mut world = World::linked();
    let list = r#"[{"metadata":{"name":"a","namespace":"x","resourceVersion":"3"}},
                   {"metadata":{"name":"b","namespace":"y"}}]"#;
    let services = pushed("update", "namespace/servicelist/service", 0, list);
    let receipt = world.says(Module::Edgehub, services);
    assert_eq!(world.ends[&receipt], End::Settled);
    let keys: Vec<_> = world.rows.keys().map(|key| &**key).collect();
    assert_eq!(keys, ["x/service/a", "y/service/b"]);
    assert_eq!(world.rows["x/service/a"].mirror.as_ref().unwrap().version, 3);
    world.says(Module::Edgehub, pushed("update", "x/podlist/a", 0, "[{}]"));
    assert_eq!(world.row("x/podlist/a"), Some("[{}]"));
    for bad in ["{}", "[7]", r#"[{"metadata":{"name":"a/b","namespace":"x"}}]"#, "null"] {
        let receipt =
            world.says(Module::Edgehub, pushed("update", "n/endpointslist/endpoints", 0, bad));
        assert!(matches!(world.ends[&receipt], End::Refused(_)), "{bad}");
    }
}

#[test]
fn what_is_no_object_is_refused_and_changes_nothing() {
    let mut world = World::linked();
    for (operation, resource, json) in [
        ("insert", "ns/pod/web", "null"),
        ("update", "ns/pod/web", "\"text\""),
        ("update", "ns/pod/web", "[{}]"),
        ("update", "ns/pod", "{}"),
        ("delete", "ns/pod", "{}"),
        ("insert", "ns/event/e", "{}"),
        ("update", "a/b/c/d", "{}"),
        ("query", "ns/pod/web", "null"),
        ("patch", "ns/pod/web", "{}"),
        ("frobnicate", "ns/pod/web", "{}"),
        ("connect", "node/connection", "7"),
        ("connect", "node/connection", "\"hello\""),
        ("connect", "node", "\"cloud_disconnected\""),
    ] {
        let receipt = world.says(Module::Edgehub, pushed(operation, resource, 1, json));
        assert!(matches!(world.ends[&receipt], End::Refused(_)), "{operation} {resource} {json}");
    }
    assert!(world.rows.is_empty());
    assert!(world.core.linked);
}

#[test]
fn the_end_of_another_uid_is_passed_on_but_removes_nothing() {
    let mut world = World::linked();
    world.handle(Event::PeerUp(Module::Edged));
    world.says(Module::Edgehub, pushed("insert", "ns/pod/web", 5, POD));
    world.rows.insert("ns/podpatch/web".into(), world.rows["ns/pod/web"].clone());
    let old = r#"{"metadata":{"uid":"old"}}"#;
    world.sent.clear();
    let receipt = world.says(Module::Edgehub, pushed("delete", "ns/pod/web", 4, old));
    assert_eq!(world.ends[&receipt], End::Settled);
    assert_eq!(world.row("ns/pod/web"), Some(POD));
    assert_eq!(world.sent.len(), 1);
    world.says(Module::Edgehub, pushed("delete", "ns/pod/web", 6, POD));
    assert!(world.rows.is_empty(), "{:?}", world.rows);
}

#[test]
fn a_module_gets_the_whole_set_at_its_connection_and_when_it_was_too_slow() {
    let mut world = World::linked();
    world.says(Module::Edgehub, pushed("insert", "ns/pod/web", 5, POD));
    assert_eq!(world.sent, [], "edged is not there");
    world.handle(Event::PeerUp(Module::Edged));
    let set = |world: &mut World| match &std::mem::take(&mut world.sent)[..] {
        [(Module::Edged, set)] => {
            assert_eq!(set.route.operation, Operation::Update);
            (set.route.resource.to_string(), text(set.content.raw()).to_owned())
        }
        other => panic!("expected one message, got {other:?}"),
    };
    assert_eq!(set(&mut world), ("null/pod".to_owned(), format!("[{POD}]")));
    world.handle(Event::Crowded(Module::Edged));
    world.says(Module::Edgehub, pushed("delete", "ns/pod/web", 5, POD));
    assert_eq!(world.sent, [], "the set will tell");
    world.now.at = world.core.deadline();
    world.handle(Event::Time);
    assert_eq!(set(&mut world), ("null/pod".to_owned(), "[]".to_owned()));
    world.says(Module::Edgehub, pushed("update", "ns/pod/web", 7, POD));
    assert_eq!(set(&mut world).0, "ns/pod/web");
    world.handle(Event::PeerDown(Module::Edged));
    world.says(Module::Edgehub, pushed("insert", "ns/pod/web", 8, POD));
    assert_eq!(world.sent, []);
}

#[test]
fn a_csi_request_is_edgeds_and_its_answer_the_clouds() {
    let mut world = World::linked();
    world.handle(Event::PeerUp(Module::Edgehub));
    let volume = message("cloudhub", "resource", "createvolume", "default/volume/v1", "\"{}\"");
    let receipt = world.says(Module::Edgehub, volume.clone());
    assert_eq!(world.ends.get(&receipt), None);
    let (asked, tag) = world.asked(Module::Edged);
    assert_eq!(asked, volume);
    let reply = asked.response(draw(), 0, raw("\"e30=\""));
    world.replied(tag, Ok(reply));
    assert_eq!(world.ends[&receipt], End::Settled);
    let (Module::Edgehub, answer) = &world.sent[0] else { panic!() };
    assert_eq!(answer.header.parent.as_ref(), Some(&volume.header.id));
    assert_eq!(
        (&answer.content, &answer.route.operation),
        (&raw("\"e30=\""), &Operation::Response)
    );

    let receipt = world.says(Module::Edgehub, volume);
    let (_, tag) = world.asked(Module::Edged);
    let silence = Silence::Unknown("edged died".to_owned());
    world.replied(tag, Err(silence));
    assert_eq!(world.ends[&receipt], End::Settled);
    let (_, answer) = &world.sent[1];
    assert_eq!(answer.route.operation, Operation::Error);
    assert_eq!(answer.content, Content::text("edged died"));
}

#[test]
fn after_a_restore_the_cloud_is_asked_about_everything() {
    let mut world = World::new();
    let pod = r#"{"metadata":{"name":"web","namespace":"ns","uid":"u-1"},"status":{"phase":"x"}}"#;
    world.says(Module::Edgehub, pushed("insert", "ns/pod/web", 5, pod));
    for name in ["gone", "here"] {
        let resource = format!("ns/configmap/{name}");
        world.says(Module::Edgehub, pushed("insert", &resource, 5, POD));
    }
    world.handle(Event::Restored);
    assert_eq!(world.requests, []);
    world.link(true);
    let sent: Vec<_> = world
        .requests
        .iter()
        .map(|(_, message, _)| format!("{} {}", message.route.operation, message.route.resource))
        .collect();
    assert_eq!(sent, ["update ns/podstatus", "query ns/configmap/gone", "query ns/configmap/here"]);
    let statuses = text(world.requests[0].1.content.raw());
    assert_eq!(statuses, r#"[{"UID":"u-1","Name":"web","Status":{"phase":"x"}}]"#);
    let newer = r#"{"metadata":{"name":"here","uid":"u-1"},"data":{}}"#;
    world.cloud_answers(newer, "9");
    world.cloud_answers(r#"{"ErrStatus":{"reason":"NotFound","code":404}}"#, "");
    assert_eq!(world.row("ns/configmap/here"), Some(newer));
    assert_eq!(world.row("ns/configmap/gone"), None);
    world.requests.clear();
    world.link(true);
    assert_eq!(world.requests, [], "once");
}

#[test]
fn late_answers_are_kept_and_settled() {
    let mut world = World::linked();
    let query = request("query", "ns/configmap/c", "null");
    let late = |content: &str| query.response(draw(), 0, raw(content));
    let receipt = world.says(Module::Edgehub, late(POD));
    assert_eq!((world.row("ns/configmap/c"), &world.ends[&receipt]), (Some(POD), &End::Settled));
    for nothing in ["{}", "null", "\"OK\"", r#"{"Object":null,"Err":{}}"#] {
        let receipt = world.says(Module::Edgehub, late(nothing));
        assert_eq!(world.ends[&receipt], End::Settled);
        assert_eq!(world.row("ns/configmap/c"), Some(POD));
    }
}
