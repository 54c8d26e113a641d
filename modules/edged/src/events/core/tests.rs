//! What becomes of events.

use proptest::prelude::*;

use super::*;

fn note(name: &str, reason: &'static str, message: &str) -> Note {
    let about = About {
        kind: "Pod",
        namespace: "ns".to_owned(),
        name: name.to_owned(),
        uid: "u".to_owned(),
        part: "spec.containers{web}".to_owned(),
    };
    Note { about, warning: true, reason, message: message.to_owned() }
}

#[test]
fn one_that_comes_again_is_counted() {
    let mut correlator = Correlator::new("edge1".to_owned());
    let Some(Said::New(event)) = correlator.take(note("p", "BackOff", "m"), 0, || 7) else {
        panic!("the first is told");
    };
    assert_eq!(event["metadata"], json!({"name": "p.0000000000000007", "namespace": "ns"}));
    assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{web}");
    assert_eq!((&event["count"], &event["type"]), (&json!(1), &json!("Warning")));
    let Some(Said::Again { event, patch }) =
        correlator.take(note("p", "BackOff", "m"), 60_000, || 8)
    else {
        panic!("the second is counted");
    };
    assert_eq!(event["metadata"]["name"], "p.0000000000000007");
    assert_eq!(event["firstTimestamp"], "1970-01-01T00:00:00Z");
    assert_eq!(patch, json!({"count": 2, "lastTimestamp": "1970-01-01T00:01:00Z", "message": "m"}));
}

#[test]
fn many_that_are_alike_become_one() {
    let mut correlator = Correlator::new("edge1".to_owned());
    let mut said = Vec::new();
    for number in 0..13 {
        let note = note("p", "Failed", &number.to_string());
        said.extend(correlator.take(note, number, || number.unsigned_abs()));
    }
    let new = said.iter().filter(|said| matches!(said, Said::New(_))).count();
    assert_eq!((new, said.len()), (10, 13));
    let Some(Said::Again { event, .. }) = said.last() else { panic!("counted") };
    assert_eq!(event["message"], "(combined from similar events): 12");
    assert_eq!(event["count"], 4);
    let later = note("p", "Failed", "13");
    assert!(matches!(correlator.take(later, 12 + ALIKE_TIME, || 1), Some(Said::Again { .. })));
    let rested = note("p", "Failed", "14");
    let Some(Said::New(event)) = correlator.take(rested, 13 + 2 * ALIKE_TIME, || 2) else {
        panic!("after a rest they are told apart again");
    };
    assert_eq!(event["message"], "14");
}

#[test]
fn what_there_was_no_room_for_is_counted() {
    let mut correlator = Correlator::new("edge1".to_owned());
    let told = (0..100).filter(|now| correlator.take(note("p", "r", "m"), *now, || 1).is_some());
    assert_eq!(told.count(), 25);
    assert_eq!(correlator.take(note("p", "s", "late"), 100, || 2), None);
    let Some(Said::Again { patch, .. }) = correlator.take(note("p", "r", "m"), REFILL, || 3) else {
        panic!("there is room again");
    };
    assert_eq!(patch["count"], 101);
    let Some(Said::New(event)) = correlator.take(note("p", "s", "late"), 2 * REFILL, || 4) else {
        panic!("the cloud never heard of it");
    };
    assert_eq!(
        (&event["count"], &event["firstTimestamp"]),
        (&json!(2), &json!("1970-01-01T00:00:00Z"))
    );
}

#[test]
fn an_event_that_the_cloud_has_forgotten_is_a_new_one() {
    let mut correlator = Correlator::new("edge1".to_owned());
    let names: Vec<_> = [(0, 1), (FORGOTTEN - 1, 2), (2 * FORGOTTEN - 1, 3)]
        .into_iter()
        .filter_map(|(now, number)| match correlator.take(note("p", "r", "m"), now, || number)? {
            Said::New(event) => Some((event["metadata"]["name"].clone(), event["count"].clone())),
            Said::Again { .. } => None,
        })
        .collect();
    let name = |number| json!(format!("p.000000000000000{number}"));
    assert_eq!(names, [(name(1), json!(1)), (name(3), json!(3))]);
}

#[test]
fn long_messages_are_cut_where_a_letter_ends() {
    let mut correlator = Correlator::new("edge1".to_owned());
    let long = note("p", "r", &"ä".repeat(MAX_MESSAGE));
    let Some(Said::New(event)) = correlator.take(long, 0, || 1) else { panic!("told") };
    assert_eq!(event["message"], "ä".repeat(MAX_MESSAGE / 2));
}

#[test]
fn an_object_that_never_rests_is_heard_of_rarely() {
    let mut correlator = Correlator::new("edge1".to_owned());
    let mut take = |name, now| correlator.take(note(name, "BackOff", "m"), now, || 1).is_some();
    let heard = (0..100).filter(|now| take("p", *now)).count();
    assert_eq!(heard, 25);
    assert!(take("other", 100), "others are not concerned");
    assert!(take("p", 300_000) && !take("p", 300_001));
    assert!(take("p", 600_000));
}

#[test]
fn a_nodes_events_stand_where_kubectl_looks() {
    let mut correlator = Correlator::new("edge1".to_owned());
    let note = Note { about: About::node("edge1"), ..note("", "Starting", "Starting") };
    let Some(Said::New(event)) = correlator.take(note, 0, || 1) else { panic!("told") };
    assert_eq!(event["metadata"]["namespace"], "default");
    let wanted = json!({"kind": "Node", "name": "edge1", "uid": "edge1"});
    assert_eq!(event["involvedObject"], wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn nothing_that_is_remembered_grows_without_bound(
        names in prop::collection::vec(0..5000_u32, 2000..3000)
    ) {
        let mut correlator = Correlator::new("edge1".to_owned());
        for (now, name) in names.into_iter().enumerate() {
            let now = i64::try_from(now).unwrap();
            correlator.take(note(&name.to_string(), "r", "m"), now, || 1);
        }
        prop_assert!(correlator.counted.0.len() <= REMEMBERED);
        prop_assert!(correlator.alike.0.len() <= REMEMBERED);
        prop_assert!(correlator.buckets.0.len() <= REMEMBERED);
    }
}
