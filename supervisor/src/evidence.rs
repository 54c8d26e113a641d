//! What is kept of a module's death: reason, time, process and the last lines of its log, a panic's
//! message among them. One small file for each module, so that it survives the supervisor as well.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use ipc_proto::Module;
use ipc_proto::control::LastExit;

use crate::folder::Folder;

/// The greatest tail in bytes.
const TAIL: u64 = 4 * 1024;

/// The greatest file that is read back: the tail may double when its quotes are escaped.
const MAX_FILE: u64 = 64 * 1024;

/// Returns the last lines that a process wrote to its log, at most [`TAIL`] bytes.
///
/// `from` is the log's size when the process was made; a log that was cut since is shorter.
pub(crate) fn last_lines(log: &Path, from: u64) -> Vec<String> {
    tail(log, from).unwrap_or_default()
}

fn tail(log: &Path, from: u64) -> io::Result<Vec<String>> {
    let mut file = File::open(log)?;
    let size = file.metadata()?.len();
    let own = if from <= size { from } else { 0 };
    let start = own.max(size.saturating_sub(TAIL));
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // A tail that begins within a line leaves that line out.
    let cut = if start > own { text.find('\n').map_or(0, |end| end + 1) } else { 0 };
    Ok(text[cut..].lines().map(str::to_owned).collect())
}

/// Tells whether a process that aborted says that it found no memory: the last words of Rust's
/// allocator, for hosts without control groups.
pub(crate) fn out_of_memory(lines: &[String]) -> bool {
    lines.iter().any(|line| line.starts_with("memory allocation of ") && line.contains(" failed"))
}

/// Keeps the evidence, in one step: a reader sees this death or the one before.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn save(path: &Path, last: &LastExit) -> io::Result<()> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, serde_json::to_vec(last)?)?;
    std::fs::rename(&draft, path)
}

/// Returns the evidence that earlier supervisors kept, by [`Module::index`].
pub(crate) fn load_all(folder: &Folder) -> [Option<LastExit>; Module::COUNT] {
    Module::ALL.map(|module| load(&folder.evidence(module)))
}

/// Returns the evidence of the last death, where there is some that can be read.
fn load(path: &Path) -> Option<LastExit> {
    let mut json = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_of_this_life_only_and_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("edged.log");
        std::fs::write(&log, "an older life\nthread 'main' panicked at x.rs:1:\nno store\n")
            .unwrap();
        assert_eq!(last_lines(&log, 14), ["thread 'main' panicked at x.rs:1:", "no store"]);
        assert_eq!(last_lines(&log, 10_000)[0], "an older life");
        let long = (0..1000).map(|number| format!("line {number}\n")).collect::<String>();
        std::fs::write(&log, &long).unwrap();
        let lines = last_lines(&log, 0);
        assert!(lines.iter().map(|line| line.len() + 1).sum::<usize>() <= 4096);
        assert!(lines[0].starts_with("line ") && lines.last().unwrap() == "line 999", "{lines:?}");
        assert_eq!(last_lines(&folder.path().join("none"), 0), Vec::<String>::new());
    }

    #[test]
    fn evidence_comes_back_and_rubbish_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edged.json");
        let last_lines = vec!["no store".to_owned()];
        let last = LastExit { reason: "signal 6".into(), at: 1, pid: 2, last_lines };
        save(&path, &last).unwrap();
        assert_eq!(load(&path), Some(last));
        std::fs::write(&path, b"{").unwrap();
        assert_eq!(load(&path), None);
    }

    #[test]
    fn the_allocators_last_words_mean_out_of_memory() {
        assert!(out_of_memory(&["memory allocation of 1048576 bytes failed".into()]));
        assert!(!out_of_memory(&["no store".into()]));
    }
}
