//! A wall clock that jumps: it says when something was, and decides nothing.

use super::*;

/// 1970 before the clock is set, then the right time, back by a year, far ahead, and right again.
const CLOCKS: [i64; 6] =
    [0, 86_400_000, 1_795_408_033_822, 1_763_872_033_822, 4_102_444_800_000, 1_795_408_033_823];

#[test]
fn versions_count_up_and_times_are_what_the_clock_says_however_it_jumps() {
    let mut world = World::with_device();
    world.core.on_link(world.now, true, &mut world.out);
    let mut told = Vec::new();
    for (count, clock) in (1..).zip(CLOCKS) {
        world.now.unix_ms = clock;
        let receipt = world.says("twin/update", &UPDATE.replace("22", &count.to_string()));
        world.stored(true);
        assert!(world.settled(receipt));
        let result = world.published("twin/update/result").unwrap();
        let actual = &result["twin"]["temperature"]["actual"];
        // KubeEdge leaves out a time of zero.
        let time = if clock == 0 { json!({}) } else { json!({"timestamp": clock}) };
        assert_eq!(actual, &json!({"value": count.to_string(), "metadata": time}));
        while let Some((sent, report)) = world.reported() {
            told.push(report["twin"]["temperature"]["actual_version"]["edge"].clone());
            world.confirm(&sent, true);
        }
        world.out.clear();
    }
    told.dedup();
    assert_eq!(told, (1..=CLOCKS.len()).map(|count| json!(count)).collect::<Vec<_>>());
}

#[test]
fn what_the_cloud_wants_is_taken_by_its_versions_whatever_the_clocks_say() {
    let mut world = World::with_device();
    for (version, clock) in (1..).zip(CLOCKS) {
        world.now.unix_ms = clock;
        let wanted = json!({"event_id": "e", "twin": {"t": {"expected": {"value": version.to_string()},
            "expected_version": {"cloud": version, "edge": 0}, "metadata": {"type": "int"}}}});
        let receipt = Receipt(1000 + version);
        let content = wanted.to_string();
        let now = world.now;
        world.core.on_cloud_twin(now, "default/d", content.as_bytes(), receipt, &mut world.out);
        world.stored(true);
        assert!(world.settled(receipt));
        assert_eq!(world.published("delta").unwrap()["delta"], json!({"t": version.to_string()}));
        world.out.clear();
    }
}

#[test]
fn a_state_is_taken_at_any_time() {
    let mut world = World::with_device();
    for clock in CLOCKS.into_iter().chain([i64::MAX]) {
        world.now.unix_ms = clock;
        let receipt = world.says("state/update", r#"{"state":"online"}"#);
        world.stored(true);
        assert!(world.settled(receipt), "{clock}");
    }
}
