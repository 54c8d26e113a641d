//! Hears, for all who follow logs, that files changed.
//!
//! One inotify instance serves all, because a user has few of them. While nobody follows there is
//! none, and while nothing is written nobody wakes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

use crate::runtime::Running;

/// How often a file is looked at that the kernel does not watch.
const LOOK: Duration = Duration::from_secs(1);

/// Who follows a file in a folder, and where the answer goes.
pub(crate) type Request = (PathBuf, oneshot::Sender<watch::Receiver<u64>>);

/// What one follower hears.
#[derive(Debug)]
pub(crate) struct Ears {
    /// Something happened in the file's folder.
    pub(crate) changes: watch::Receiver<u64>,
    /// Something happened in the runtime.
    pub(crate) running: watch::Receiver<Running>,
}

impl Ears {
    /// Tells whether a container is known to run, and forgets what was heard up to now.
    pub(crate) fn look(&mut self, id: &str) -> bool {
        self.changes.mark_unchanged();
        self.running.borrow_and_update().contains(id)
    }

    /// Waits until something may have changed; false when nothing will be heard any more.
    pub(crate) async fn hear(&mut self) -> bool {
        let changes = async {
            if self.changes.changed().await.is_err() {
                // The folder is gone, or the kernel watches no more of them.
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = changes => true,
            changed = self.running.changed() => changed.is_ok(),
        }
    }
}

/// The folders that are watched, by the kernel's number.
struct Folders {
    instance: Receiver,
    folders: HashMap<i32, watch::Sender<u64>>,
}

impl Folders {
    fn new() -> io::Result<Self> {
        let instance = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // It is read and waited for just as a pipe.
        let instance = Receiver::from_owned_fd_unchecked(instance)?;
        Ok(Self { instance, folders: HashMap::new() })
    }

    fn add(&mut self, folder: &Path) -> io::Result<watch::Receiver<u64>> {
        let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVE;
        let changes = changes | WatchFlags::DELETE | WatchFlags::DELETE_SELF;
        let number = inotify::add_watch(&self.instance, folder, changes)?;
        Ok(self.folders.entry(number).or_insert_with(|| watch::channel(0).0).subscribe())
    }

    /// Lets go of what nobody follows any more.
    fn prune(&mut self) {
        let instance = &self.instance;
        self.folders.retain(|number, changes| {
            let followed = changes.receiver_count() > 0;
            if !followed {
                // It fails for a folder that is gone, whose watch went with it.
                inotify::remove_watch(instance, *number).unwrap_or_default();
            }
            followed
        });
    }

    /// Waits for changes and passes them on.
    async fn pass_on(&mut self) -> io::Result<()> {
        let mut space = [0; 4096];
        let count = self.instance.read(&mut space).await?;
        let mut events = &space[..count];
        // An event is the watch's number, three more numbers, of which the last is the length of
        // the name that follows.
        while let Some((head, rest)) = events.split_first_chunk::<16>() {
            let number = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
            let watch = i32::from_ne_bytes(number(0));
            if watch < 0 {
                // There were more than the kernel keeps: everything may have changed.
                self.folders.values().for_each(|changes| changes.send_modify(|count| *count += 1));
            } else if let Some(changes) = self.folders.get(&watch) {
                changes.send_modify(|count| *count += 1);
            }
            let name = usize::try_from(u32::from_ne_bytes(number(12))).unwrap_or(usize::MAX);
            events = rest.get(name..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Serves followers for ever. Each says with a word in `gone` that it has ended.
pub(crate) async fn run(mut requests: mpsc::Receiver<Request>, mut gone: mpsc::Receiver<()>) {
    let mut folders: Option<Folders> = None;
    loop {
        let passed = async {
            match &mut folders {
                Some(folders) => folders.pass_on().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = requests.recv() => {
                let Some((folder, answer)) = request else { return };
                let changes = watched(&mut folders, &folder).unwrap_or_else(|error| {
                    debug!("no changes are heard of in {}: {error}", folder.display());
                    watch::channel(0).1
                });
                // Who asked may be gone.
                drop(answer.send(changes));
            }
            Some(()) = gone.recv() => {
                if let Some(known) = &mut folders {
                    known.prune();
                }
                if folders.as_ref().is_some_and(|known| known.folders.is_empty()) {
                    folders = None;
                }
            }
            passed = passed => if passed.is_err() { folders = None },
        }
    }
}

fn watched(folders: &mut Option<Folders>, folder: &Path) -> io::Result<watch::Receiver<u64>> {
    let mut known = match folders.take() {
        Some(known) => known,
        None => Folders::new()?,
    };
    let changes = known.add(folder);
    *folders = Some(known);
    changes
}
