//! Tests of the rotation, of files alone.

use std::io::Read as _;

use flate2::read::GzDecoder;
use proptest::prelude::*;

use super::*;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_is_half_done_or_too_much_goes_and_what_is_old_is_packed() {
    let there = names(&[
        "0.log",
        "0.log.20260101-000001.gz",
        "0.log.20260101-000002.gz",
        "0.log.20260101-000003",
        "0.log.20260101-000003.gz",
        "0.log.20260101-000004",
        "0.log.20260101-000004.tmp",
        "10.log.20260101-000001",
    ]);
    let plan = plan("0.log", &there, 5);
    let removed =
        ["0.log.20260101-000003", "0.log.20260101-000004.tmp", "0.log.20260101-000001.gz"];
    assert_eq!(plan.remove, names(&removed));
    assert_eq!(plan.pack, names(&["0.log.20260101-000004"]));
}

#[test]
fn the_newest_log_is_found_and_missed() {
    assert_eq!(newest(&names(&["0.log", "2.log", "10.log", "x.log", "other"])), Some((10, false)));
    assert_eq!(newest(&names(&["0.log", "1.log.20260101-000001"])), Some((1, true)));
    assert_eq!(newest(&names(&["other"])), None);
}

#[test]
fn a_log_is_turned_again_and_again_and_so_many_files_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("0.log");
    for round in 0..6 {
        fs::write(&log, format!("round {round}")).unwrap();
        let turned = turn(&log, 3).unwrap();
        // Times have seconds; the test has none to wait for.
        fs::rename(&turned, folder.path().join(format!("0.log.20260101-00000{round}"))).unwrap();
    }
    fs::write(&log, "now").unwrap();
    let mut left = files(folder.path());
    left.sort();
    assert_eq!(left, ["0.log", "0.log.20260101-000004.gz", "0.log.20260101-000005"]);
    let packed = File::open(folder.path().join(&left[1])).unwrap();
    let mut text = String::new();
    GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    assert_eq!(text, "round 4");
}

#[test]
fn large_logs_are_found_by_their_pods() {
    let logs = tempfile::tempdir().unwrap();
    let folder = logs.path().join("ns_p_uid-p/c");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("0.log"), "x".repeat(100)).unwrap();
    fs::write(folder.join("1.log"), "x".repeat(10)).unwrap();
    assert_eq!(find(logs.path(), 11), []);
    let due = |restarts, is_missing| Due {
        path: folder.join(format!("{restarts}.log")),
        uid: "uid-p".to_owned(),
        container: "c".to_owned(),
        restarts,
        is_missing,
    };
    assert_eq!(find(logs.path(), 10), [due(1, false)]);
    fs::rename(folder.join("1.log"), folder.join("1.log.20260101-000001")).unwrap();
    assert_eq!(find(logs.path(), 1000), [due(1, true)]);
    assert_eq!(find(&logs.path().join("none"), 0), []);
}

#[test]
fn a_full_disk_keeps_no_log_from_being_turned() {
    if !crate::tests::may_use_the_kernel() {
        return;
    }
    let small = crate::tests::SmallDisk::new(64);
    let log = small.path().join("0.log");
    let old = small.path().join("0.log.20260101-000001");
    fs::write(&old, "old").unwrap();
    fs::write(&log, "now").unwrap();
    small.fill();
    let turned = turn(&log, 5).unwrap();
    assert!(old.exists() && turned.exists() && !log.exists());
    assert_eq!(files(small.path()).iter().filter(|name| name.ends_with(PACKING)).count(), 0);
}

proptest! {
    #[test]
    fn never_more_files_are_left_than_are_to_be(
        there in proptest::collection::btree_set("(0|1)\\.log(\\.2026010[0-9]-000000(\\.gz|\\.tmp)?)?", 0..30),
        most in 2_usize..8,
    ) {
        let there: Vec<_> = there.into_iter().collect();
        let plan = plan("0.log", &there, most);
        let old: Vec<_> = there.iter().filter(|it| it.starts_with("0.log.")).collect();
        let left = old.iter().filter(|it| !plan.remove.contains(it)).count();
        prop_assert!(left <= most - 2);
        prop_assert!(plan.remove.iter().chain(&plan.pack).all(|it| it.starts_with("0.log.")));
        prop_assert!(plan.pack.iter().all(|it| !plan.remove.contains(it) && !it.ends_with(PACKED)));
    }
}
