//! The store: `edgecore.db`, its one thread, and the way to it.
//!
//! Jobs are done in their order. A commit is told of once it is on the disk, and all commits that
//! wait at the same time share one flush. While the database cannot be written, commits wait and
//! questions are answered from what can be read; nothing of that ends the process.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;

use crate::row::{Answer, Change, Committed, Question};

mod database;
mod files;
mod measure;
mod outbox;
mod schema;
mod snapshot;
mod trouble;
mod twins;
mod writer;

#[cfg(test)]
mod tests;

use database::Database;
pub use measure::{Figures, measure, measure_twins};
pub use snapshot::Recovery;
pub use trouble::Trouble;

/// Jobs on their way to the thread; more of them wait here in memory, where the windows of the
/// peers bound them: whoever sent what a job comes from has not been told that it is done.
const JOBS: usize = 1024;

/// Work for the store, and what its asker wants to have back with the outcome.
#[derive(Debug)]
struct Job<T> {
    work: Work,
    then: T,
}

#[derive(Debug)]
enum Work {
    Commit(Vec<Change>),
    Ask(Question),
}

impl Work {
    /// Returns roughly how much it writes.
    fn bytes(&self) -> usize {
        let Self::Commit(changes) = self else { return 0 };
        let size = |change: &Change| match change {
            Change::Put(object) | Change::PutUnlessNewer(object) | Change::Refresh(object) => {
                object.value.len()
            }
            Change::PutRecord(_, value) => value.len(),
            Change::Queue(parcel) => parcel.text.len(),
            Change::Remove(_)
            | Change::RemoveToken(_)
            | Change::RemoveRecord(_)
            | Change::AddWord(..)
            | Change::RemoveWord(..)
            | Change::PutTwin(_)
            | Change::RemoveTwin(_)
            | Change::Dequeue(_) => 256,
        };
        changes.iter().map(size).sum()
    }
}

/// Reads the devices of a database that another process may be writing, or of one that nobody has
/// open: their rows in the twin tables, and their objects, each as one JSON array.
///
/// # Errors
/// When the file cannot be read.
pub fn read_devices(path: &Path) -> Result<[Bytes; 2], Trouble> {
    let database = Database::open_to_read(path)?;
    Ok([array(&database, &Question::Twins)?, array(&database, &Question::Kind("device".into()))?])
}

/// Reads the services of a database as [`read_devices`] does: services, slices of endpoints,
/// endpoints as they were before there were slices, and how endpoints are chosen, each as one JSON
/// array.
///
/// # Errors
/// When the file cannot be read.
pub fn read_services(path: &Path) -> Result<[Bytes; 4], Trouble> {
    let database = Database::open_to_read(path)?;
    let of = |kind: &str| array(&database, &Question::Kind(kind.into()));
    Ok([of("service")?, of("endpointslice")?, of("endpoints")?, of("destinationrule")?])
}

/// Reads the pods of a database as [`read_devices`] does, as one JSON array.
///
/// # Errors
/// When the file cannot be read.
pub fn read_pods(path: &Path) -> Result<[Bytes; 1], Trouble> {
    Ok([array(&Database::open_to_read(path)?, &Question::Kind("pod".into()))?])
}

/// Returns the tables of a database, whoever made it: how each was made, and its number of rows.
///
/// # Errors
/// When the file cannot be read.
pub fn read_tables(path: &Path) -> Result<Vec<(String, u64)>, Trouble> {
    Database::open_to_read(path)?.tables()
}

/// Reads every page of a database, which another process may be writing, and looks whether they hold
/// together.
///
/// # Errors
/// When the file cannot be read, or is damaged.
pub fn check(path: &Path) -> Result<(), Trouble> {
    Database::open_to_read(path)?.check()
}

/// Copies a database, which another process may be writing, to a file that stands alone and is on
/// the disk then. The copy is checked page by page.
///
/// # Errors
/// When one of the files cannot be used, or the database is damaged.
pub fn copy(path: &Path, to: &Path) -> Result<(), Trouble> {
    snapshot::copy(path, to)
}

fn array(database: &Database, question: &Question) -> Result<Bytes, Trouble> {
    match database.answer(question)? {
        Answer::Array(array) => Ok(array),
        Answer::One(_) | Answer::Rows(_) | Answer::Outbox(_) => {
            Err(Trouble::Failing(format!("{question:?} is not answered with an array")))
        }
    }
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Objects.
    pub rows: u64,
    /// Messages that the cloud does not have yet.
    pub outbox: u64,
}

/// What the store tells.
#[derive(Debug)]
pub enum Done<T> {
    /// The changes are on the disk.
    Committed(T, Committed),
    /// The answer to a question, or why there is none.
    Answer(T, Result<Answer, Trouble>),
    /// The database cannot be written, for this reason; or it can again.
    Health(Option<Trouble>),
    /// The database was damaged and has been restored: it may lack what was stored last.
    Restored(Recovery),
}

/// The way to the store's thread.
#[derive(Debug)]
pub struct Store<T> {
    jobs: Option<Sender<Job<T>>>,
    done: Receiver<Done<T>>,
    overflow: VecDeque<Job<T>>,
    size: watch::Receiver<Size>,
}

impl<T: Send + 'static> Store<T> {
    /// Starts the thread, which opens the database. What is wrong with that comes by
    /// [`Done::Health`].
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(path: PathBuf) -> io::Result<Self> {
        let (jobs, job_receiver) = channel(JOBS);
        let (done_sender, done) = channel(JOBS);
        let (shown, size) = watch::channel(Size::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            writer::Writer::new(path, job_receiver, done_sender, shown).run(&runtime);
        })?;
        let overflow = VecDeque::new();
        Ok(Self { jobs: Some(jobs), done, overflow, size })
    }

    /// Has changes committed together. `then` comes back with [`Done::Committed`].
    pub fn commit(&mut self, changes: Vec<Change>, then: T) {
        self.submit(Job { work: Work::Commit(changes), then });
    }

    /// Has a question answered. `then` comes back with [`Done::Answer`].
    pub fn ask(&mut self, question: Question, then: T) {
        self.submit(Job { work: Work::Ask(question), then });
    }

    /// Returns how much the store holds, looked at every ten seconds while something changes.
    pub(crate) fn size(&self) -> watch::Receiver<Size> {
        self.size.clone()
    }

    fn submit(&mut self, job: Job<T>) {
        self.overflow.push_back(job);
        self.flush();
    }

    fn flush(&mut self) {
        let Some(jobs) = &self.jobs else { return };
        while let Some(job) = self.overflow.pop_front() {
            if let Err(TrySendError::Full(job) | TrySendError::Closed(job)) = jobs.try_send(job) {
                self.overflow.push_front(job);
                return;
            }
        }
    }

    /// Waits for the next thing that is done; nothing when the thread has ended, which it does by
    /// itself only when it panics. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Done<T>> {
        let done = self.done.recv().await;
        self.flush();
        done
    }

    /// Takes no more jobs. Those that it has are done and told of; then [`Store::next`] returns
    /// nothing.
    pub fn close(&mut self) {
        self.flush();
        self.jobs = None;
    }
}
