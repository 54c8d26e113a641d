//! Single behaviours, each with the message that shows it.

use bytes::Bytes;

use super::super::*;

const HEARTBEAT: Duration = Duration::from_secs(15);

fn draw() -> MessageId {
    module_runtime::message_id()
}

/// A core, the time, and what came of it.
struct Bench {
    now: Instant,
    core: Core,
}

impl Bench {
    /// Makes a core with a link that is served.
    fn served() -> Self {
        let mut bench = Self::linked();
        let question = bench.written().pop().expect("a fresh link is asked whether it is served");
        bench.cloud_answers(&question);
        assert_eq!(bench.core.effect(), Some(Effect::Announce(true)));
        bench
    }

    /// Makes a core with a fresh link.
    fn linked() -> Self {
        let mut bench = Self::down();
        bench.core.link_up(bench.time());
        bench
    }

    fn down() -> Self {
        let now = Instant::now();
        Self { now, core: Core::new(now, HEARTBEAT, Bucket::new(30, 60), draw) }
    }

    fn time(&self) -> Now {
        Now { at: self.now, unix_ms: 7 }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.core.tick(self.time());
    }

    /// Returns all messages that go now, without heartbeats.
    fn written(&mut self) -> Vec<Message> {
        let mut written = Vec::new();
        while let Some(outgoing) = self.core.next(self.time()) {
            if let Outgoing::Message(message) = outgoing
                && message.route.operation != Operation::Keepalive
            {
                written.push(message);
            }
        }
        written
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.core.effect()).collect()
    }

    fn cloud_says(&mut self, json: &str) -> MessageId {
        let message = ipc_proto::json::decode(&Bytes::from(json.to_owned())).expect("a message");
        let id = message.header.id.clone();
        self.core.came_down(self.time(), message);
        id
    }

    fn cloud_answers(&mut self, message: &Message) -> Message {
        let mut answer = message.response(draw(), 0, Content::from_raw("{}".into()));
        answer.route.source = Source::Edgecontroller;
        answer.route.group = Group::Resource;
        self.core.came_down(self.time(), answer.clone());
        answer
    }

    fn module_sends(&mut self, token: Token, group: &str, operation: &str, resource: &str) {
        self.send(token, group, operation, resource, false);
    }

    fn send(&mut self, token: Token, group: &str, operation: &str, resource: &str, sync: bool) {
        let group = Group::parse(group);
        let route = Route {
            source: Source::Edged,
            operation: Operation::parse(operation),
            resource: Resource::parse(&group, resource),
            group,
        };
        let mut message = Message::new(draw(), 0, route, Content::NULL);
        message.header.sync = sync;
        self.core.sent_up(self.time(), Module::Metamanager, token, message);
    }
}

fn resources(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.route.resource.to_string()).collect()
}

const POD: &str = r#"{"header":{"msg_id":"p","resourceversion":"5"},"route":{"source":"edgecontroller","group":"resource","operation":"update","resource":"default/pod/p"},"content":{}}"#;

#[test]
fn a_pod_is_acknowledged_when_its_module_has_settled_it_and_not_before() {
    let mut bench = Bench::served();
    let id = bench.cloud_says(POD);
    assert!(matches!(&bench.effects()[..], [Effect::Deliver(Module::Metamanager, _)]));
    assert!(bench.written().is_empty());
    bench.core.settled(bench.time(), &id, Outcome::Done);
    let written = bench.written();
    assert_eq!(written[0].header.parent, Some(id));
    assert_eq!(*written[0].content.raw(), "\"OK\"");
    assert_eq!(written[0].route.source, Source::Edgecontroller);
}

#[test]
fn a_message_that_comes_again_is_neither_handed_on_nor_left_unacknowledged() {
    let mut bench = Bench::served();
    let id = bench.cloud_says(POD);
    bench.cloud_says(POD);
    assert_eq!(bench.effects().len(), 1);
    bench.core.settled(bench.time(), &id, Outcome::Refused("never".into()));
    assert_eq!(bench.written().len(), 1, "what is refused for good does not hold the queue");
    bench.cloud_says(POD);
    assert_eq!(bench.written().len(), 1);
    assert!(matches!(&bench.effects()[..], [Effect::Note(Note::Refused { .. })]));
}

#[test]
fn what_no_module_takes_is_answered_and_acknowledged() {
    for (group, operation, resource) in [
        ("novel", "update", "default/pod/p"),
        ("resource", "frobnicate", "default/pod/p"),
        ("resource", "update", "a/b/c/d"),
    ] {
        let mut bench = Bench::served();
        bench.cloud_says(&format!(
            r#"{{"header":{{"msg_id":"x"}},"route":{{"source":"edgecontroller","group":"{group}","operation":"{operation}","resource":"{resource}"}},"content":{{}}}}"#
        ));
        assert!(matches!(&bench.effects()[..], [Effect::Note(Note::Unsupported { .. })]));
        let written = bench.written();
        assert_eq!(written[0].route.operation, Operation::Error, "{group} {operation}");
        assert_eq!(written[1].route.operation, Operation::Response, "{group} {operation}");
    }
}

#[test]
fn an_answer_is_done_when_its_asker_has_it() {
    let mut bench = Bench::served();
    bench.module_sends(1, "meta", "query", "default/configmap/c");
    let written = bench.written();
    let answer = bench.cloud_answers(&written[0]);
    assert!(matches!(&bench.effects()[..], [Effect::Deliver(Module::Metamanager, _)]));
    bench.core.settled(bench.time(), &answer.header.id, Outcome::Done);
    assert_eq!(bench.effects(), [Effect::Done(1)]);
}

#[test]
fn what_is_never_answered_is_done_when_a_barrier_behind_it_is() {
    let mut bench = Bench::served();
    bench.module_sends(1, "meta", "insert", "default/event/e");
    assert_eq!(resources(&bench.written()), ["default/event/e"]);
    bench.pass(Duration::from_secs(1));
    let barrier = bench.written();
    assert_eq!(resources(&barrier), ["k8s/ca.crt"]);
    bench.module_sends(2, "meta", "insert", "default/event/f");
    assert_eq!(bench.written().len(), 1);
    bench.cloud_answers(&barrier[0]);
    assert_eq!(bench.effects(), [Effect::Done(1)], "the second came behind the barrier");
}

#[test]
fn a_cloud_without_barriers_is_asked_by_probes() {
    let mut bench = Bench::served();
    bench.module_sends(1, "meta", "insert", "default/event/e");
    let mut effects = Vec::new();
    while effects.is_empty() {
        bench.written();
        bench.pass(Duration::from_secs(1));
        effects = bench.effects();
    }
    assert_eq!(effects, [Effect::Note(Note::NoBarriers)]);
    let probe = std::iter::from_fn(|| bench.core.next(bench.time()))
        .filter_map(|outgoing| match outgoing {
            Outgoing::Probe(id) => Some(id),
            Outgoing::Message(_) => None,
        })
        .last()
        .expect("a probe");
    bench.core.probed(bench.time(), &probe);
    assert_eq!(bench.effects(), [Effect::Done(1)]);
}

#[test]
fn a_socket_on_which_nothing_comes_back_is_given_up() {
    let mut bench = Bench::linked();
    bench.module_sends(1, "meta", "insert", "default/event/e");
    for _ in 0..31 {
        let written = bench.written();
        assert!(written.iter().all(|message| message.route.resource == Resource::KubernetesCa));
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(bench.effects(), [Effect::Unserved]);
}

#[test]
fn only_the_latest_status_of_an_object_goes_up() {
    let mut bench = Bench::down();
    for token in 1..=3 {
        bench.module_sends(token, "meta", "patch", "default/podpatch/p");
        bench.module_sends(token + 10, "meta", "patch", "default/podpatch/q");
    }
    bench.module_sends(20, "meta", "delete", "default/pod/p");
    bench.module_sends(21, "meta", "patch", "default/podpatch/p");
    bench.core.link_up(bench.time());
    let question = bench.written().pop().expect("a barrier");
    bench.cloud_answers(&question);
    assert_eq!(
        resources(&bench.written()),
        ["default/podpatch/p", "default/podpatch/q", "default/pod/p", "default/podpatch/p"],
        "and what stood before a deletion stays before it"
    );
}

#[test]
fn a_lost_link_sends_everything_again_in_order_under_the_same_identity() {
    let mut bench = Bench::served();
    for (token, name) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.module_sends(token, "meta", "insert", &format!("default/event/{name}"));
    }
    let first = bench.written();
    bench.core.link_down(bench.time());
    bench.core.link_up(bench.time());
    let question = bench.written().pop().expect("a barrier");
    bench.cloud_answers(&question);
    assert_eq!(bench.written(), first);
}

#[test]
fn a_lease_does_not_wait_behind_a_thousand_events() {
    let mut bench = Bench::served();
    for token in 0..1000 {
        bench.module_sends(token, "meta", "insert", &format!("default/event/{token}"));
    }
    bench.written();
    bench.module_sends(1000, "meta", "update", "kube-node-lease/lease/edge1");
    bench.pass(Duration::from_millis(40));
    assert_eq!(resources(&bench.written()), ["kube-node-lease/lease/edge1"]);
}

#[test]
fn a_waiter_is_told_soon_when_there_is_no_cloud() {
    let mut bench = Bench::served();
    bench.send(1, "meta", "query", "default/secret/s", true);
    bench.written();
    bench.core.link_down(bench.time());
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.effects(), [Effect::Announce(false)], "the link may only have blinked");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.effects(), [Effect::Fail(1, "no connection to the cloud")]);
}

#[test]
fn keepalives_go_on_time_whatever_waits() {
    let mut bench = Bench::served();
    for token in 0..1000 {
        bench.module_sends(token, "meta", "insert", &format!("default/event/{token}"));
    }
    let mut keepalives = 0;
    for _ in 0..60 {
        bench.now += Duration::from_secs(1);
        if let Some(Outgoing::Message(message)) = bench.core.next(bench.time())
            && message.route.operation == Operation::Keepalive
        {
            keepalives += 1;
        }
        bench.written();
    }
    assert_eq!(keepalives, 4);
}

#[test]
fn acknowledgements_keep_the_clouds_pace_and_not_the_rate_limit() {
    let mut bench = Bench::served();
    for token in 0..1000 {
        bench.module_sends(token, "meta", "insert", &format!("default/event/{token}"));
    }
    bench.written();
    for number in 0..500 {
        let id = bench.cloud_says(&POD.replace("\"p\"", &format!("\"p{number}\"")));
        bench.core.settled(bench.time(), &id, Outcome::Done);
        assert_eq!(bench.written().len(), 1, "number {number}");
    }
}

#[test]
fn what_would_harm_the_cloud_is_refused() {
    let mut bench = Bench::served();
    bench.module_sends(1, "meta", "update", "kube-node-lease/lease");
    bench.module_sends(2, "resource", "keepalive", "node");
    let effects = bench.effects();
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Refuse(..))));
    assert_eq!(effects.len(), 2);
}

#[test]
fn a_message_that_its_sender_sends_again_goes_once() {
    let mut bench = Bench::served();
    let group = Group::Meta;
    let route = Route {
        source: Source::Edged,
        operation: Operation::Insert,
        resource: Resource::parse(&group, "default/event/e"),
        group,
    };
    let message = Message::new(draw(), 0, route, Content::NULL);
    bench.core.sent_up(bench.time(), Module::Metamanager, 1, message.clone());
    bench.core.sent_up(bench.time(), Module::Metamanager, 2, message);
    assert_eq!(bench.written().len(), 1);
    bench.pass(Duration::from_secs(1));
    let barrier = bench.written();
    bench.cloud_answers(&barrier[0]);
    assert_eq!(bench.effects(), [Effect::Done(1), Effect::Done(2)]);
}

/// The queue of a day: it comes up no faster than the cloud is asked to take it, and what says that
/// the node lives does not stand in it.
#[test]
fn a_backlog_comes_up_gently_and_the_lease_before_it() {
    use ipc_proto::Kind;
    let resource = |kind: Kind, name: &str| {
        Resource::object(ipc_proto::Scope::Namespace("default".into()), kind, name)
    };
    let message = |resource: Resource, operation: Operation| {
        let route = Route { source: Source::Edged, group: Group::Meta, operation, resource };
        Message::new(draw(), 0, route, Content::from_raw("{}".into()))
    };
    let mut bench = Bench::served();
    for token in 0..1000 {
        let patch = message(resource(Kind::PodPatch, &token.to_string()), Operation::Patch);
        bench.core.sent_up(bench.time(), Module::Metamanager, token, patch);
    }
    let burst = bench.written().len();
    assert!(burst <= 60, "{burst} at once");
    let lease = message(resource(Kind::Lease, "edge1"), Operation::Update);
    bench.core.sent_up(bench.time(), Module::Metamanager, 1000, lease.clone());
    bench.pass(Duration::from_millis(100));
    let next = bench.written();
    assert_eq!(next.first().map(|it| &it.header.id), Some(&lease.header.id));
    for second in 1..20 {
        bench.pass(Duration::from_secs(1));
        let written = bench.written().len();
        assert!(written <= 31, "{written} in second {second}");
        assert!(written >= 20, "{written} in second {second}: it goes on");
    }
}

#[test]
fn no_node_but_this_one_is_changed() {
    let mut bench = Bench::served();
    bench.core = Core::new(bench.now, HEARTBEAT, Bucket::new(30, 60), draw).of_node("edge1");
    for (operation, resource) in [
        ("update", "default/nodestatus/edge2"),
        ("patch", "default/nodepatch/edge2"),
        ("insert", "default/node/edge2"),
        ("update", "kube-node-lease/lease/edge2"),
    ] {
        bench.module_sends(1, "meta", operation, resource);
        let effects = bench.effects();
        let [Effect::Refuse(1, why)] = &effects[..] else { panic!("{resource}: {effects:?}") };
        assert_eq!(why, "node edge2 is not this node's to change, expected edge1");
    }
    for (operation, resource) in [
        ("query", "default/node/edge2"),
        ("update", "kube-node-lease/lease/edge1"),
        ("patch", "default/nodepatch/edge1"),
        ("update", "default/lease/of-an-application"),
    ] {
        bench.module_sends(2, "meta", operation, resource);
        assert_eq!(bench.effects(), [], "{resource}");
    }
}
