//! Hears of changes in the folder of the static pods, and looks again now and then in any case.

use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{Folder, Static};

/// How often the folder is looked at although nothing was heard: as kubelet's `fileCheckFrequency`.
const RECHECK: Duration = Duration::from_secs(20);

/// How long after a change the folder is read: an editor's changes come in crowds.
const GATHER: Duration = Duration::from_millis(50);

/// Reads the folder whenever something may have changed, and sends all static pods when they are
/// others than before, for ever. `known` is what was taken already, if it could be read.
pub(crate) async fn watch(
    mut folder: Folder,
    mut known: Option<Vec<Static>>,
    sender: mpsc::Sender<Vec<Static>>,
) {
    let mut ears = None;
    loop {
        if ears.is_none() {
            ears = listen(&folder.path)
                .inspect_err(|error| {
                    debug!("no changes are heard of in {}: {error}", folder.path.display());
                })
                .ok();
        }
        let heard = tokio::time::timeout(RECHECK, hear(ears.as_mut())).await;
        match heard {
            Ok(Ok(())) => tokio::time::sleep(GATHER).await,
            Ok(Err(_)) => ears = None,
            Err(_) => {}
        }
        match folder.read() {
            Ok(pods) if known.as_ref() != Some(&pods) => {
                known = Some(pods.clone());
                if sender.send(pods).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => {
                ears = None;
                warn!("cannot read the static pods in {}: {error}", folder.path.display());
            }
        }
    }
}

/// Begins to hear of changes in a folder, or of those beside a file.
pub(crate) fn listen(path: &Path) -> std::io::Result<Receiver> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let ears = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let changes = WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::MOVE
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    inotify::add_watch(&ears, folder, changes)?;
    // It is read and waited for just as a pipe.
    Receiver::from_owned_fd_unchecked(ears)
}

/// Waits until something was heard; what it was, the folder tells.
pub(crate) async fn hear(ears: Option<&mut Receiver>) -> std::io::Result<()> {
    let Some(ears) = ears else { return std::future::pending().await };
    let mut buffer = [0; 4096];
    match ears.read(&mut buffer).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
