//! Tests of the keys.

use super::*;

fn check(text: &str) -> (Defence, Vec<String>) {
    let mut errors = Vec::new();
    let keys: Keys = serde_json::from_str(text).unwrap();
    (keys.check(Flags::default(), &mut errors), errors)
}

#[test]
fn the_defaults_are_kubeedges() {
    let (defence, errors) = check("{}");
    assert_eq!(errors, [""; 0]);
    assert_eq!(defence.thresholds.len(), 6);
    assert_eq!((defence.transition, defence.measure), (300_000, 60_000));
    assert_eq!(defence.images.high, 85);
    assert_eq!(defence.logs.map(|it| (it.size, it.files)), Some((10 << 20, 5)));
    assert_eq!(defence.every.quota_period, Some(100_000));
    assert_eq!(defence.kept(Signal::NodeFs, 1000), 100);
    let (off, _) =
        check(r#"{"containerLogMaxSize":"-1","evictionHard":{"nodefs.available":"0%"}}"#);
    assert_eq!((off.logs, off.kept(Signal::NodeFs, 1000)), (None, 0));
}

#[test]
fn reservations_are_added_up() {
    let (defence, errors) = check(
        r#"{"systemReserved":{"cpu":"100m","memory":"1Gi"},"kubeReserved":{"memory":"1Gi","pid":"10"}}"#,
    );
    assert_eq!(errors, [""; 0]);
    assert_eq!(defence.reserved, Reserved { cpu: 100, memory: 2 << 30, storage: 0, pids: 10 });
}

#[test]
fn swap_is_refused_where_it_has_to_be_off() {
    let swaps = "Filename Type Size\n/dev/vdb partition 1\n";
    let (defence, _) = check(r#"{"failSwapOn":true}"#);
    assert!(defence.check_swap(swaps).unwrap_err().to_string().contains("/dev/vdb"));
    assert!(defence.check_swap("Filename Type Size\n").is_ok());
    assert!(check("{}").0.check_swap(swaps).is_ok());
}

#[test]
fn all_that_is_wrong_is_said() {
    let (_, errors) = check(
        r#"{"evictionPressureTransitionPeriod":"soon","imageGCHighThresholdPercent":101,
        "imageMinimumGCAge":"2","containerLogMaxFiles":1,"systemReserved":{"gpu":"1"},
        "kubeReserved":{"cpu":"-1"},"evictionHard":{"what":"1"}}"#,
    );
    for word in ["'soon'", "101", "'2'", "containerLogMaxFiles is 1", "'gpu'", "'-1'", "'what'"] {
        assert!(errors.iter().any(|it| it.contains(word)), "{word} is missing in {errors:?}");
    }
    assert_eq!(errors.len(), 7);
    let (_, errors) = check(r#"{"imageGCHighThresholdPercent":70}"#);
    assert!(errors[0].contains("expected less than imageGCHighThresholdPercent, which is 70"));
}

#[test]
fn the_order_in_which_pods_end_is_read_and_checked() {
    let turns = |text: &str| check(text).0.turns;
    let of = |priority, seconds| Turn { priority, seconds };
    let two = turns(r#"{"shutdownGracePeriod":"1m","shutdownGracePeriodCriticalPods":"20s"}"#);
    assert_eq!(two, [of(0, 40), of(2_000_000_000, 20)]);
    let by_priority = r#""shutdownGracePeriodByPodPriority":[{"priority":9,"shutdownGracePeriodSeconds":3},
        {"priority":-1,"shutdownGracePeriodSeconds":4}]"#;
    assert_eq!(turns(&format!("{{{by_priority}}}")), [of(-1, 4), of(9, 3)]);
    assert_eq!(turns("{}"), []);
    for bad in [
        format!(r#"{{"shutdownGracePeriod":"1s",{by_priority}}}"#),
        r#"{"shutdownGracePeriod":"1s","shutdownGracePeriodCriticalPods":"2s"}"#.to_owned(),
        r#"{"shutdownGracePeriod":"500ms"}"#.to_owned(),
    ] {
        assert!(check(&bad).1[0].contains("shutdownGracePeriod"), "{bad}");
    }
}
