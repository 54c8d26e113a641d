//! The core against a store and a cloud that answer when they are told to.

mod clock;
mod many;

use serde_json::{Value, json};

use super::*;
use crate::dmi::words as w;

struct World {
    core: Core,
    now: Now,
    receipts: u64,
    out: Vec<Effect>,
}

impl World {
    fn new() -> Self {
        let draw = || MessageId::from_random([7; 16]);
        let now = Now { at: Instant::now(), unix_ms: 1_795_408_033_822 };
        Self { core: Core::new("edge1", draw), now, receipts: 0, out: Vec::new() }
    }

    fn with_device() -> Self {
        let mut world = Self::new();
        let content = br#"{"event_id":"m","timestamp":1,"added_devices":[{"id":"default/d","name":"d"}],"removed_devices":null}"#;
        world.core.on_membership(world.now, content, &mut world.out);
        world.stored(true);
        world.out.clear();
        world
    }

    fn says(&mut self, suffix: &str, payload: &str) -> Receipt {
        self.receipts += 1;
        let receipt = Receipt(self.receipts);
        let topic = format!("$hw/events/device/default/d/{suffix}");
        self.core.on_topic(self.now, &topic, payload, receipt, &mut self.out);
        receipt
    }

    fn stored(&mut self, ok: bool) {
        // The answer is to the rows that were sent last.
        let number = self.core.stores;
        self.core.on_stored(self.now, ("default/d", number), ok, &mut self.out);
        self.core.pump(self.now, &mut self.out);
    }

    fn confirm(&mut self, sent: &Sent, ok: bool) {
        self.core.on_reported(self.now, "default/d", sent, ok);
        self.core.pump(self.now, &mut self.out);
    }

    fn settled(&self, receipt: Receipt) -> bool {
        self.out.contains(&Effect::Settle(receipt))
    }

    fn published(&self, suffix: &str) -> Option<Value> {
        self.out.iter().find_map(|effect| {
            let Effect::Publish(topic, content) = effect else { return None };
            topic.ends_with(suffix).then(|| content.decode().ok())?
        })
    }

    fn reported(&mut self) -> Option<(Sent, Value)> {
        let place = self.out.iter().position(|effect| matches!(effect, Effect::Report(..)))?;
        let Effect::Report(_, sent, content) = self.out.remove(place) else { return None };
        Some((sent, content.decode().ok()?))
    }
}

const UPDATE: &str = r#"{"event_id":"e3","timestamp":1,"twin":{"temperature":{"actual":{"value":"22"},"metadata":{"type":"int"}}}}"#;

#[test]
fn an_update_is_answered_and_settled_when_it_is_stored_and_not_before() {
    let mut world = World::with_device();
    let receipt = world.says("twin/update", UPDATE);
    assert!(matches!(&world.out[..], [Effect::Store(..)]), "{:?}", world.out);
    world.stored(true);
    assert!(world.settled(receipt));
    // As recorded from the Go edgecore.
    let twin = json!({"actual": {"value": "22", "metadata": {"timestamp": 1_795_408_033_822i64}},
        "optional": true, "metadata": {"type": "int"}});
    let base = json!({"event_id": "e3", "timestamp": 1_795_408_033_822i64});
    let mut result = base.clone();
    result["twin"] = json!({"temperature": twin});
    assert_eq!(world.published("twin/update/result"), Some(result));
    let mut document = base;
    document["twin"] = json!({"temperature": {"last": null, "current": twin}});
    assert_eq!(world.published("twin/update/document"), Some(document));
    assert_eq!(world.published("delta"), None);
}

#[test]
fn a_store_that_fails_holds_the_answer_back_until_it_works() {
    let mut world = World::with_device();
    let receipt = world.says("twin/update", UPDATE);
    world.stored(false);
    assert!(!world.settled(receipt));
    world.out.clear();
    world.now.at += STORE_PAUSE;
    world.core.on_time(world.now, &mut world.out);
    assert!(matches!(&world.out[..], [Effect::Store(..)]));
    world.stored(true);
    assert!(world.settled(receipt));
}

#[test]
fn the_cloud_is_told_the_latest_until_it_has_confirmed_it_twice() {
    let mut world = World::with_device();
    for value in 0..50 {
        let update = UPDATE.replace("22", &value.to_string());
        world.says("twin/update", &update);
        world.stored(true);
    }
    assert!(world.reported().is_none(), "there is no cloud");
    world.core.on_link(world.now, true, &mut world.out);
    let (first, report) = world.reported().unwrap();
    let temperature = &report["twin"]["temperature"];
    assert_eq!(temperature["actual"]["value"], "49");
    assert_eq!(temperature["actual_version"], json!({"cloud": 0, "edge": 50}));
    assert_eq!(first.change(), "twin/edge_updated");
    assert!(world.reported().is_none(), "one at a time");
    world.confirm(&first, true);
    let (second, _) = world.reported().unwrap();
    world.says("twin/update", UPDATE);
    world.stored(true);
    world.confirm(&second, true);
    let (third, report) = world.reported().unwrap();
    assert_eq!(report["twin"]["temperature"]["actual"]["value"], "22");
    world.confirm(&third, true);
    assert!(world.reported().is_none());
    assert_eq!(world.core.untold(), 0);
}

#[test]
fn the_cloud_is_told_what_is_stored_and_not_what_is_being_stored() {
    let mut world = World::with_device();
    world.core.on_link(world.now, true, &mut world.out);
    world.says("twin/update", &UPDATE.replace("22", "1"));
    assert!(world.reported().is_none());
    world.says("twin/update", &UPDATE.replace("22", "2"));
    world.stored(true);
    let (first, report) = world.reported().unwrap();
    assert_eq!(report["twin"]["temperature"]["actual"]["value"], "1");
    world.says("twin/update", &UPDATE.replace("22", "3"));
    world.confirm(&first, true);
    assert!(world.reported().is_none(), "the second is not stored");
    world.stored(true);
    let (_, report) = world.reported().unwrap();
    assert_eq!(report["twin"]["temperature"]["actual"]["value"], "2");
}

#[test]
fn a_device_that_comes_again_does_not_wait_for_an_answer_to_the_one_before() {
    let mut world = World::with_device();
    world.core.on_link(world.now, true, &mut world.out);
    world.says("twin/update", UPDATE);
    world.stored(true);
    let (old, _) = world.reported().unwrap();
    let gone = br#"{"removed_devices":[{"id":"default/d"}],"added_devices":null}"#;
    world.core.on_membership(world.now, gone, &mut world.out);
    let back = br#"{"added_devices":[{"id":"default/d","name":"d"}]}"#;
    world.core.on_membership(world.now, back, &mut world.out);
    world.stored(true);
    for value in ["1", "2"] {
        world.says("twin/update", &UPDATE.replace("22", value));
        world.stored(true);
    }
    let (new, report) = world.reported().unwrap();
    assert_eq!(report["twin"]["temperature"]["actual"]["value"], "1");
    world.confirm(&new, true);
    let (newer, _) = world.reported().unwrap();
    world.confirm(&old, false);
    assert!(world.core.deadline().is_none(), "what the old one was not answered is of no account");
    world.confirm(&newer, true);
}

#[test]
fn a_report_that_the_cloud_does_not_answer_goes_again_and_after_a_new_life_too() {
    let mut world = World::with_device();
    world.core.on_link(world.now, true, &mut world.out);
    world.says("twin/update", &UPDATE.replace("22", "21"));
    world.says("twin/update", UPDATE);
    world.stored(true);
    let first = world.reported().unwrap().0;
    let Some(Effect::Store(_, rows)) = world.out.last().cloned() else { panic!("no rows") };
    world.stored(true);
    world.confirm(&first, true);
    let (sent, _) = world.reported().unwrap();
    world.confirm(&sent, false);
    assert!(world.reported().is_none(), "it rests");
    world.now.at = world.core.deadline().unwrap();
    world.core.on_time(world.now, &mut world.out);
    assert_eq!(world.reported().unwrap().0.says, sent.says);

    let mut again = World::new();
    again.core.load(*rows);
    again.core.on_link(again.now, true, &mut again.out);
    // Whatever the version: the cloud may have been away all the time, and loses a first report.
    for _ in 0..2 {
        let (told, _) = again.reported().unwrap();
        assert_eq!(told.says, sent.says);
        again.confirm(&told, true);
    }
    assert!(again.reported().is_none());
}

#[test]
fn what_is_expected_and_not_so_is_told_after_every_update() {
    let mut world = World::with_device();
    world.says(
        "twin/update",
        r#"{"twin":{"t":{"expected":{"value":"20"},"actual":{"value":"21"}}}}"#,
    );
    world.stored(true);
    assert_eq!(world.published("delta").unwrap()["delta"], json!({"t": "20"}));
}

#[test]
fn bad_input_is_answered_with_a_code_and_a_reason_and_counted() {
    let mut world = World::with_device();
    let long = format!("{{\"pad\":\"{}\"}}", "x".repeat(10 << 20));
    let cases = [
        ("", 400, "not as expected"),
        ("[1]", 400, "not as expected"),
        (r#"{"event_id":"e"}"#, 400, "no 'twin'"),
        (r#"{"twin":{"a b":{}}}"#, 400, "property 'a b'"),
        (r#"{"twin":{"t":{"actual":{"value":"warm"},"metadata":{"type":"int"}}}}"#, 400, "int"),
        (r#"{"twin":{"t":{"actual":{"value":5}}}}"#, 400, "not as expected"),
        (r#"{"twin":{"t":null}}"#, 400, "does not exist"),
        (&*long, 400, "bytes, expected at most"),
    ];
    let count = cases.len() as u64;
    for (payload, code, reason) in cases {
        let receipt = world.says("twin/update", payload);
        assert!(world.settled(receipt));
        let result = world.published("twin/update/result").unwrap();
        assert_eq!(result["code"], code);
        let said = result["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{said}");
        assert!(!world.out.iter().any(|effect| matches!(effect, Effect::Store(..))));
        world.out.clear();
    }
    assert_eq!(world.core.counts.bad_requests, count);
    let topic = "$hw/events/device/events/hw/twin/get";
    world.core.on_topic(world.now, topic, "{}", Receipt(99), &mut world.out);
    assert_eq!(world.published("device/events/hw/twin/get/result").unwrap()["code"], 404);
    assert_eq!(world.core.counts.unknown_devices, 1);
}

#[test]
fn a_mappers_report_may_lack_any_field() {
    let mut world = World::with_device();
    let named = |twin| w::ReportDeviceStatusRequest {
        device_name: "d".into(),
        device_namespace: "default".into(),
        reported_device: twin,
    };
    let property = || Some(w::TwinProperty { value: "21".into(), ..Default::default() });
    let twin = |observed_desired, reported| w::Twin {
        property_name: "t".into(),
        observed_desired,
        reported,
    };
    let twins = [twin(None, None), twin(None, property()), twin(property(), None)];
    let reports =
        twins.map(|twin| named(Some(w::DeviceStatus { twins: vec![twin], ..Default::default() })));
    for (receipt, report) in (100..).map(Receipt).zip([named(None)].into_iter().chain(reports)) {
        world.core.on_report(world.now, report, receipt, &mut world.out);
        world.stored(true);
        assert!(world.settled(receipt), "{:?}", world.out);
    }
    let empty = w::ReportDeviceStatusRequest::default();
    world.core.on_report(world.now, empty, Receipt(200), &mut world.out);
    assert!(matches!(
        world.out.last(),
        Some(Effect::Refuse(Receipt(200), Refused { code: 404, .. }))
    ));
}

#[test]
fn a_device_that_is_not_in_the_set_goes_and_one_that_is_comes() {
    let mut world = World::new();
    world.core.load(Rows { id: "default/old".into(), name: "old".into(), ..Rows::default() });
    let device = json!([{"metadata": {"name": "d", "namespace": "default", "uid": "1"},
        "spec": {"protocol": {"protocolName": "modbus"}, "deviceModelRef": {"name": "m"}}}]);
    world.core.on_devices(world.now, device.to_string().as_bytes(), &mut world.out);
    assert!(world.out.contains(&Effect::Remove("default/old".into())));
    assert!(
        world.out.iter().any(|it| matches!(it, Effect::Store(_, rows) if &*rows.id == "default/d"))
    );
    assert_eq!(world.core.len(), 1);
}
