//! Tests of which images go.

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy { high: 85, low: 80, least_age: 100, most_age: 0 };

fn image(id: &str) -> w::Image {
    let repo_tags = vec![format!("docker.io/library/{id}:1")];
    w::Image { id: id.to_owned(), size: 10, repo_tags, ..w::Image::default() }
}

fn ids(spare: &[Spare]) -> Vec<&str> {
    spare.iter().map(|it| it.id.as_str()).collect()
}

fn used(ids: &[&str]) -> HashSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn what_is_in_use_pinned_new_or_of_sandboxes_stays() {
    let mut images = Images::default();
    let pinned = w::Image { pinned: true, ..image("pinned") };
    let list = [image("old"), image("used"), image("pause"), pinned];
    images.learn(&list, &used(&["used"]), &["pause:1"], 0);
    assert_eq!(ids(&images.spare(&POLICY, 99)), [""; 0]);
    let list = [&list[..], &[image("new")]].concat();
    images.learn(&list, &used(&["docker.io/library/used:1"]), &["pause:1"], 100);
    assert_eq!(ids(&images.spare(&POLICY, 100)), ["old"]);
}

#[test]
fn who_was_in_use_the_longest_ago_goes_first() {
    let mut images = Images::default();
    let list = [image("a"), image("b"), image("never")];
    images.learn(&list, &used(&["a", "b"]), &[], 0);
    images.learn(&list, &used(&["a"]), &[], 50);
    images.learn(&list, &used(&[]), &[], 200);
    assert_eq!(ids(&images.spare(&POLICY, 200)), ["never", "b", "a"]);
    let aged = Policy { most_age: 160, ..POLICY };
    assert_eq!(ids(&images.outdated(&aged, 200)), ["never", "b"]);
    assert_eq!(images.outdated(&POLICY, 9999), []);
}

#[test]
fn the_sentence_is_kubelets() {
    assert!(failed(87, 3 << 29, 12).contains("(87% of 1.5 GiB used). Failed to free"));
    assert_eq!(
        (people(0), people(1023), people(2048)),
        ("0 B".into(), "1023 B".into(), "2.0 KiB".into())
    );
}

proptest! {
    #[test]
    fn what_is_freed_leads_below_the_low_mark(available in 0_u64..1 << 50, capacity in 1_u64..1 << 50) {
        let lacking = POLICY.lacking(available, capacity);
        let available = available.min(capacity);
        match lacking {
            Some((percent, missing)) => {
                prop_assert!((85..=100).contains(&percent));
                let after = (available + missing) * 100;
                prop_assert!(after >= (capacity * 20).saturating_sub(100) );
            }
            None => prop_assert!(available * 100 / capacity > 15),
        }
    }

    #[test]
    fn nothing_in_use_is_ever_spare(
        looks in proptest::collection::vec(proptest::collection::hash_set(0_u8..6, 0..6), 1..10)
    ) {
        let mut images = Images::default();
        let list: Vec<_> = (0..6).map(|id| image(&id.to_string())).collect();
        for (now, look) in (0_i64..).map(|it| it * 60).zip(looks) {
            let used: HashSet<String> = look.iter().map(u8::to_string).collect();
            images.learn(&list, &used, &[], now);
            let spare = images.spare(&POLICY, now);
            prop_assert!(spare.iter().all(|it| !used.contains(&it.id)));
            prop_assert!(now >= 100 || spare.is_empty());
        }
    }
}
