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
    assert_eq!(committed, Committed { dropped: 1, lost: 0 });
    let committed = bench.commit(vec![parcel(None, false, 0, 1)]);
    assert_eq!(committed, Committed { dropped: 0, lost: 1 });
    let parcels = bench.parcels(0);
    assert_eq!((parcels.len(), parcels[0]), (full, 3));
}

#[test]
fn bytes_are_bounded_too() {
    let mut bench = Bench::opened();
    let quarter = usize::try_from(MAX_BYTES / 4).unwrap();
    bench.commit((0..3).map(|_| parcel(None, true, 0, quarter)).collect());
    let committed = bench.commit(vec![parcel(None, true, 0, quarter)]);
    assert_eq!(committed, Committed { dropped: 1, lost: 0 });
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
