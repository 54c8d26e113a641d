//! The modules' log files: standard output and error of each module go to one file, which the
//! supervisor opens and bounds and never reads in normal work. So a module that writes too much
//! blocks nobody, and its last words outlive it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The size in bytes over which a log is moved aside; a few thousand lines.
const BOUND: u64 = 256 * 1024;

/// Opens a module's log for appending.
///
/// # Errors
/// When the file cannot be made or opened.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Returns the size of a log in bytes; 0 when it is not there.
pub(crate) fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |meta| meta.len())
}

/// Moves the log's text to `<log>.1` once it is over the bound.
///
/// The file itself stays, because the module writes to it: its text is copied and then cut. What is
/// written between the two is lost; a module whose log grows that fast repeats itself.
///
/// # Errors
/// When the copy cannot be written; the log is cut all the same, since the bound is the promise.
pub(crate) fn bound(path: &Path) -> io::Result<()> {
    if size(path) <= BOUND {
        return Ok(());
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".1");
    let copied = std::fs::copy(path, &aside);
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    copied.map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_over_the_bound_moves_aside_and_its_writer_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edged.log");
        let mut log = open(&path).unwrap();
        log.write_all(&vec![b'x'; 200 * 1024]).unwrap();
        bound(&path).unwrap();
        assert_eq!(size(&path), 200 * 1024);
        log.write_all(&vec![b'y'; 100 * 1024]).unwrap();
        bound(&path).unwrap();
        assert_eq!(size(&path), 0);
        log.write_all(b"last words\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"last words\n");
        assert_eq!(size(&folder.path().join("edged.log.1")), 300 * 1024);
    }
}
