//! Memory and processor time of processes, of dead and stuck ones too.

use std::fs;

use super::*;

const ROLLUP: &str = "00400000-7fff00000000 ---p 00000000 00:00 0    [rollup]\n\
        Rss:                1340 kB\nPss:                 512 kB\nPss_Dirty:           100 kB\n";
const STAT: &str = "7 (a) b) R 1 7 7 0 -1 4194304 95 0 0 0 150 50 0 0 20 0 1 0 100 1 1 1\n";

fn process(proc: &Path, pid: u32) -> PathBuf {
    let folder = proc.join(pid.to_string());
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("stat"), STAT).unwrap();
    folder
}

#[test]
fn memory_and_time_are_read() {
    assert_eq!(pss_bytes(ROLLUP), Some(512 * 1024));
    assert_eq!(cpu_seconds(STAT), Some(2.0));
    for text in ["", "Pss: many kB", "7 (a) R 1", "no brackets"] {
        assert_eq!((pss_bytes(text), cpu_seconds(text)), (None, None), "{text}");
    }
}

#[test]
fn the_own_process_is_found() {
    let own = std::process::id();
    let usage = usage(Path::new("/proc"), [own], Duration::from_secs(10))[&own];
    assert!(usage.pss.unwrap() > 0 && usage.cpu.unwrap() >= 0.0, "{usage:?}");
}

#[test]
fn a_process_that_died_uses_nothing() {
    let proc = tempfile::tempdir().unwrap();
    let usage = usage(proc.path(), [7], Duration::from_secs(10));
    assert_eq!(usage[&7], Usage::GONE);
}

#[test]
fn a_process_stuck_in_the_kernel_holds_up_no_other() {
    let proc = tempfile::tempdir().unwrap();
    fs::write(process(proc.path(), 1).join("smaps_rollup"), ROLLUP).unwrap();
    // Opening a pipe that nobody writes to waits for ever.
    let stuck = process(proc.path(), 2).join("smaps_rollup");
    rustix::fs::mkfifoat(rustix::fs::CWD, &stuck, rustix::fs::Mode::RUSR).unwrap();
    let begun = Instant::now();
    let usage = usage(proc.path(), [1, 2], Duration::from_millis(200));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(usage[&1].pss, Some(512 * 1024));
    assert!(!usage.contains_key(&2));
}
