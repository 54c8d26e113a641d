//! The table of services, as its readers get it: all of it as it is now, or what changed since they
//! last looked. A slow reader misses steps, never the outcome.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::model::{Endpoint, Name, Service};

/// A service and where it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backed {
    pub(crate) service: Service,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Whether the mesh carries its traffic: not with EdgeMesh's filter label. Its name is resolved
    /// all the same.
    pub(crate) is_carried: bool,
}

/// All services.
pub(crate) type Table = BTreeMap<Name, Arc<Backed>>;

/// Makes the two ends of the table.
pub(crate) fn table() -> (Publisher, Services) {
    let (sender, receiver) = watch::channel(None);
    (Publisher(sender), Services(receiver))
}

/// The end that discovery writes.
#[derive(Debug)]
pub(crate) struct Publisher(watch::Sender<Option<Arc<Table>>>);

impl Publisher {
    pub(crate) fn publish(&self, table: Arc<Table>) {
        self.0.send_replace(Some(table));
    }
}

/// The end that is read.
#[derive(Clone, Debug)]
pub(crate) struct Services(watch::Receiver<Option<Arc<Table>>>);

impl Services {
    /// Returns the table; nothing before the store has told what there is.
    pub(crate) fn now(&self) -> Option<Arc<Table>> {
        self.0.borrow().clone()
    }

    /// Returns what changes from an empty table on.
    pub(crate) fn changes(&self) -> Changes {
        let mut receiver = self.0.clone();
        receiver.mark_changed();
        Changes { receiver, seen: None }
    }
}

/// A service as it is now, or nothing where it is gone.
pub(crate) type Change = (Name, Option<Arc<Backed>>);

/// What changes, for one reader.
#[derive(Debug)]
pub(crate) struct Changes {
    receiver: watch::Receiver<Option<Arc<Table>>>,
    seen: Option<Arc<Table>>,
}

impl Changes {
    /// Waits for changes. The first answer is all that there is, even if that is nothing; what is
    /// not in it is not, so that what an earlier process left behind can be removed. Later answers
    /// have one change at least. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Vec<Change> {
        loop {
            if self.receiver.changed().await.is_err() {
                // The main loop ends with the process.
                return std::future::pending().await;
            }
            let Some(now) = self.receiver.borrow_and_update().clone() else { continue };
            let is_first = self.seen.is_none();
            let before = self.seen.replace(Arc::clone(&now)).unwrap_or_default();
            let changes = difference(&before, &now);
            if is_first || !changes.is_empty() {
                return changes;
            }
        }
    }
}

/// Returns what turns one table into the other, in the order of names.
fn difference(before: &Table, now: &Table) -> Vec<Change> {
    let gone = before.keys().filter(|name| !now.contains_key(name));
    let is_new = |(name, backed): &(&Name, &Arc<Backed>)| {
        before.get(name).is_none_or(|before| !Arc::ptr_eq(before, backed))
    };
    let new = now.iter().filter(is_new);
    let mut changes: Vec<Change> = gone.map(|name| (name.clone(), None)).collect();
    changes.extend(new.map(|(name, backed)| (name.clone(), Some(Arc::clone(backed)))));
    changes.sort_by(|(one, _), (other, _)| one.cmp(other));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn backed() -> Arc<Backed> {
        let service = Service {
            kind: Kind::Headless,
            ports: Vec::new(),
            external: Vec::new(),
            affinity: None,
            local_only: false,
            external_local_only: false,
            publish_not_ready: false,
            policy: None,
        };
        Arc::new(Backed { service, endpoints: Vec::new(), is_carried: true })
    }

    fn name(name: &str) -> Name {
        Name { namespace: "shop".into(), name: name.into() }
    }

    fn words(changes: &[Change]) -> Vec<String> {
        let word = |(name, now): &Change| {
            format!("{}{}", if now.is_some() { '+' } else { '-' }, name.name)
        };
        changes.iter().map(word).collect()
    }

    #[tokio::test]
    async fn a_reader_hears_all_there_is_then_the_outcome_of_what_it_missed() {
        let (publisher, services) = table();
        let mut changes = services.changes();
        publisher.publish(Arc::default());
        assert_eq!(words(&changes.next().await), [""; 0], "nothing is an answer too");
        let mut now = Table::from([(name("a"), backed()), (name("b"), backed())]);
        publisher.publish(Arc::new(now.clone()));
        now.remove(&name("a"));
        publisher.publish(Arc::new(now.clone()));
        now.insert(name("c"), backed());
        publisher.publish(Arc::new(now.clone()));
        assert_eq!(words(&changes.next().await), ["+b", "+c"]);
        now.remove(&name("b"));
        now.insert(name("c"), backed());
        publisher.publish(Arc::new(now.clone()));
        assert_eq!(words(&changes.next().await), ["-b", "+c"]);
        assert_eq!(words(&services.changes().next().await), ["+c"], "a late reader");
    }
}
