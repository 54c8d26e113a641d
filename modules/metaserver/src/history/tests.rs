//! Tests of places among changes.

use super::*;

fn change(name: &str, version: u64) -> Change {
    let value = format!(r#"{{"metadata":{{"resourceVersion":"{version}"}}}}"#).into();
    Change { key: format!("/core/v1/pods/ns/{name}").into(), fate: Fate::Changed, value }
}

fn names(changes: &[Change]) -> Vec<&str> {
    changes.iter().filter_map(|change| change.key.rsplit('/').next()).collect()
}

const PODS: &str = "/core/v1/pods/";

#[test]
fn a_watch_goes_on_where_a_list_or_an_event_left_it() {
    let mut history = History::new(1_800_000_000_000);
    let list = history.place();
    for (name, version) in [("a", 7), ("b", 9), ("a", 8)] {
        history.push(change(name, version));
    }
    assert_eq!(names(&history.after(PODS, list).unwrap()), ["a", "b", "a"]);
    assert_eq!(names(&history.after(PODS, 7).unwrap()), ["b", "a"]);
    assert_eq!(names(&history.after(PODS, 8).unwrap()), [""; 0]);
    assert_eq!(names(&history.after("/core/v1/pods/ns/b", list).unwrap()), ["b"]);
    assert_eq!(history.after(PODS, 10), Err(TooOld), "nobody was told of it");
    assert_eq!(history.after("/core/v1/nodes/", 7), Err(TooOld));
}

#[test]
fn what_is_not_kept_and_what_another_life_told_is_too_old() {
    let mut history = History::new(1_800_000_000_000);
    let first = history.place();
    (0..MAX_CHANGES as u64 + 5).for_each(|version| history.push(change("a", version + 1)));
    assert_eq!(history.after(PODS, first), Err(TooOld));
    assert_eq!(history.after(PODS, 5), Err(TooOld));
    assert_eq!(history.after(PODS, first + 5).unwrap().len(), MAX_CHANGES);
    let before = history.place();
    history.forget();
    assert_eq!(history.after(PODS, before), Err(TooOld));
    assert_eq!(history.after(PODS, history.place()), Ok(Vec::new()));
    assert_eq!(history.after(PODS, history.place() + 1), Err(TooOld));
    let later = History::new(1_800_000_001_000);
    assert_eq!(later.after(PODS, history.place()), Err(TooOld));
}

#[test]
fn the_changes_are_bounded_in_bytes() {
    let mut history = History::new(1_800_000_000_000);
    let large = Bytes::from(vec![b' '; MAX_BYTES / 3]);
    for _ in 0..9 {
        history.push(Change { value: large.clone(), ..change("a", 1) });
    }
    assert!(history.bytes <= MAX_BYTES);
    assert_eq!(history.changes.len(), 3);
}
