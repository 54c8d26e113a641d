//! Who watches what: each change goes to those who watch it, and one that is too slow to take it
//! loses its watch, which its client begins again where it was.

use tokio::sync::{mpsc, oneshot};

use crate::history::{Change, History, TooOld};

/// Changes that may wait for one watch.
const WAITING: usize = 256;

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Now.
    Now,
    /// At the place that this resourceVersion names.
    Version(u64),
}

/// What a watch is told.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A change, and its place.
    Change(Change, u64),
    /// Changes were missed up to this place: the store has to be read again.
    Lost(u64),
}

/// A watch that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The changes that it missed.
    pub(crate) missed: Vec<Change>,
    /// The place up to which they go.
    pub(crate) place: u64,
    /// What comes later.
    pub(crate) news: mpsc::Receiver<News>,
}

/// What requests want of the desk.
#[derive(Debug)]
pub(crate) enum Order {
    /// The place of the last change.
    Place(oneshot::Sender<u64>),
    /// Changes of objects whose key begins so.
    Watch { of: Box<str>, since: Since, reply: oneshot::Sender<Result<Begun, TooOld>> },
}

#[derive(Debug)]
struct Watcher {
    of: Box<str>,
    news: mpsc::Sender<News>,
}

/// The watches, and the last changes.
#[derive(Debug)]
pub(crate) struct Desk {
    history: History,
    watchers: Vec<Watcher>,
}

impl Desk {
    /// Begins at a time in milliseconds.
    pub(crate) fn new(unix_millis: u64) -> Self {
        Self { history: History::new(unix_millis), watchers: Vec::new() }
    }

    /// Tells those who watch it of a change.
    pub(crate) fn tell(&mut self, change: Change) {
        let place = self.history.place() + 1;
        self.watchers.retain(|watcher| {
            !change.key.starts_with(&*watcher.of)
                || watcher.news.try_send(News::Change(change.clone(), place)).is_ok()
        });
        self.history.push(change);
    }

    /// Tells all that changes were missed.
    pub(crate) fn lost(&mut self) {
        self.history.forget();
        let place = self.history.place();
        self.watchers.retain(|watcher| watcher.news.try_send(News::Lost(place)).is_ok());
    }

    /// Does what a request wants. One that has gone away meanwhile wants nothing.
    pub(crate) fn obey(&mut self, order: Order) {
        match order {
            Order::Place(reply) => drop(reply.send(self.history.place())),
            Order::Watch { of, since, reply } => drop(reply.send(self.watch(of, since))),
        }
    }

    fn watch(&mut self, of: Box<str>, since: Since) -> Result<Begun, TooOld> {
        let missed = match since {
            Since::Now => Vec::new(),
            Since::Version(version) => self.history.after(&of, version)?,
        };
        let (sender, news) = mpsc::channel(WAITING);
        self.watchers.retain(|watcher| !watcher.news.is_closed());
        self.watchers.push(Watcher { of, news: sender });
        Ok(Begun { missed, place: self.history.place(), news })
    }
}
