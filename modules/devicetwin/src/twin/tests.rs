//! The merge, by example and for any history.

use proptest::prelude::*;

use super::*;

fn said(expected: Option<&str>, actual: Option<&str>) -> MsgTwin {
    let value = |text: &str| MsgValue { value: Some(text.into()), metadata: None };
    MsgTwin { expected: expected.map(value), actual: actual.map(value), ..MsgTwin::default() }
}

fn changed(merged: Result<Merged, String>) -> Twin {
    match merged {
        Ok(Merged::Changed(twin)) => twin,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_edge_says_counts_even_if_it_is_the_same() {
    let first = changed(Twin::new("t").merge(Origin::Edge, 5, Some(&said(None, Some("1")))));
    assert_eq!(first.actual.as_ref().unwrap().version, Version { cloud: 0, edge: 1 });
    let second = changed(first.merge(Origin::Edge, 6, Some(&said(None, Some("1")))));
    let actual = second.actual.unwrap();
    assert_eq!((actual.version.edge, actual.at), (2, 6));
    assert_eq!(second.expected, None);
}

#[test]
fn a_value_of_another_type_changes_nothing() {
    let int = TypeMeta { kind: "int".into() };
    let first = MsgTwin { metadata: Some(int), ..said(None, Some("1")) };
    let twin = changed(Twin::new("t").merge(Origin::Edge, 1, Some(&first)));
    let wrong = twin.merge(Origin::Edge, 2, Some(&said(Some("7"), Some("warm"))));
    assert_eq!(wrong, Err("value 'warm': expected type int".to_owned()));
}

#[test]
fn the_type_of_a_living_property_stays_and_a_deleted_one_revives_with_another() {
    let typed = |kind: &str, value| MsgTwin {
        metadata: Some(TypeMeta { kind: kind.into() }),
        ..said(None, Some(value))
    };
    let twin = changed(Twin::new("t").merge(Origin::Edge, 1, Some(&typed("int", "1"))));
    let twin = changed(twin.merge(Origin::Edge, 2, Some(&typed("string", "2"))));
    assert_eq!(&*twin.kind, "int");
    let gone = changed(twin.merge(Origin::Edge, 3, None));
    assert!(gone.is_deleted());
    assert_eq!(gone.actual.as_ref().unwrap().value, None);
    assert_eq!(gone.merge(Origin::Edge, 4, None), Ok(Merged::Same));
    let back = changed(gone.merge(Origin::Edge, 5, Some(&typed("boolean", "true"))));
    assert_eq!((&*back.kind, back.actual.unwrap().version.edge), ("boolean", 4));
}

#[test]
fn what_is_not_optional_stays() {
    let fixed = MsgTwin { optional: Some(false), ..said(None, Some("1")) };
    let twin = changed(Twin::new("t").merge(Origin::Edge, 1, Some(&fixed)));
    assert_eq!(twin.merge(Origin::Edge, 2, None), Ok(Merged::Same));
    let loose = MsgTwin { optional: Some(true), ..said(None, Some("2")) };
    assert!(!changed(twin.merge(Origin::Edge, 3, Some(&loose))).optional);
}

#[test]
fn the_cloud_wins_only_when_it_knows_what_the_edge_said() {
    let twin = changed(Twin::new("t").merge(Origin::Edge, 1, Some(&said(Some("1"), None))));
    let by_cloud = |cloud, edge| MsgTwin {
        expected_version: Some(Version { cloud, edge }),
        ..said(Some("9"), None)
    };
    assert_eq!(twin.merge(Origin::Cloud, 2, Some(&by_cloud(1, 0))), Ok(Merged::Conflict));
    assert_eq!(twin.merge(Origin::Cloud, 2, Some(&said(Some("9"), None))), Ok(Merged::Conflict));
    let taken = changed(twin.merge(Origin::Cloud, 2, Some(&by_cloud(1, 1))));
    let expected = taken.expected.unwrap();
    assert_eq!((expected.value.as_deref(), expected.version.cloud), (Some("9"), 1));
}

#[derive(Clone, Debug)]
enum Step {
    Edge(Option<MsgTwin>),
    Cloud(Option<MsgTwin>),
}

fn msg() -> impl Strategy<Value = MsgTwin> {
    let value = || {
        prop::option::of(
            prop::option::of("[a-z0-9 ]{0,3}")
                .prop_map(|value| MsgValue { value: value.map(Into::into), metadata: None }),
        )
    };
    let version = || {
        prop::option::of((0..4i64, 0..8i64))
            .prop_map(|pair| pair.map(|(cloud, edge)| Version { cloud, edge }))
    };
    let kind = prop::option::of(prop::sample::select(vec!["", "int", "string", "deleted", "odd"]));
    (value(), value(), any::<Option<bool>>(), kind, version(), version()).prop_map(
        |(expected, actual, optional, kind, expected_version, actual_version)| MsgTwin {
            expected,
            actual,
            optional,
            metadata: kind.map(|kind| TypeMeta { kind: kind.into() }),
            expected_version,
            actual_version,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let said = || prop::option::weighted(0.9, msg());
    prop_oneof![said().prop_map(Step::Edge), said().prop_map(Step::Cloud)]
}

proptest! {
    /// Versions never go back, a refusal changes nothing, what stands is valid, and what the edge
    /// says about a value always takes.
    #[test]
    fn any_history_keeps_the_rules(steps in prop::collection::vec(step(), 0..40)) {
        let mut twin = Twin::new("t");
        for (now, step) in (1i64..).zip(steps) {
            let (origin, said) = match &step {
                Step::Edge(said) => (Origin::Edge, said.as_ref()),
                Step::Cloud(said) => (Origin::Cloud, said.as_ref()),
            };
            let Ok(Merged::Changed(after)) = twin.merge(origin, now, said) else { continue };
            for (before, after) in [(&twin.expected, &after.expected), (&twin.actual, &after.actual)] {
                let version = |side: &Option<Side>| side.as_ref().map(|it| it.version).unwrap_or_default();
                let (before, after) = (version(before), version(after));
                prop_assert!(before.cloud <= after.cloud && before.edge <= after.edge);
            }
            prop_assert!(twin.optional || !after.optional);
            for side in [&after.expected, &after.actual].into_iter().flatten() {
                if let Some(value) = &side.value {
                    prop_assert_eq!(check_value(&after.kind, value), Ok(()));
                    prop_assert!(!after.is_deleted());
                }
            }
            if let (Origin::Edge, Some(said), false) = (origin, said, after.is_deleted())
                && let Some(value) = said.actual.as_ref().and_then(|value| value.value.as_ref())
            {
                prop_assert_eq!(after.actual.as_ref().and_then(|it| it.value.as_ref()), Some(value));
            }
            twin = after;
        }
    }
}
