//! What dynamiccontroller watches for nodes (WIRE.md §5.8): each listener has its node told of every
//! object of a kind, in one namespace or in all, at its registration and whenever one changes.
//! Selectors are not looked at: a node has to choose again itself.

use std::collections::BTreeMap;

use ipc_proto::{Operation, Source};
use serde_json::Value;

use super::cluster::{Change, Cluster};
use super::downstream::{self, Notice};
use super::kinds::KindNames;

/// What a node watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    /// The wire's word for the kind.
    pub(super) kind: &'static str,
    /// The namespace; nothing for all.
    pub(super) namespace: Option<Box<str>>,
}

/// All listeners, by node and id.
#[derive(Debug, Default)]
pub(super) struct Listeners(BTreeMap<Box<str>, BTreeMap<Box<str>, Listener>>);

impl Listener {
    pub(super) fn new(names: &KindNames, namespace: &str) -> Self {
        Self { kind: names.word, namespace: (namespace != "null").then(|| namespace.into()) }
    }

    fn hears(&self, key: &super::key::Key) -> bool {
        key.kind() == self.kind
            && self.namespace.as_deref().is_none_or(|namespace| key.namespace() == namespace)
    }
}

impl Listeners {
    /// Registers a listener; returns what it is told at once: nothing when it is known.
    pub(super) fn add(
        &mut self,
        cluster: &Cluster,
        node: &str,
        id: &str,
        listener: Listener,
    ) -> Vec<Notice> {
        let of_node = self.0.entry(node.into()).or_default();
        if of_node.contains_key(id) {
            return Vec::new();
        }
        let present = cluster.of_kind(listener.kind).filter(|(key, _)| listener.hears(key));
        let tell = |(key, object): (&super::key::Key, &Value)| {
            downstream::object(node, Source::Dynamiccontroller, Operation::Insert, key, object)
        };
        let notices = present.map(tell).collect();
        of_node.insert(id.into(), listener);
        notices
    }

    /// Forgets the listeners of a node that are not among these.
    pub(super) fn retain(&mut self, node: &str, wanted: impl Fn(&str) -> bool) {
        if let Some(of_node) = self.0.get_mut(node) {
            of_node.retain(|id, _| wanted(id));
        }
    }

    /// Forgets all, as CloudCore does when it starts again.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns what nodes are told of a change, each once.
    pub(super) fn notices(&self, change: &Change) -> Vec<Notice> {
        let hears = |listeners: &BTreeMap<Box<str>, Listener>| {
            listeners.values().any(|listener| listener.hears(&change.key))
        };
        let operation = downstream::operation(change.kind);
        let nodes = self.0.iter().filter(|(_, listeners)| hears(listeners));
        let (key, object) = (&change.key, &change.object);
        let tell = |node: &str| {
            let source = Source::Dynamiccontroller;
            downstream::object(node, source, operation.clone(), key, object)
        };
        nodes.map(|(node, _)| tell(node)).collect()
    }
}
