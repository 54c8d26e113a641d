//! The cluster: its objects, with uid and an ever increasing resourceVersion, and the changes that
//! the rest of the cloud has not seen yet.
//!
//! It does what an API server does with any object. What is special about a kind stands in the
//! controllers.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

use super::ids::Ids;
use super::key::Key;
use super::kinds;
use super::status::Status;
use crate::time::Time;

/// The most objects that the cluster holds.
pub const MAX_OBJECTS: usize = 50_000;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It has a new version.
    Modified,
    /// It is gone.
    Removed,
}

/// A change, in the order in which it happened.
#[derive(Clone, Debug)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To which object.
    pub key: Key,
    /// The object after the change; a removed one as it last was.
    pub object: Value,
    /// The object before the change; null where there was none.
    pub before: Value,
}

/// All objects.
#[derive(Debug)]
pub struct Cluster {
    objects: BTreeMap<Key, Value>,
    version: u64,
    changes: VecDeque<Change>,
    /// Where uids come from.
    pub ids: Ids,
}

impl Cluster {
    /// Starts empty.
    #[must_use]
    pub const fn new(ids: Ids) -> Self {
        Self { objects: BTreeMap::new(), version: 1, changes: VecDeque::new(), ids }
    }

    /// Starts with objects that had a life before, as they were. Each is reported as added, as an
    /// informer does that starts.
    #[must_use]
    pub fn restore(ids: Ids, version: u64, objects: Vec<Value>) -> Self {
        let mut cluster = Self::new(ids);
        cluster.version = version.max(1);
        for object in objects.into_iter().take(MAX_OBJECTS) {
            if let Ok(key) = Key::of(&object) {
                cluster.version = cluster.version.max(version_of(&object));
                cluster.objects.insert(key, object);
            }
        }
        cluster.announce();
        cluster
    }

    /// Reports every object as added, as an informer does that starts.
    pub fn announce(&mut self) {
        self.changes.clear();
        for (key, object) in &self.objects {
            let (kind, before) = (ChangeKind::Added, Value::Null);
            let (key, object) = (key.clone(), object.clone());
            self.changes.push_back(Change { kind, key, object, before });
        }
    }

    /// Returns the highest resourceVersion given so far.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Looks an object up.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    /// Returns all objects, by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter()
    }

    /// Returns the objects of one kind, named by the wire's word.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        self.objects.range(Key::first_of(kind)..).take_while(move |(key, _)| key.kind() == kind)
    }

    /// Takes the next change that was not taken yet.
    pub fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// Adds an object: gives it uid, version and time of creation.
    ///
    /// # Errors
    /// When its name is no name, it exists, or the cluster is full.
    pub fn create(&mut self, now: Time, mut object: Value) -> Result<Key, Status> {
        let key = Key::of(&object).map_err(|why| Status::bad_request(&why.to_string()))?;
        if self.objects.contains_key(&key) {
            return Err(Status::already_exists(key.kind(), key.name()));
        }
        if self.objects.len() >= MAX_OBJECTS {
            return Err(Status::too_many(MAX_OBJECTS));
        }
        let uid = self.ids.uid();
        let version = self.next_version();
        complete(&mut object, &key);
        let meta = fields(&mut object["metadata"]);
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"] {
            meta.remove(field);
        }
        meta.insert("uid".to_owned(), uid.into());
        meta.insert("resourceVersion".to_owned(), version.to_string().into());
        meta.insert("creationTimestamp".to_owned(), now.text().into());
        if has_generation(&key) {
            object["metadata"]["generation"] = 1.into();
        }
        self.objects.insert(key.clone(), object.clone());
        self.report(ChangeKind::Added, key.clone(), object, Value::Null);
        Ok(key)
    }

    /// Changes an object. A change that changes nothing makes no new version; identity and version
    /// are the cluster's own.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn modify(&mut self, key: &Key, edit: impl FnOnce(&mut Value)) -> Result<&Value, Status> {
        let Some(object) = self.objects.get_mut(key) else {
            return Err(Status::not_found(key.kind(), key.name()));
        };
        let before = object.clone();
        edit(object);
        let top = fields(object);
        for field in ["kind", "apiVersion"] {
            top.insert(field.to_owned(), before[field].clone());
        }
        let meta = fields(top.entry("metadata").or_insert(Value::Null));
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(kept) = before["metadata"].get(field) {
                meta.insert(field.to_owned(), kept.clone());
            }
        }
        if *object != before {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            if has_generation(key) && object.get("spec") != before.get("spec") {
                let generation = before["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
                object["metadata"]["generation"] = generation.into();
            }
            let after = object.clone();
            self.report(ChangeKind::Modified, key.clone(), after, before);
        }
        self.objects.get(key).ok_or_else(|| Status::not_found(key.kind(), key.name()))
    }

    /// Adds an object or changes the one of its name to what is given, as `kubectl apply` would:
    /// status and what the cluster keeps in the metadata stay.
    ///
    /// # Errors
    /// As [`Cluster::create`].
    pub fn apply(&mut self, now: Time, mut object: Value) -> Result<Key, Status> {
        let key = Key::of(&object).map_err(|why| Status::bad_request(&why.to_string()))?;
        if !self.objects.contains_key(&key) {
            return self.create(now, object);
        }
        complete(&mut object, &key);
        self.modify(&key, |current| {
            let meta = std::mem::take(&mut current["metadata"]);
            let status = current.get("status").cloned();
            let given = fields(&mut object["metadata"]);
            for (field, value) in meta.as_object().into_iter().flatten() {
                if !["labels", "annotations"].contains(&field.as_str()) {
                    given.entry(field).or_insert_with(|| value.clone());
                }
            }
            if let Some(status) = status {
                fields(&mut object).entry("status").or_insert(status);
            }
            *current = object;
        })?;
        Ok(key)
    }

    /// Takes an object away at once.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn remove(&mut self, key: &Key) -> Result<(), Status> {
        let Some(mut object) = self.objects.remove(key) else {
            return Err(Status::not_found(key.kind(), key.name()));
        };
        let before = object.clone();
        object["metadata"]["resourceVersion"] = self.next_version().to_string().into();
        self.report(ChangeKind::Removed, key.clone(), object, before);
        Ok(())
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn report(&mut self, kind: ChangeKind, key: Key, object: Value, before: Value) {
        self.changes.push_back(Change { kind, key, object, before });
    }
}

/// Tells whether the API counts generations of such objects: pods, and all that CRDs define.
fn has_generation(key: &Key) -> bool {
    let custom = |names: &kinds::KindNames| names.group.ends_with(".kubeedge.io");
    key.kind() == "pod" || kinds::by_word(key.kind()).is_none_or(custom)
}

/// Writes kind, version and namespace into an object that left them out.
fn complete(object: &mut Value, key: &Key) {
    if let Some(names) = kinds::by_word(key.kind()) {
        object["kind"] = names.kind.into();
        if !object["apiVersion"].is_string() {
            object["apiVersion"] = names.api_version().into();
        }
    }
    if key.namespace() == "null" {
        fields(&mut object["metadata"]).remove("namespace");
    } else {
        object["metadata"]["namespace"] = key.namespace().into();
    }
}

/// Returns the fields of an object, which it becomes if it was none.
pub(crate) fn fields(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    match value.as_object_mut() {
        Some(fields) => fields,
        None => unreachable!("it was made an object above"),
    }
}

/// Reads the version of an object; 0 where it has none.
#[must_use]
pub fn version_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Reads the uid of an object; empty where it has none.
#[must_use]
pub fn uid_of(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests;
