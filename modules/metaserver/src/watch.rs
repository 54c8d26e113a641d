//! Watches: what there is, if that is wanted, then each change, as one line of JSON each.
//!
//! A watch outlives the cloud, edgehub and metamanager. When changes were missed it reads the store
//! again and tells the difference to what it has told; it keeps two numbers for each object for that.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use hyper::Response;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::accept::Form;
use crate::body::{self, Body, Writer};
use crate::desk::{Begun, News, Since};
use crate::history::{Change, Fate, TooOld};
use crate::list::Encoder;
use crate::path::Target;
use crate::selector::Selector;
use crate::serve::Site;
use crate::status::Refusal;

/// How often a client that asked for it is told where it is.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// How long a change may be on its way here once it is in the store. A module that is slower than
/// that has long been started again.
const UNDER_WAY: Duration = Duration::from_secs(30);

/// How long a watch lasts when its client does not say.
const LASTS: Duration = Duration::from_secs(40 * 60);

/// What a client wants to watch.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) target: Target,
    pub(crate) form: Form,
    pub(crate) selector: Selector,
    /// The selectors as the cloud reads them.
    pub(crate) labels: String,
    pub(crate) fields: String,
    /// Where to begin; nothing for what there is, then what comes.
    pub(crate) since: Option<Since>,
    pub(crate) bookmarks: bool,
    /// Whether the end of what there is is to be marked.
    pub(crate) marked: bool,
    pub(crate) lasts: Option<Duration>,
}

/// What a client has been told of.
#[derive(Debug, Default)]
struct Told {
    hasher: RandomState,
    /// Hashes of keys, and of the objects as they were told.
    objects: HashMap<u64, u64>,
}

impl Told {
    /// Takes note of an object as it is. Returns the type of the event that tells of it, if one does.
    fn is(&mut self, key: &str, object: Option<&RawValue>) -> Option<&'static str> {
        let key = self.hasher.hash_one(key);
        let Some(object) = object else {
            return self.objects.remove(&key).map(|_| "DELETED");
        };
        let hash = self.hasher.hash_one(object.get());
        match self.objects.insert(key, hash) {
            None => Some("ADDED"),
            Some(before) if before != hash => Some("MODIFIED"),
            Some(_) => None,
        }
    }

    /// Takes note of a change. Returns the type of the event that tells of it, if one does.
    ///
    /// `certain` is whether what was taken note of before has also been told. The store is ahead of
    /// the changes that are on their way: what a watch that goes on from a list read there may be
    /// news to its client still.
    fn change(
        &mut self,
        change: &Change,
        object: &RawValue,
        selected: bool,
        certain: bool,
    ) -> Option<&'static str> {
        let is_there = selected && change.fate != Fate::Went;
        let known = self.is(&change.key, is_there.then_some(object));
        known.or_else(|| if certain { None } else { event(change.fate, selected) })
    }
}

/// Returns the type of the event that tells of a change to one who may know the object.
const fn event(fate: Fate, selected: bool) -> Option<&'static str> {
    match (fate, selected) {
        (Fate::Came, true) => Some("ADDED"),
        (Fate::Changed, true) => Some("MODIFIED"),
        (Fate::Went, true) | (Fate::Changed, false) => Some("DELETED"),
        (Fate::Came | Fate::Went, false) => None,
    }
}

/// A watch at work.
struct Watch {
    site: Site,
    of: String,
    wanted: Wanted,
    encoder: Encoder,
    told: Told,
    place: u64,
    /// From when on what is known of the objects has also been told.
    certain: Instant,
    writer: Writer,
    /// The cloud's share in it, where it has one.
    _in_cloud: Option<crate::cloud::Watching>,
}

/// The client is gone, or has been told why it ends.
struct Ended;

/// Writes the event that says why a watch ends.
fn error(refusal: &Refusal) -> String {
    format!("{}\n", json!({"type": "ERROR", "object": refusal.status()}))
}

/// Begins a watch.
///
/// # Errors
/// When the process is ending.
pub(crate) async fn begin(site: &Site, wanted: Wanted) -> Result<Response<Body>, Refusal> {
    let of = wanted.target.key();
    let Wanted { target, labels, fields, .. } = &wanted;
    let in_cloud = (!target.is_held()).then(|| site.cloud.watch(target, labels, fields));
    let begun = match site.watch(&of, wanted.since.unwrap_or(Since::Now)).await? {
        Ok(begun) => begun,
        // As the API server does: some clients look for this in an event alone.
        Err(too_old) => return Ok(body::json(error(&too_old.into()))),
    };
    let encoder = Encoder::new(&wanted.target, wanted.form);
    let (writer, reply) = body::streamed();
    let (site, place) = (site.clone(), begun.place);
    let told = Told::default();
    let certain = Instant::now() + wanted.since.map_or(Duration::ZERO, |_| UNDER_WAY);
    let watch =
        Watch { site, of, wanted, encoder, told, place, certain, writer, _in_cloud: in_cloud };
    tokio::spawn(async move {
        // How it ends is known to the client alone.
        let _ended = watch.run(begun).await;
    });
    Ok(reply)
}

impl Watch {
    async fn run(mut self, begun: Begun) -> Result<(), Ended> {
        let Begun { missed, mut news, .. } = begun;
        let silent = self.wanted.since.is_some();
        self.look(silent).await?;
        for change in missed {
            self.catch_up(&change).await?;
        }
        if self.wanted.marked {
            self.bookmark(true).await?;
        }
        let start = Instant::now() + BOOKMARKS;
        let mut marks: Interval = interval_at(start, BOOKMARKS);
        marks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = Instant::now() + self.wanted.lasts.unwrap_or(LASTS);
        loop {
            tokio::select! {
                next = news.recv() => match next {
                    Some(News::Change(change, place)) => self.on_change(&change, place).await?,
                    Some(News::Lost(place)) => self.on_lost(place).await?,
                    // It was too slow; it can go on where it was.
                    None => return Ok(()),
                },
                _ = marks.tick(), if self.wanted.bookmarks => self.bookmark(false).await?,
                () = sleep_until(end) => return Ok(()),
                () = self.writer.closed() => return Err(Ended),
            }
        }
    }

    /// Reads the store and tells what of it is news to the client; nothing if it knows, as after a
    /// list of its own.
    async fn look(&mut self, silent: bool) -> Result<(), Ended> {
        let mut after = String::new();
        let mut unseen: HashSet<u64> = self.told.objects.keys().copied().collect();
        loop {
            let page = match self.site.store.page(&self.of, &after).await {
                Ok(page) => page,
                Err(refusal) => return Err(self.fail(&refusal).await),
            };
            let rows = match page.rows() {
                Ok(rows) => rows,
                Err(refusal) => return Err(self.fail(&refusal).await),
            };
            for (key, object) in &rows.rows {
                unseen.remove(&self.told.hasher.hash_one(key.as_str()));
                let wanted = self.wanted.selector.wants(object).then_some(*object);
                if let Some(kind) = self.told.is(key, wanted).filter(|_| !silent) {
                    self.tell(kind, object).await?;
                }
            }
            let Some(last) = rows.rest() else { break };
            after = last;
        }
        if unseen.is_empty() {
            return Ok(());
        }
        // Something went that nobody has the name of: the client has to list again.
        Err(self.fail(&TooOld.into()).await)
    }

    /// Tells of a change that happened between the client's list and now.
    async fn catch_up(&mut self, change: &Change) -> Result<(), Ended> {
        let Ok(object) = serde_json::from_slice::<&RawValue>(&change.value) else { return Ok(()) };
        match event(change.fate, self.wanted.selector.wants(object)) {
            Some(kind) => self.tell(kind, object).await,
            None => Ok(()),
        }
    }

    async fn on_change(&mut self, change: &Change, place: u64) -> Result<(), Ended> {
        self.place = place;
        let Ok(object) = serde_json::from_slice::<&RawValue>(&change.value) else { return Ok(()) };
        let selected = self.wanted.selector.wants(object);
        let certain = Instant::now() >= self.certain;
        match self.told.change(change, object, selected, certain) {
            Some(kind) => self.tell(kind, object).await,
            None => Ok(()),
        }
    }

    /// Changes were missed: the difference to what has been told is told.
    async fn on_lost(&mut self, place: u64) -> Result<(), Ended> {
        if Instant::now() < self.certain {
            // Nobody knows what that is: the client has to list again.
            return Err(self.fail(&TooOld.into()).await);
        }
        self.place = place;
        self.look(false).await
    }

    async fn tell(&mut self, kind: &str, object: &RawValue) -> Result<(), Ended> {
        let mut line = format!(r#"{{"type":"{kind}","object":"#).into_bytes();
        line.extend_from_slice(&self.encoder.alone(object, self.place));
        line.extend_from_slice(b"}\n");
        self.writer.send(Ok(line.into())).await.map_err(|_| Ended)
    }

    async fn bookmark(&mut self, ends_initial: bool) -> Result<(), Ended> {
        let mut metadata = json!({"resourceVersion": self.place.to_string()});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let Encoder { kind, api_version, form, .. } = &self.encoder;
        let object = match form {
            Form::Plain => json!({"kind": kind, "apiVersion": api_version, "metadata": metadata}),
            Form::Metadata => json!({"kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            Form::Table => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata, "columnDefinitions": null, "rows": []}),
        };
        let line = format!("{}\n", json!({"type": "BOOKMARK", "object": object}));
        self.writer.send(Ok(line.into())).await.map_err(|_| Ended)
    }

    /// Tells why the watch ends.
    async fn fail(&mut self, refusal: &Refusal) -> Ended {
        // A client that is gone needs no reason.
        let _gone = self.writer.send(Ok(error(refusal).into())).await;
        Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_new_once_then_changed_then_gone() {
        let raw = |text: &'static str| -> &RawValue { serde_json::from_str(text).unwrap() };
        let mut told = Told::default();
        assert_eq!(told.is("a", Some(raw("1"))), Some("ADDED"));
        assert_eq!(told.is("a", Some(raw("1"))), None);
        assert_eq!(told.is("a", Some(raw("2"))), Some("MODIFIED"));
        assert_eq!(told.is("b", None), None, "nobody was told of it");
        assert_eq!(told.is("a", None), Some("DELETED"));
        assert_eq!(told.is("a", Some(raw("2"))), Some("ADDED"));
    }

    #[test]
    fn what_the_store_had_before_it_was_told_is_told_to_one_who_listed_earlier() {
        let change = |fate| Change { key: "a".into(), fate, value: "1".into() };
        let object: &RawValue = serde_json::from_str("1").unwrap();
        let mut told = Told::default();
        told.is("a", Some(object));
        assert_eq!(told.change(&change(Fate::Came), object, true, false), Some("ADDED"));
        assert_eq!(told.change(&change(Fate::Came), object, true, true), None, "it was told");
        let mut told = Told::default();
        assert_eq!(told.change(&change(Fate::Went), object, true, false), Some("DELETED"));
        assert_eq!(told.change(&change(Fate::Changed), object, false, false), Some("DELETED"));
        assert_eq!(told.change(&change(Fate::Changed), object, false, true), None);
        assert_eq!(told.change(&change(Fate::Came), object, false, false), None);
    }
}
