//! Reads a log's file from where its last lines begin, over rotations. It waits for disks, so it
//! belongs on a thread for that.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::shape::{Options, Shape};

/// How much is read at once, in bytes.
const PART: usize = 64 * 1024;

/// The longest line that is taken, in bytes: runtimes break lines after 16 KiB.
const MAX_LINE: usize = 1024 * 1024;

/// Opens a file where its last lines begin.
fn open(path: &Path, tail: Option<u64>) -> io::Result<File> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if let Some(lines) = tail {
        let start = start_of_tail(&mut file, lines)?;
        file.seek(SeekFrom::Start(start))?;
    }
    Ok(file)
}

/// Finds where the last lines of a file begin, reading it from its end.
fn start_of_tail(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let (mut position, mut part, mut begun) = (length, vec![0; PART], 0);
    if lines == 0 {
        return Ok(length);
    }
    while position > 0 {
        let size = usize::try_from(position).unwrap_or(PART).min(PART);
        position -= size as u64;
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut part[..size])?;
        for (index, _) in part[..size].iter().enumerate().rev().filter(|(_, it)| **it == b'\n') {
            let after = position + index as u64 + 1;
            // Behind the end of the last line none begins.
            begun += u64::from(after != length);
            if begun == lines {
                return Ok(after);
            }
        }
    }
    Ok(0)
}

/// A log that is read.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// The file that took this one's place while this one was read.
    next: Option<File>,
    shape: Shape,
    follow: bool,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

/// What a step brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This, and there may be more.
    More(Vec<u8>),
    /// Nothing more now.
    Pause,
    /// Nothing more ever.
    Done,
}

impl Log {
    /// Opens a log.
    pub(super) fn open(path: &Path, options: Options) -> io::Result<Self> {
        let (file, follow) = (open(path, options.tail)?, options.follow);
        let (path, shape) = (path.to_owned(), Shape::new(options));
        Ok(Self { path, file, next: None, shape, follow, rest: Vec::new() })
    }

    /// Reads a part.
    pub(super) fn step(&mut self) -> Step {
        if self.shape.is_done() {
            return Step::Done;
        }
        let mut part = vec![0; PART];
        let count = self.file.read(&mut part).unwrap_or_default();
        if count > 0 {
            return Step::More(self.take(&part[..count]));
        }
        if let Some(next) = self.next.take() {
            // The old file was read to its end after there was a new one.
            self.file = next;
            return Step::More(Vec::new());
        }
        match self.turn() {
            Ok(Some(next)) => {
                self.next = Some(next);
                Step::More(Vec::new())
            }
            Ok(None) => Step::Pause,
            Err(_) => Step::Done,
        }
    }

    /// Returns the last line when it has no end and will have none.
    pub(super) fn last(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.shape.take(&self.rest, &mut out);
        self.rest.clear();
        out
    }

    /// Returns what is wanted of the lines of a part.
    fn take(&mut self, part: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(part.len());
        for line in part.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = line.ends_with(b"\n");
            if is_whole && self.rest.is_empty() {
                self.shape.take(line, &mut out);
                continue;
            }
            self.rest.extend_from_slice(line);
            if is_whole || self.rest.len() > MAX_LINE {
                self.shape.take(&self.rest, &mut out);
                self.rest.clear();
            }
        }
        out
    }

    /// Opens the file that took this one's place, if it is followed and one did, and starts anew
    /// with one that was cut.
    fn turn(&mut self) -> io::Result<Option<File>> {
        if !self.follow {
            return Ok(None);
        }
        let mine = self.file.metadata()?;
        let there = match File::open(&self.path) {
            Ok(file) => file,
            // It has been renamed and is not there anew yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let other = there.metadata()?;
        if (mine.dev(), mine.ino()) != (other.dev(), other.ino()) {
            return Ok(Some(there));
        }
        if mine.len() < self.file.stream_position()? {
            self.file.seek(SeekFrom::Start(0))?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut file = File::create(&path).unwrap();
        for number in 0..50_000 {
            writeln!(file, "line {number}").unwrap();
        }
        let tail = |lines| {
            let mut text = String::new();
            open(&path, Some(lines)).unwrap().read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), "line 49999\n");
        assert_eq!(tail(2), "line 49998\nline 49999\n");
        assert_eq!(tail(20_000).lines().count(), 20_000);
        assert_eq!(tail(20_000).lines().next(), Some("line 30000"));
        assert_eq!(tail(1 << 40).lines().count(), 50_000);
        write!(file, "begun").unwrap();
        assert_eq!(tail(1), "begun");
        assert_eq!(tail(2), "line 49999\nbegun");
    }
}
