//! The outbox and its bounds.

use proptest::prelude::*;

use super::*;
use crate::store::outbox::{MAX_BYTES, MAX_PARCELS};

impl Bench {
    fn parcels(&mut self, after: i64) -> Vec<i64> {
        match self.ask(Question::Outbox { after, limit: 100_000 }) {
            Ok(Answer::Outbox(parcels)) => parcels.into_iter().map(|(place, _)| place).collect(),
            other => panic!("expected parcels, got {other:?}"),
        }
    }
}

#[test]
fn a_later_parcel_replaces_one_of_its_subject_that_was_not_sent() {
    let mut bench = Bench::opened();
    bench.commit(vec![parcel(Some("a"), false, 0, 1), parcel(Some("b"), false, 0, 1)]);
    bench.commit(vec![parcel(Some("a"), false, 0, 1)]);
    assert_eq!(bench.parcels(0), [2, 3]);
    bench.commit(vec![parcel(Some("a"), false, 3, 1)]);
    assert_eq!(bench.parcels(0), [2, 3, 4], "what was sent stays until it arrived");
    bench.commit(vec![Change::Dequeue(3), Change::Dequeue(3), Change::Dequeue(99)]);
    assert_eq!(bench.parcels(0), [2, 4]);
}

#[test]
fn places_are_never_used_again() {
    let mut bench = Bench::opened();
    bench.commit(vec![parcel(None, false, 0, 1), Change::Dequeue(1)]);
    bench.stop();
    bench.start();
    assert_eq!(bench.health(), None);
    bench.commit(vec![parcel(None, false, 0, 1)]);
    assert_eq!(bench.parcels(0), [2]);
}

#[test]
fn events_are_the_first_to_go() {
    let mut bench = Bench::opened();
    bench.commit(vec![parcel(None, false, 0, 1), parcel(None, true, 0, 1)]);
    let full = usize::try_from(MAX_PARCELS).unwrap();
    bench.commit((2..full).map(|_| parcel(None, false, 0, 1)).collect());
    let committed = bench.commit(vec![parcel(None, false, 0, 1)]);
    assert_eq!(committed, Committed { dropped: 1, ..Committed::default() });
    let committed = bench.commit(vec![parcel(None, false, 0, 1)]);
    assert_eq!(committed, Committed { lost: 1, ..Committed::default() });
    let parcels = bench.parcels(0);
    assert_eq!((parcels.len(), parcels[0]), (full, 3));
}

#[test]
fn bytes_are_bounded_too() {
    let mut bench = Bench::opened();
    let quarter = usize::try_from(MAX_BYTES / 4).unwrap();
    bench.commit((0..3).map(|_| parcel(None, true, 0, quarter)).collect());
    let committed = bench.commit(vec![parcel(None, true, 0, quarter)]);
    assert_eq!(committed, Committed { dropped: 1, ..Committed::default() });
    assert_eq!(bench.parcels(0), [2, 3, 4]);
}

#[derive(Clone, Debug)]
enum Step {
    Queue(Option<u8>),
    Dequeue(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::option::of(0..3_u8).prop_map(Step::Queue),
        3 => (0..30_i64).prop_map(Step::Dequeue),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_outbox_is_a_list_in_which_the_last_of_a_subject_counts(
        steps in prop::collection::vec(step(), 0..30)
    ) {
        let mut bench = Bench::opened();
        let mut model: Vec<(i64, Option<u8>)> = Vec::new();
        let mut last = 0;
        for step in steps {
            match step {
                Step::Queue(subject) => {
                    let text = subject.map(|subject| subject.to_string());
                    bench.commit(vec![parcel(text.as_deref(), false, 0, 10)]);
                    model.retain(|(_, other)| subject.is_none() || *other != subject);
                    last += 1;
                    model.push((last, subject));
                }
                Step::Dequeue(place) => {
                    bench.commit(vec![Change::Dequeue(place)]);
                    model.retain(|(other, _)| *other != place);
                }
                Step::Restart => {
                    bench.stop();
                    bench.start();
                    prop_assert_eq!(bench.health(), None);
                }
            }
            let places: Vec<_> = model.iter().map(|(place, _)| *place).collect();
            prop_assert_eq!(bench.parcels(0), places);
        }
    }
}

/// A hundred pods that change every five minutes, and a node that is full of news.
#[test]
fn a_day_without_the_cloud_ends_in_a_bounded_queue_with_the_last_of_every_status() {
    const PODS: usize = 100;
    const ROUNDS: usize = 24 * 12;
    const EVENTS: usize = 20;
    let mut bench = Bench::opened();
    let mut gone = Committed::default();
    for _ in 0..ROUNDS {
        let mut said: Vec<_> = (0..EVENTS).map(|_| parcel(None, true, 0, 500)).collect();
        said.extend((0..PODS).map(|pod| parcel(Some(&pod.to_string()), false, 0, 2000)));
        let committed = bench.commit(said);
        gone.dropped += committed.dropped;
        gone.lost += committed.lost;
    }
    let kept = bench.parcels(0);
    assert!(i64::try_from(kept.len()).unwrap() <= MAX_PARCELS, "{} parcels", kept.len());
    assert_eq!(gone.lost, 0, "no status went");
    assert_eq!(gone.dropped as usize, ROUNDS * EVENTS + PODS - kept.len());
    let last = i64::try_from(ROUNDS * (EVENTS + PODS)).unwrap();
    let statuses = last - i64::try_from(PODS).unwrap() + 1..=last;
    assert!(statuses.into_iter().all(|place| kept.contains(&place)), "of each pod the last");
    let size = std::fs::metadata(&bench.path).unwrap().len();
    assert!(size < 2 * u64::try_from(MAX_BYTES).unwrap(), "the file has {size} bytes");
}
