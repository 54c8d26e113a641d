//! Histories by chance: whatever is said in whatever order, each message ends once, what the cloud
//! was told is stored is stored, and what edged was told is kept arrives.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push { delete: bool, kind: usize, name: u8, version: u64 },
    Ask { kind: usize, name: u8 },
    Patch { name: u8, number: u32 },
    Event(u8),
    Answer { which: usize, kind: u8 },
    Arrive(usize),
    Link(bool),
    Peer { module: usize, up: bool },
    Crowded,
    Time,
}

const KINDS: [&str; 5] = ["pod", "configmap", "persistentvolume", "lease", "serviceaccounttoken"];
const PEERS: [Module; 3] = [Module::Edged, Module::Edgehub, Module::Edgemesh];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any::<bool>(), 0..2_usize, 0..3_u8, 1..9_u64)
            .prop_map(|(delete, kind, name, version)| Step::Push { delete, kind, name, version }),
        5 => (0..KINDS.len(), 0..3_u8).prop_map(|(kind, name)| Step::Ask { kind, name }),
        4 => (0..3_u8, any::<u32>()).prop_map(|(name, number)| Step::Patch { name, number }),
        2 => (0..3_u8).prop_map(Step::Event),
        6 => (any::<usize>(), 0..6_u8).prop_map(|(which, kind)| Step::Answer { which, kind }),
        2 => any::<usize>().prop_map(Step::Arrive),
        2 => any::<bool>().prop_map(Step::Link),
        1 => (0..PEERS.len(), any::<bool>())
            .prop_map(|(module, up)| Step::Peer { module, up }),
        1 => Just(Step::Crowded),
        1 => Just(Step::Time),
    ]
}

fn object(name: u8, version: u64) -> String {
    format!(r#"{{"metadata":{{"name":"n{name}","uid":"u{name}","resourceVersion":"{version}"}}}}"#)
}

fn result(request: &Message, kind: u8) -> Result<Message, Silence> {
    let respond = |content: &str| Ok(request.response(draw(), 0, raw(content)));
    let resource = request.route.resource.to_string();
    let name = resource.bytes().last().map_or(0, |digit| digit.wrapping_sub(b'0'));
    match kind {
        0 => respond(&object(name, 4)),
        1 => respond(&format!(r#"{{"Object":{},"Err":null}}"#, object(name, 4))),
        2 => respond(r#"{"ErrStatus":{"reason":"NotFound"}}"#),
        3 => respond("\"OK\""),
        4 => Err(Silence::Refused("never".to_owned())),
        _ => Err(Silence::Unknown("nobody knows".to_owned())),
    }
}

fn play(world: &mut World, step: Step) {
    match step {
        Step::Push { delete, kind, name, version } => {
            let operation = if delete { "delete" } else { "update" };
            let resource = format!("ns/{}/n{name}", KINDS[kind]);
            let message = pushed(operation, &resource, version, &object(name, version));
            let receipt = world.says(Module::Edgehub, message);
            assert_eq!(world.ends[&receipt], End::Settled);
            let stored = world.row(&resource).map(str::to_owned);
            assert_eq!(stored, (!delete).then(|| object(name, version)), "acknowledged, so stored");
        }
        Step::Ask { kind, name } => {
            let content = if KINDS[kind] == "serviceaccounttoken" { "{}" } else { "null" };
            let query = request("query", &format!("ns/{}/n{name}", KINDS[kind]), content);
            let receipt = world.says(Module::Edged, query);
            assert!(world.core.linked || world.ends.contains_key(&receipt), "answered at once");
        }
        Step::Patch { name, number } => {
            let resource = format!("ns/podpatch/n{name}");
            world.says(Module::Edged, request("patch", &resource, &format!("\"{number}\"")));
            let kept = world.row(&resource).map(str::to_owned);
            assert_eq!(kept, Some(number.to_string()));
        }
        Step::Event(name) => {
            let event = request("insert", &format!("ns/event/n{name}"), "{}");
            let receipt = world.says(Module::Edged, event);
            assert_eq!(world.response(receipt), "\"OK\"");
        }
        Step::Answer { which, kind } if !world.requests.is_empty() => {
            let (_, request, tag) = world.requests.remove(which % world.requests.len());
            let result = result(&request, kind);
            world.replied(tag, result);
        }
        Step::Arrive(which) if !world.delivered.is_empty() => {
            let (_, sequence) = world.delivered.remove(which % world.delivered.len());
            world.handle(Event::Delivered(sequence, Ok(())));
        }
        Step::Link(up) => world.link(up),
        Step::Peer { module, up: true } => world.handle(Event::PeerUp(PEERS[module])),
        Step::Peer { module, up: false } => world.handle(Event::PeerDown(PEERS[module])),
        Step::Crowded => world.handle(Event::Crowded(Module::Edged)),
        Step::Time => {
            world.now.at = world.core.deadline();
            world.handle(Event::Time);
        }
        Step::Answer { .. } | Step::Arrive(_) => {}
    }
}

/// Lets the cloud come back and answer all that it is asked.
fn settle_down(world: &mut World) {
    world.link(true);
    for _ in 0..10_000 {
        if let Some((_, request, tag)) = world.requests.pop() {
            world.replied(tag, result(&request, 1));
        } else if let Some((_, sequence)) = world.delivered.pop() {
            world.handle(Event::Delivered(sequence, Ok(())));
        } else {
            return;
        }
    }
    panic!("the core does not come to rest");
}

proptest! {
    #[test]
    fn each_message_ends_once_and_what_is_kept_arrives(
        steps in prop::collection::vec(step(), 0..80)
    ) {
        let mut world = World::new();
        for step in steps {
            play(&mut world, step);
        }
        settle_down(&mut world);
        let unended: Vec<_> =
            (1..=world.receipts).filter(|receipt| !world.ends.contains_key(receipt)).collect();
        prop_assert!(unended.is_empty(), "{unended:?}");
        prop_assert!(world.outbox.is_empty(), "{:?}", world.outbox);
        prop_assert!(world.core.asked.is_empty() && world.core.volumes.is_empty());
    }

    #[test]
    fn no_message_is_too_strange(
        from in prop::sample::select(&Module::ALL[1..]),
        group in prop::sample::select(Group::KNOWN),
        source in prop::sample::select(Source::KNOWN),
        operation in prop::sample::select(Operation::KNOWN),
        resource in "(null|ns|device|)(/(pod|podpatch|lease|servicelist|device|node|x|))?(/[a-z/]{0,4})?",
        json in r#"(null|7|"x"|\{\}|\[\]|\[\{\}\]|\{"metadata":7\}|\{"metadata":\{"uid":7\}\}|\{|.{0,9})"#,
        sync in any::<bool>(),
        answer in any::<bool>(),
        linked in any::<bool>(),
    ) {
        let mut world = World::new();
        world.link(linked);
        let mut message = message(source, group, operation, &resource, &json);
        message.header.sync = sync;
        message.header.parent = answer.then(draw);
        let receipt = world.says(from, message);
        settle_down(&mut world);
        // A notice of the link is taken at its word; all else has ended by now.
        while let Some((_, request, tag)) = world.requests.pop() {
            world.replied(tag, result(&request, 5));
        }
        prop_assert!(world.ends.contains_key(&receipt));
    }
}
