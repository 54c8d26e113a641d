//! The watches that CloudCore keeps for this node: it forgets them when it starts again, so it is
//! told all of them whenever it comes, and whenever one begins or ends.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_proto::Content;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{Application, Ask, Cloud};

/// Notes that may wait for the keeper.
pub(super) const NOTES: usize = 256;

/// How long to wait before the cloud is told again of what it did not take.
const PAUSE: Duration = Duration::from_secs(5);

/// Whether there are such objects in the cloud: one that is asked to watch what does not exist can end
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existence {
    /// Every cluster has them, or the cloud has listed them.
    Known,
    /// The cloud is asked for a list of them, until it has one.
    Unknown,
    /// The same, but once each time that it comes.
    Optional,
}

/// What the keeper is told.
#[derive(Debug)]
pub(super) enum Note {
    Begun(Box<Application>, Existence),
    Ended(String),
}

/// A watch that the cloud keeps for this node as long as this stands.
#[derive(Debug)]
pub(crate) struct Watching {
    id: String,
    notes: mpsc::Sender<Note>,
}

impl Watching {
    pub(super) fn begin(
        application: Application,
        existence: Existence,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        let id = application.id.clone();
        if let Err(error) = notes.try_send(Note::Begun(Box::new(application), existence)) {
            warn!("too many watches begin at once for the cloud to be told: {error}");
        }
        Self { id, notes }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Without room the cloud tells of what nobody watches, until the keeper is told of the next.
        let _full = self.notes.try_send(Note::Ended(std::mem::take(&mut self.id)));
    }
}

/// A watch, and how many on this node share it.
#[derive(Debug)]
struct Kept {
    application: Application,
    shared: usize,
    existence: Existence,
}

/// Tells the cloud of the watches, for ever.
pub(super) async fn keep(cloud: Cloud, mut notes: mpsc::Receiver<Note>) {
    let mut kept = BTreeMap::<String, Kept>::new();
    let mut linked = cloud.linked.clone();
    let mut told = true;
    loop {
        let is_linked = *linked.borrow_and_update();
        let retry = is_linked && !told;
        tokio::select! {
            note = notes.recv() => {
                let Some(note) = note else { return };
                if !take(&mut kept, note) {
                    continue;
                }
            }
            changed = linked.changed() => {
                // The main loop ends with the process.
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(PAUSE), if retry => {}
        }
        while let Ok(note) = notes.try_recv() {
            take(&mut kept, note);
        }
        // No watch at all is told, too: the cloud may keep those of an earlier process.
        told = !cloud.is_linked() || tell(&cloud, &mut kept).await;
    }
}

/// Takes a note; tells whether it changes what the cloud has to know.
fn take(kept: &mut BTreeMap<String, Kept>, note: Note) -> bool {
    match note {
        Note::Begun(application, existence) => {
            let id = application.id.clone();
            let fresh = || Kept { application: *application, shared: 0, existence };
            let kept = kept.entry(id).or_insert_with(fresh);
            kept.shared += 1;
            kept.shared == 1
        }
        Note::Ended(id) => {
            let Some(watch) = kept.get_mut(&id) else { return false };
            watch.shared = watch.shared.saturating_sub(1);
            watch.shared == 0 && kept.remove(&id).is_some()
        }
    }
}

/// Tells the cloud all watches. Returns whether it took them.
async fn tell(cloud: &Cloud, kept: &mut BTreeMap<String, Kept>) -> bool {
    let mut all = true;
    for watch in kept.values_mut().filter(|watch| watch.existence != Existence::Known) {
        let option = Some(r#"{"limit":1}"#.to_owned());
        let key = watch.application.key.clone();
        match cloud.apply(Ask { key, verb: "list", option, ..Ask::default() }).await {
            Ok(_) => watch.existence = Existence::Known,
            Err(refusal) => {
                debug!(?refusal, key = watch.application.key, "not watched in the cloud");
                all &= watch.existence == Existence::Optional;
            }
        }
    }
    let existing = kept.iter().filter(|(_, watch)| watch.existence == Existence::Known);
    let map: BTreeMap<_, _> = existing.map(|(id, watch)| (id, &watch.application)).collect();
    let content = match Content::encode(&map) {
        Ok(content) => content,
        Err(error) => {
            warn!("the watches cannot be written as JSON: {error}");
            return true;
        }
    };
    match cloud.ask("watchapp/sync", content).await {
        Ok(answer) => {
            let failed: BTreeMap<String, serde::de::IgnoredAny> =
                answer.content.decode().unwrap_or_default();
            if !failed.is_empty() {
                warn!(count = failed.len(), "the cloud does not watch all that is watched here");
            }
            all && failed.is_empty()
        }
        Err(error) => {
            debug!("the cloud has not been told of the watches: {error}");
            false
        }
    }
}
