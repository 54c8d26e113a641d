//! Databases and disks that fail: nothing ends, nothing that was told of is lost, and what waits is
//! committed once it can be.

use std::fs;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use super::*;
use crate::store::{Recovery, files, schema, snapshot};

/// Reads the news up to the end of a trouble.
fn until_well(bench: &mut Bench) -> Vec<Done<u32>> {
    let mut news = Vec::new();
    loop {
        let done = bench.next().unwrap();
        if matches!(done, Done::Health(None)) {
            return news;
        }
        news.push(done);
    }
}

fn filled() -> Bench {
    let mut bench = Bench::opened();
    for number in 0..200 {
        let web = name(Kind::Pod, &format!("p{number}"));
        bench.commit(vec![put(&web, 1, &format!("\"{}\"", "x".repeat(2000)))]);
    }
    bench
}

#[test]
fn a_locked_database_is_waited_for() {
    let mut bench = Bench::opened();
    let other = bench.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let web = name(Kind::Pod, "web");
    let first = bench.begin(vec![put(&web, 1, "1")]);
    let second = bench.begin(vec![put(&web, 2, "2")]);
    assert_eq!(bench.health(), Some(Trouble::Locked));
    assert_eq!(bench.object("ns/pod/web"), None, "questions are answered meanwhile");
    other.execute_batch("COMMIT").unwrap();
    assert!(until_well(&mut bench).is_empty());
    for expected in [first, second] {
        assert!(matches!(bench.next(), Some(Done::Committed(then, _)) if then == expected));
    }
    assert_eq!(bench.object("ns/pod/web").unwrap(), "2", "in their order");
}

#[test]
fn a_newer_schema_is_left_alone() {
    let mut bench = Bench::recorded("kubeedge-1.23.sql");
    bench.connection().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&bench.path).unwrap();
    bench.start();
    assert_eq!(bench.health(), Some(Trouble::Newer { found: 99, known: schema::VERSION }));
    let web = name(Kind::Pod, "web");
    let number = bench.begin(vec![put(&web, 1, "1")]);
    let error = bench.ask(Question::Object("ns/pod/web".into())).unwrap_err().to_string();
    assert!(error.contains("schema version 99"), "{error}");
    assert_eq!(fs::read(&bench.path).unwrap(), before);
    bench.connection().pragma_update(None, "user_version", 0).unwrap();
    assert!(until_well(&mut bench).is_empty());
    assert!(matches!(bench.next(), Some(Done::Committed(then, _)) if then == number));
}

fn restored(bench: &mut Bench) -> Recovery {
    match bench.next() {
        Some(Done::Restored(recovery)) => recovery,
        other => panic!("expected a recovery, got {other:?}"),
    }
}

#[test]
fn a_truncated_database_comes_back_from_snapshot_and_salvage() {
    let mut bench = filled();
    snapshot::take(&bench.path).unwrap();
    let late = name(Kind::ConfigMap, "late");
    bench.commit(vec![put(&late, 2, "\"late\"")]);
    bench.stop();
    let length = fs::metadata(&bench.path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&bench.path).unwrap().set_len(length / 2).unwrap();
    bench.start();
    let recovery = restored(&mut bench);
    assert!(recovery.from_snapshot, "{recovery}");
    assert_eq!(bench.health(), None);
    for number in 0..200 {
        assert!(bench.object(&format!("ns/pod/p{number}")).is_some(), "{number}");
    }
    assert_eq!(fs::metadata(&recovery.aside).unwrap().len(), length / 2, "it is kept");
}

#[test]
fn broken_pages_lose_only_what_is_on_them() {
    let mut bench = filled();
    bench.stop();
    let mut bytes = fs::read(&bench.path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&bench.path, bytes).unwrap();
    bench.start();
    let recovery = restored(&mut bench);
    assert!(!recovery.from_snapshot, "{recovery}");
    assert_eq!(bench.health(), None);
    let alive = (0..200).filter(|n| bench.object(&format!("ns/pod/p{n}")).is_some()).count();
    assert!(alive >= 150, "{alive} of 200 rows were read from the damaged file: {recovery}");
}

#[test]
fn a_file_that_is_no_database_is_kept_and_begun_anew() {
    let mut bench = Bench::new();
    fs::write(&bench.path, "this is no database, but may be worth something\n".repeat(200))
        .unwrap();
    bench.start();
    let recovery = restored(&mut bench);
    assert_eq!(bench.health(), None);
    assert!(fs::read_to_string(&recovery.aside).unwrap().starts_with("this is no"));
    let web = name(Kind::Pod, "web");
    bench.commit(vec![put(&web, 1, "1")]);
    assert_eq!(bench.object("ns/pod/web").unwrap(), "1");
}

#[test]
fn a_recovery_that_was_cut_off_is_finished() {
    let mut bench = filled();
    bench.stop();
    fs::rename(&bench.path, files::beside(&bench.path, ".restored")).unwrap();
    bench.start();
    assert_eq!(bench.health(), None);
    assert!(bench.object("ns/pod/p0").is_some());
}

#[test]
fn only_the_last_damaged_databases_are_kept() {
    let bench = Bench::new();
    for time in [900, 1000, 1100, 1200] {
        fs::write(&bench.path, "x").unwrap();
        fs::write(files::beside(&bench.path, "-wal"), "y").unwrap();
        files::set_aside(&bench.path, time).unwrap();
    }
    let mut kept: Vec<_> = fs::read_dir(bench.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(
        kept,
        [
            "edgecore.db.damaged-1100",
            "edgecore.db.damaged-1100-wal",
            "edgecore.db.damaged-1200",
            "edgecore.db.damaged-1200-wal"
        ]
    );
}

#[test]
fn a_snapshot_of_a_damaged_database_does_not_replace_a_good_one() {
    let mut bench = filled();
    snapshot::take(&bench.path).unwrap();
    bench.stop();
    let good = fs::read(files::snapshot(&bench.path)).unwrap();
    let mut bytes = fs::read(&bench.path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&bench.path, bytes).unwrap();
    assert!(matches!(snapshot::take(&bench.path), Err(Trouble::Damaged(_))));
    assert_eq!(fs::read(files::snapshot(&bench.path)).unwrap(), good);
}

/// A small disk; nothing where the test may not mount one.
struct Disk(PathBuf);

impl Disk {
    fn mount(bench: &mut Bench) -> Option<Self> {
        let at = bench.folder.path().join("disk");
        fs::create_dir(&at).unwrap();
        let size = Some(c"size=2m,mode=0755");
        if let Err(error) = mount("tmpfs", &at, "tmpfs", MountFlags::empty(), size) {
            eprintln!("skipped: cannot mount a disk here: {error}");
            return None;
        }
        bench.path = at.join("edgecore.db");
        Some(Self(at))
    }

    fn set_writable(&self, writable: bool) {
        let flags = if writable { MountFlags::empty() } else { MountFlags::RDONLY };
        mount_remount(&self.0, flags, c"").unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What cannot be unmounted goes with the process's namespace.
        let _left = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_said_and_waited_for() {
    let mut bench = Bench::new();
    let Some(disk) = Disk::mount(&mut bench) else { return };
    bench.start();
    assert_eq!(bench.health(), None);
    let early = name(Kind::Pod, "early");
    bench.commit(vec![put(&early, 1, "1")]);
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0_u8; 4 << 20]).unwrap_err();
    let value = format!("\"{}\"", "x".repeat(300_000));
    let late = name(Kind::Pod, "late");
    let number = bench.begin(vec![put(&late, 1, &value)]);
    let trouble = bench.health().unwrap();
    assert_eq!(trouble.word(), "full", "{trouble}");
    assert_eq!(bench.object("ns/pod/early").unwrap(), "1");
    fs::remove_file(filler).unwrap();
    assert!(until_well(&mut bench).is_empty());
    assert!(matches!(bench.next(), Some(Done::Committed(then, _)) if then == number));
    bench.stop();
}

#[test]
fn a_disk_that_cannot_be_written_is_still_read() {
    let mut bench = Bench::new();
    let Some(disk) = Disk::mount(&mut bench) else { return };
    bench.start();
    assert_eq!(bench.health(), None);
    let web = name(Kind::Pod, "web");
    bench.commit(vec![put(&web, 1, "1")]);
    bench.stop();
    disk.set_writable(false);
    bench.start();
    let trouble = bench.health().unwrap();
    assert_eq!(trouble.word(), "read-only", "{trouble}");
    assert_eq!(bench.object("ns/pod/web").unwrap(), "1", "the node runs what it ran before");
    let number = bench.begin(vec![put(&web, 2, "2")]);
    disk.set_writable(true);
    assert!(until_well(&mut bench).is_empty());
    assert!(matches!(bench.next(), Some(Done::Committed(then, _)) if then == number));
    assert_eq!(bench.object("ns/pod/web").unwrap(), "2");
    bench.stop();
}
