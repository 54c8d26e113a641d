//! The one thread that touches the database: it commits whatever waits in one transaction (one
//! flush to the disk for all of it), answers questions in their order, and copes with a database
//! that cannot be written.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;

use super::database::Database;
use super::snapshot;
use super::trouble::Trouble;
use super::{Done, Job, Size, Work};
use crate::row::{Change, Committed};

/// The greatest number of jobs in one transaction.
const MAX_BATCH: usize = 256;

/// How long a database that cannot be written is left alone; doubled up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How often it is looked how much there is, at most.
const MEASURE: Duration = Duration::from_secs(10);

/// How old the snapshot may be.
const SNAPSHOT_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// How much may be written before the next snapshot.
const SNAPSHOT_BYTES: usize = 64 * 1024 * 1024;

/// How long after the start the first overdue snapshot is taken: the start has better to do.
const SNAPSHOT_DELAY: Duration = Duration::from_secs(60);

/// The thread's state.
pub(super) struct Writer<T> {
    path: PathBuf,
    /// Stands before `done`, and so is closed before the main loop hears that the thread has ended.
    database: Option<Database>,
    jobs: Receiver<Job<T>>,
    done: Sender<Done<T>>,
    /// What is wrong, while something is.
    trouble: Option<Trouble>,
    /// Commits that wait for the trouble to end, in order.
    waiting: VecDeque<(Vec<Change>, T)>,
    retry: (Instant, Duration),
    snapshot_due: Instant,
    snapshot: Option<std::thread::JoinHandle<()>>,
    /// Bytes written since the last snapshot.
    written: usize,
    size: watch::Sender<Size>,
    /// When it is to be looked how much there is; never while nothing has changed.
    measure_due: Option<Instant>,
    measured: Option<Instant>,
}

/// The main loop does not listen any more.
struct Gone;

impl<T: Send + 'static> Writer<T> {
    pub(super) fn new(
        path: PathBuf,
        jobs: Receiver<Job<T>>,
        done: Sender<Done<T>>,
        size: watch::Sender<Size>,
    ) -> Self {
        let now = Instant::now();
        let rest = snapshot::age(&path).map(|age| SNAPSHOT_AGE.saturating_sub(age));
        Self {
            path,
            jobs,
            done,
            database: None,
            trouble: None,
            waiting: VecDeque::new(),
            retry: (now, RETRY.0),
            snapshot_due: now + rest.unwrap_or_default().max(SNAPSHOT_DELAY),
            snapshot: None,
            written: 0,
            size,
            measure_due: Some(now),
            measured: None,
        }
    }

    /// Works until the main loop is gone.
    pub(super) fn run(mut self, runtime: &tokio::runtime::Runtime) {
        if self.open().is_err() {
            return;
        }
        while let Some(batch) = self.gather(runtime) {
            if self.work(batch).is_err() {
                return;
            }
        }
    }

    /// Waits for jobs or a deadline, and takes all that is there.
    fn gather(&mut self, runtime: &tokio::runtime::Runtime) -> Option<Vec<Job<T>>> {
        let deadline = match self.trouble {
            Some(_) => self.retry.0.min(self.snapshot_due),
            None => self.snapshot_due,
        };
        let deadline = self.measure_due.map_or(deadline, |due| due.min(deadline));
        let first = runtime
            .block_on(async { tokio::time::timeout_at(deadline.into(), self.jobs.recv()).await });
        let mut batch = match first {
            Ok(None) => return None,
            Ok(Some(job)) => vec![job],
            Err(_elapsed) => Vec::new(),
        };
        while batch.len() < MAX_BATCH
            && let Ok(job) = self.jobs.try_recv()
        {
            batch.push(job);
        }
        Some(batch)
    }

    fn work(&mut self, batch: Vec<Job<T>>) -> Result<(), Gone> {
        let now = Instant::now();
        if self.trouble.is_some() {
            for Job { work, then } in batch {
                match work {
                    Work::Commit(changes) => self.waiting.push_back((changes, then)),
                    Work::Ask(_) => self.answer(Job { work, then })?,
                }
            }
            if now >= self.retry.0 {
                self.try_again(now)?;
            }
        } else if !batch.is_empty() {
            self.transact(batch)?;
        }
        self.measure(now);
        self.take_snapshot(now);
        Ok(())
    }

    /// Looks how much there is, when that may have changed and was not looked at just now.
    fn measure(&mut self, now: Instant) {
        if self.measure_due.is_none_or(|due| now < due) {
            return;
        }
        self.measure_due = None;
        self.measured = Some(now);
        if let Some(Ok(size)) = self.database.as_ref().map(Database::size) {
            self.size.send_if_modified(|shown| std::mem::replace(shown, size) != size);
        }
    }

    /// Does a batch in one transaction, and tells of it once it is on the disk.
    fn transact(&mut self, batch: Vec<Job<T>>) -> Result<(), Gone> {
        let Some(database) = &mut self.database else { return Ok(()) };
        let writes = batch.iter().any(|job| matches!(job.work, Work::Commit(_)));
        match attempt(database, &batch, writes) {
            Ok(results) => {
                if writes && self.measure_due.is_none() {
                    let last = self.measured.unwrap_or_else(Instant::now);
                    self.measure_due = Some(last + MEASURE);
                }
                self.written += batch.iter().map(|job| job.work.bytes()).sum::<usize>();
                for (Job { then, .. }, result) in batch.into_iter().zip(results) {
                    self.tell(result.with(then))?;
                }
                Ok(())
            }
            Err(trouble) => {
                for Job { work, then } in batch {
                    match work {
                        Work::Commit(changes) => self.waiting.push_back((changes, then)),
                        Work::Ask(_) => self.answer(Job { work, then })?,
                    }
                }
                self.fail(trouble)
            }
        }
    }

    /// Answers a question outside of any transaction, from what can be read.
    fn answer(&mut self, job: Job<T>) -> Result<(), Gone> {
        let Work::Ask(question) = &job.work else { return Ok(()) };
        let answer = match (&self.database, &self.trouble) {
            (Some(database), _) => database.answer(question),
            (None, Some(trouble)) => Err(trouble.clone()),
            (None, None) => Err(Trouble::Closed("not open".to_owned())),
        };
        self.tell(Done::Answer(job.then, answer))
    }

    /// Opens the database for the first time or again; restores it when it is damaged.
    fn open(&mut self) -> Result<(), Gone> {
        self.database = None;
        let opened = snapshot::finish(&self.path)
            .map_err(Trouble::from)
            .and_then(|()| Database::open(&self.path))
            .or_else(|trouble| self.recover(trouble));
        match opened {
            Ok(database) => {
                self.database = Some(database);
                self.retry.1 = RETRY.0;
                self.trouble = None;
                self.tell(Done::Health(None))
            }
            Err(trouble) => {
                if !matches!(trouble, Trouble::Newer { .. } | Trouble::Damaged(_)) {
                    self.database = Database::open_to_read(&self.path).ok();
                }
                self.fail(trouble)
            }
        }
    }

    /// Puts the last good copy in place of a damaged database.
    fn recover(&mut self, trouble: Trouble) -> Result<Database, Trouble> {
        let Trouble::Damaged(cause) = trouble else { return Err(trouble) };
        let recovery = snapshot::restore(&self.path, &cause, module_runtime::unix_millis())?;
        tracing::error!(%recovery, "database restored");
        let database = Database::open(&self.path)?;
        match self.tell(Done::Restored(recovery)) {
            Ok(()) | Err(Gone) => Ok(database),
        }
    }

    /// Notes that the database cannot be written, says so once, and sets the time of the next try.
    fn fail(&mut self, trouble: Trouble) -> Result<(), Gone> {
        let news = self.trouble.as_ref() != Some(&trouble);
        self.retry.0 = Instant::now() + self.retry.1;
        self.retry.1 = (self.retry.1 * 2).min(RETRY.1);
        self.trouble = Some(trouble.clone());
        if news { self.tell(Done::Health(Some(trouble))) } else { Ok(()) }
    }

    /// Opens the database again and commits what waits, in order.
    fn try_again(&mut self, now: Instant) -> Result<(), Gone> {
        let pause = self.retry.1;
        self.open()?;
        while self.trouble.is_none() && !self.waiting.is_empty() {
            let size = self.waiting.len().min(MAX_BATCH);
            let batch = self.waiting.drain(..size);
            let batch: Vec<_> =
                batch.map(|(changes, then)| Job { work: Work::Commit(changes), then }).collect();
            let later = std::mem::take(&mut self.waiting);
            self.transact(batch)?;
            self.waiting.extend(later);
        }
        if self.trouble.is_some() {
            // It opened and failed again: the pause goes on growing.
            self.retry = (now + pause, (pause * 2).min(RETRY.1));
        }
        Ok(())
    }

    /// Starts a snapshot when one is due and none is being taken.
    fn take_snapshot(&mut self, now: Instant) {
        if self.snapshot.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let due = now >= self.snapshot_due || self.written >= SNAPSHOT_BYTES;
        if !due || self.trouble.is_some() {
            return;
        }
        self.written = 0;
        self.snapshot_due = now + SNAPSHOT_AGE;
        let path = self.path.clone();
        let copy = move || match snapshot::take(&path) {
            Ok(()) => tracing::info!("snapshot of the database taken"),
            Err(error) => tracing::warn!(%error, "no snapshot of the database"),
        };
        self.snapshot = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(copy)
            .inspect_err(|error| tracing::warn!(%error, "no thread for the snapshot"))
            .ok();
    }

    fn tell(&self, done: Done<T>) -> Result<(), Gone> {
        self.done.blocking_send(done).map_err(|_| Gone)
    }
}

/// The outcome of one job in a batch.
enum Outcome {
    Committed(Committed),
    Answer(Result<crate::row::Answer, Trouble>),
}

impl Outcome {
    fn with<T>(self, then: T) -> Done<T> {
        match self {
            Self::Committed(committed) => Done::Committed(then, committed),
            Self::Answer(answer) => Done::Answer(then, answer),
        }
    }
}

fn attempt<T>(
    database: &mut Database,
    batch: &[Job<T>],
    writes: bool,
) -> Result<Vec<Outcome>, Trouble> {
    if writes {
        database.begin()?;
    }
    let now = module_runtime::unix_millis();
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut all = || -> Result<(), Trouble> {
        for job in batch {
            outcomes.push(match &job.work {
                Work::Commit(changes) => {
                    let mut sum = Committed::default();
                    for change in changes {
                        sum.add(database.apply(change, now)?);
                    }
                    Outcome::Committed(sum)
                }
                Work::Ask(question) => Outcome::Answer(database.answer(question)),
            });
        }
        Ok(())
    };
    let done = all();
    let done = match done {
        Ok(()) if writes => database.commit(),
        other => other,
    };
    if done.is_err() && writes {
        database.roll_back()?;
    }
    done.map(|()| outcomes)
}
