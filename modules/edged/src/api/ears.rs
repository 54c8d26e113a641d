//! Hears, for all who follow logs, that files changed and which containers run.
//!
//! One inotify instance serves all, because a user has few of them. While nobody follows there is
//! none, and nothing is asked.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tracing::debug;

use crate::cri::{Runtime, words as w};

/// How often the runtime is asked which containers run while somebody follows: as kubelet.
const LIST: Duration = Duration::from_secs(1);

/// Who follows a file in a folder, and where the answer goes.
pub(crate) type Request = (PathBuf, oneshot::Sender<Ears>);

/// The containers that run, by id; none known before the runtime answered.
type Running = Option<Arc<HashSet<String>>>;

/// What one follower hears.
#[derive(Debug)]
pub(crate) struct Ears {
    changes: watch::Receiver<u64>,
    running: watch::Receiver<Running>,
}

impl Ears {
    /// Tells whether a container may still write, and forgets what was heard up to now.
    pub(crate) fn look(&mut self, id: &str) -> bool {
        self.changes.mark_unchanged();
        let running = self.running.borrow_and_update();
        running.as_ref().is_none_or(|running| running.contains(id))
    }

    /// Waits until something may have changed; false when nothing will be heard any more.
    pub(crate) async fn hear(&mut self) -> bool {
        let changes = async {
            if self.changes.changed().await.is_err() {
                // The file is looked at with each list then.
                std::future::pending::<()>().await;
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
            if let Some(changes) = self.folders.get(&i32::from_ne_bytes(number(0))) {
                changes.send_modify(|count| *count += 1);
            }
            let name = usize::try_from(u32::from_ne_bytes(number(12))).unwrap_or(usize::MAX);
            events = rest.get(name..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Serves followers for ever.
pub(crate) async fn run(runtime: Runtime, mut requests: mpsc::Receiver<Request>) {
    let (running, _) = watch::channel(None);
    let mut folders: Option<Folders> = None;
    let mut ticks = tokio::time::interval(LIST);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if running.receiver_count() == 0 {
            folders = None;
        }
        let passed = async {
            match &mut folders {
                Some(folders) => folders.pass_on().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = requests.recv() => {
                let Some((folder, answer)) = request else { return };
                list(&runtime, &running).await;
                let changes = match watched(&mut folders, &folder) {
                    Ok(changes) => changes,
                    Err(error) => {
                        debug!("no changes are heard of in {}: {error}", folder.display());
                        watch::channel(0).1
                    }
                };
                // Who asked may be gone.
                drop(answer.send(Ears { changes, running: running.subscribe() }));
            }
            passed = passed => if passed.is_err() { folders = None },
            _ = ticks.tick(), if running.receiver_count() > 0 => {
                if let Some(folders) = &mut folders {
                    folders.prune();
                }
                list(&runtime, &running).await;
            }
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

/// Tells which containers run. A runtime that does not answer ends nothing.
async fn list(runtime: &Runtime, running: &watch::Sender<Running>) {
    let all = runtime.list_containers(w::ListContainersRequest { filter: None }).await;
    let known = running.borrow().clone();
    let now = match all {
        Ok(all) => {
            let runs = |it: &w::Container| it.state() == w::ContainerState::Running;
            let ids = all.containers.into_iter().filter(runs).map(|it| it.id);
            Some(Arc::new(ids.collect()))
        }
        Err(_) => known,
    };
    running.send_replace(now);
}
