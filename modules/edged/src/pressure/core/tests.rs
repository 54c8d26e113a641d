//! Tests of when the node acts.

use proptest::prelude::*;

use super::super::threshold::{Reading, Signal};
use super::*;
use crate::config::Kept;

fn threshold(signal: Signal, value: u64, grace: i64, reclaim: u64) -> Threshold {
    let reclaim = (reclaim > 0).then_some(Kept::Bytes(reclaim));
    Threshold { signal, value: Kept::Bytes(value), grace, reclaim }
}

fn readings(memory: u64, disk: u64) -> Readings {
    let of = |available| Reading { available, capacity: 1000 };
    [(Signal::Memory, of(memory)), (Signal::NodeFs, of(disk))].into()
}

#[test]
fn memory_comes_first_and_what_cannot_be_read_is_no_reason() {
    let all = [threshold(Signal::NodeFs, 10, 0, 0), threshold(Signal::Memory, 10, 0, 0)];
    let mut past = Past::default();
    let act = past.look(&all, 1000, &readings(5, 5), 0);
    let signals: Vec<_> = act.iter().map(|it| it.signal).collect();
    assert_eq!(signals, [Signal::Memory, Signal::NodeFs]);
    assert_eq!(past.look(&all, 1000, &Readings::new(), 1), []);
}

#[test]
fn what_is_to_be_reclaimed_is_beyond_the_threshold() {
    let all = [threshold(Signal::Memory, 10, 0, 5)];
    let mut past = Past::default();
    assert_eq!(past.look(&all, 1000, &readings(12, 0), 0), []);
    assert_eq!(past.look(&all, 1000, &readings(9, 0), 1), all);
    assert_eq!(past.look(&all, 1000, &readings(12, 0), 2), all);
    assert_eq!(past.look(&all, 1000, &readings(15, 0), 3), []);
    assert_eq!(past.look(&all, 1000, &readings(12, 0), 4), []);
}

#[test]
fn the_next_life_goes_on_where_this_one_ended() {
    let all = [threshold(Signal::Memory, 10, 500, 0)];
    let mut past = Past::default();
    assert_eq!(past.look(&all, 1000, &readings(5, 0), 0), []);
    let text = serde_json::to_string(&past).unwrap();
    let mut next: Past = serde_json::from_str(&text).unwrap();
    assert_eq!(next, past);
    assert_eq!(next.look(&all, 1000, &readings(5, 0), 499), []);
    assert_eq!(next.look(&all, 1000, &readings(5, 0), 500), all);
    // And one whose clock was set back begins anew, and ends no pressure early.
    assert_eq!(next.look(&all, 1000, &readings(5, 0), -9000), []);
    assert!(next.pressures().contains(&Pressure::Memory));
}

/// Available memory at each look, and the milliseconds until the next.
fn looks() -> impl Strategy<Value = Vec<(u64, i64)>> {
    proptest::collection::vec((0_u64..30, 1_i64..400), 1..40)
}

proptest! {
    #[test]
    fn a_soft_threshold_acts_when_it_was_met_for_its_grace_and_a_hard_one_at_once(looks in looks()) {
        let (hard, soft) = (threshold(Signal::Memory, 10, 0, 0), threshold(Signal::Memory, 20, 500, 0));
        let (mut past, mut now, mut met_since) = (Past::default(), 0, None);
        for (available, pause) in looks {
            let act = past.look(&[hard, soft], 1000, &readings(available, 0), now);
            prop_assert_eq!(act.contains(&hard), available < 10);
            met_since = if available < 20 { met_since.or(Some(now)) } else { None };
            prop_assert_eq!(act.contains(&soft), met_since.is_some_and(|since| now - since >= 500));
            now += pause;
        }
    }

    #[test]
    fn a_pressure_stays_for_its_transition_and_no_longer(looks in looks()) {
        let all = [threshold(Signal::Memory, 10, 0, 0)];
        let (mut past, mut now, mut last) = (Past::default(), 0, None);
        for (available, pause) in looks {
            past.look(&all, 1000, &readings(available, 0), now);
            if available < 10 {
                last = Some(now);
            }
            let expected = last.is_some_and(|last| now - last < 1000);
            prop_assert_eq!(past.pressures().contains(&Pressure::Memory), expected);
            now += pause;
        }
    }
}
