//! The journal: the file that this module's state survives in, written by a thread of its own.
//!
//! What was decided while the disk was busy goes to it in one piece, with one sync for all of it.
//! When the file has grown beyond what it is worth, a new one takes its place.

mod record;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tracing::warn;

pub(crate) use record::{Address, Kept, Record};

/// The file's name.
const FILE: &str = "journal";

/// What the file begins with: what it is, and the version of its format.
const MAGIC: &[u8; 16] = b"edgecore mqtt 1\n";

/// A file below this size is never replaced, in bytes.
const SMALL: u64 = 4 * 1024 * 1024;

/// What waits and is as large as this is written, in bytes.
const LARGE: usize = 256 * 1024;

/// How long the thread waits before it tries a disk again that took nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// What the thread is told to do.
struct Order {
    bytes: BytesMut,
    /// Whether the bytes are the whole of a new file.
    replace: bool,
    /// What is on the disk when it is done.
    mark: u64,
}

/// What the thread tells.
#[derive(Debug)]
pub(crate) enum Progress {
    /// All up to the mark is on the disk; the file has this size.
    Synced {
        /// The mark.
        mark: u64,
        /// The file's size in bytes.
        size: u64,
    },
    /// The disk takes nothing. It is tried again.
    Failing(String),
}

/// The journal, from the side of the main loop. It never waits for the disk.
#[derive(Debug)]
pub(crate) struct Journal {
    orders: SyncSender<Order>,
    progress: mpsc::Receiver<Progress>,
    waiting: BytesMut,
    /// Counts what was written; what is behind a mark is on the disk when the mark is.
    mark: u64,
    synced: u64,
    busy: bool,
    hurried: bool,
    size: u64,
    /// The size at which the file is replaced.
    limit: u64,
    trouble: Option<String>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Order({} bytes, mark {})", self.bytes.len(), self.mark)
    }
}

/// Reads what an earlier life left in `folder`.
///
/// # Errors
/// When the file is there and cannot be read, or is none of ours.
pub(crate) fn load(folder: &Path, mut take: impl FnMut(Record)) -> Result<u64> {
    let path = folder.join(FILE);
    let mut bytes = Vec::new();
    match File::open(&path) {
        Ok(mut file) => file.read_to_end(&mut bytes).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.is_empty() {
        return Ok(0);
    }
    anyhow::ensure!(
        bytes.starts_with(MAGIC),
        "{} is no journal of this version, expected one that begins with 'edgecore mqtt 1'",
        path.display()
    );
    let mut rest = Bytes::from(bytes).slice(MAGIC.len()..);
    let mut count = 0;
    while let Some(record) = Record::read(&mut rest) {
        take(record);
        count += 1;
    }
    if !rest.is_empty() {
        let (path, left) = (path.display(), rest.len());
        warn!("{path}: {left} bytes behind the last whole record are passed over");
    }
    Ok(count)
}

impl Journal {
    /// Begins a new file in `folder` with what there is, and writes on behind it.
    ///
    /// # Errors
    /// When the file cannot be made, or no thread.
    pub(crate) fn begin(folder: &Path, snapshot: &[Record]) -> Result<Self> {
        let (orders, receiver) = sync_channel(1);
        let (sender, progress) = mpsc::channel(4);
        let mut disk = Disk { folder: folder.to_owned(), file: None, size: 0 };
        disk.replace(&whole(snapshot))
            .with_context(|| format!("cannot write {}", folder.join(FILE).display()))?;
        let size = disk.size;
        std::thread::Builder::new()
            .name("journal".into())
            .stack_size(256 * 1024)
            .spawn(move || disk.serve(&receiver, &sender))
            .context("cannot start the journal's thread")?;
        Ok(Self {
            orders,
            progress,
            waiting: BytesMut::new(),
            mark: 0,
            synced: 0,
            busy: false,
            hurried: false,
            size,
            limit: SMALL.max(2 * size),
            trouble: None,
        })
    }

    /// Takes records; returns the mark behind which they are on the disk.
    pub(crate) fn write(&mut self, records: &[Record]) -> u64 {
        if !records.is_empty() {
            self.mark += 1;
            records.iter().for_each(|record| record.write(&mut self.waiting));
        }
        self.mark
    }

    /// Makes the next flush take what waits, also when nobody waits for it.
    pub(crate) const fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Hands what waits to the disk, if it is idle. What nobody waits for, that a message has arrived,
    /// `can_wait` for the next sync: who publishes would else wait for two, one after the other.
    /// `snapshot` is asked for all that there is when the file is to be replaced.
    pub(crate) fn flush(&mut self, can_wait: bool, snapshot: impl FnOnce() -> Vec<Record>) {
        let can_wait = can_wait && !self.hurried && self.waiting.len() < LARGE;
        if self.busy || self.waiting.is_empty() || can_wait {
            return;
        }
        self.hurried = false;
        let replace = self.size + self.waiting.len() as u64 > self.limit;
        let bytes = if replace {
            self.waiting.clear();
            whole(&snapshot())
        } else {
            self.waiting.split()
        };
        if replace {
            self.limit = SMALL.max(2 * bytes.len() as u64);
        }
        match self.orders.try_send(Order { bytes, replace, mark: self.mark }) {
            Ok(()) => self.busy = true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                unreachable!("the thread takes an order whenever it has done one")
            }
        }
    }

    /// Returns the mark that is on the disk.
    pub(crate) const fn synced(&self) -> u64 {
        self.synced
    }

    /// Tells whether all is on the disk.
    pub(crate) const fn is_clean(&self) -> bool {
        self.synced == self.mark
    }

    /// Returns the file's size in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Returns what is wrong with the disk.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Waits until the disk has done something.
    pub(crate) async fn progress(&mut self) {
        match self.progress.recv().await {
            Some(Progress::Synced { mark, size }) => {
                (self.synced, self.size, self.busy, self.trouble) = (mark, size, false, None);
            }
            Some(Progress::Failing(error)) => {
                if self.trouble.is_none() {
                    warn!("{error}");
                }
                self.trouble = Some(error);
            }
            // The thread ends when this value is dropped, and not before.
            None => std::future::pending().await,
        }
    }
}

fn whole(snapshot: &[Record]) -> BytesMut {
    let mut bytes = BytesMut::from(&MAGIC[..]);
    snapshot.iter().for_each(|record| record.write(&mut bytes));
    bytes
}

/// The file, from the side of its thread.
struct Disk {
    folder: PathBuf,
    file: Option<File>,
    /// Up to here it is good.
    size: u64,
}

impl Disk {
    fn serve(mut self, orders: &Receiver<Order>, progress: &mpsc::Sender<Progress>) {
        // Nothing is ever sent on it: it is a pause that ends with the process.
        let (_never, pause) = sync_channel::<()>(1);
        while let Ok(order) = orders.recv() {
            while let Err(error) = self.obey(&order) {
                let path = self.folder.join(FILE);
                let text = format!("cannot write {}: {error}", path.display());
                if progress.blocking_send(Progress::Failing(text)).is_err() {
                    return;
                }
                let _waited = pause.recv_timeout(PAUSE);
            }
            let done = Progress::Synced { mark: order.mark, size: self.size };
            if progress.blocking_send(done).is_err() {
                return;
            }
        }
    }

    fn obey(&mut self, order: &Order) -> io::Result<()> {
        if order.replace { self.replace(&order.bytes) } else { self.append(&order.bytes) }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the journal is not open"));
        };
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What is half there must not stand before what comes next.
            file.set_len(self.size)?;
            return Err(error);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Puts a new file in the place of the old one, at once or not at all.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (new, path) = (self.folder.join("journal.new"), self.folder.join(FILE));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.folder)?.sync_all()?;
        self.file = Some(file);
        self.size = bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
