//! The merge: how a property takes what the edge or the cloud says of it (WIRE.md §7.3).
//!
//! What the edge says counts the edge's version up. What the cloud says brings its own versions, and
//! is refused where it does not know what the edge has said meanwhile; then the cloud is told.

use serde::{Deserialize, Serialize};

use crate::payload::{MsgTwin, MsgValue, TypeMeta, ValueMeta, Version};
use crate::value::{DELETED, STRING, check_kind, check_value};

/// Who wants the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An application or a mapper on the node.
    Edge,
    /// The cloud.
    Cloud,
}

/// One side of a property.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Side {
    /// The value; none after a deletion.
    pub(crate) value: Option<Box<str>>,
    /// When it was set: Unix time in milliseconds.
    pub(crate) at: i64,
    /// How often it was set.
    pub(crate) version: Version,
}

/// A property of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Twin {
    /// Its name.
    pub(crate) name: Box<str>,
    /// What it is to be.
    pub(crate) expected: Option<Side>,
    /// What it is.
    pub(crate) actual: Option<Side>,
    /// Whether it may be deleted.
    pub(crate) optional: bool,
    /// Its type; `deleted` when it is.
    pub(crate) kind: Box<str>,
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// The property is now so.
    Changed(Twin),
    /// Nothing is to be done.
    Same,
    /// The cloud does not know what the edge has said: it is to be told.
    Conflict,
}

impl Twin {
    /// Makes a property that nobody has said anything of.
    pub(crate) fn new(name: &str) -> Self {
        let (name, kind) = (name.into(), STRING.into());
        Self { name, expected: None, actual: None, optional: true, kind }
    }

    /// Tells whether it was deleted.
    pub(crate) fn is_deleted(&self) -> bool {
        &*self.kind == DELETED
    }

    /// Applies what is said of the property; `None` deletes it.
    ///
    /// # Errors
    /// A text that says what is wrong with a value; nothing has changed then.
    pub(crate) fn merge(
        &self,
        origin: Origin,
        now: i64,
        said: Option<&MsgTwin>,
    ) -> Result<Merged, String> {
        let kind = said.and_then(|said| said.metadata.as_ref()).map(|meta| &*meta.kind);
        match said {
            None => Ok(self.delete(None)),
            Some(said) if kind == Some(DELETED) => {
                Ok(self.delete((origin == Origin::Cloud).then_some(said)))
            }
            Some(said) => self.update(origin, now, said),
        }
    }

    fn delete(&self, by_cloud: Option<&MsgTwin>) -> Merged {
        if self.is_deleted() || (by_cloud.is_none() && !self.optional) {
            return Merged::Same;
        }
        let end = |side: &Option<Side>, theirs: Option<Version>| {
            let Some(side) = side else { return Some(None) };
            let version = match by_cloud {
                None => Some(Version { edge: side.version.edge.saturating_add(1), ..side.version }),
                Some(_) => theirs.map_or(Some(side.version), |theirs| newer(side.version, theirs)),
            };
            version.map(|version| Some(Side { value: None, at: 0, version }))
        };
        let theirs = |of: fn(&MsgTwin) -> Option<Version>| by_cloud.and_then(of);
        let expected = end(&self.expected, theirs(|said| said.expected_version));
        let actual = end(&self.actual, theirs(|said| said.actual_version));
        let (Some(expected), Some(actual)) = (expected, actual) else { return Merged::Conflict };
        Merged::Changed(Self { expected, actual, kind: DELETED.into(), ..self.clone() })
    }

    fn update(&self, origin: Origin, now: i64, said: &MsgTwin) -> Result<Merged, String> {
        let is_new = self.expected.is_none() && self.actual.is_none();
        let kind = match &said.metadata {
            Some(meta) if self.is_deleted() || is_new => meta.kind.clone(),
            None if self.is_deleted() => STRING.into(),
            Some(_) | None => self.kind.clone(),
        };
        check_kind(&kind)?;
        let set = |side: &Option<Side>, value: Option<&MsgValue>, theirs: Option<Version>| {
            let Some(value) = value.and_then(|value| value.value.as_ref()) else {
                return Ok::<_, String>(Some(side.clone()));
            };
            check_value(&kind, value)?;
            let version = side.as_ref().map(|side| side.version).unwrap_or_default();
            let version = match origin {
                Origin::Edge => Some(Version { edge: version.edge.saturating_add(1), ..version }),
                Origin::Cloud => theirs.and_then(|theirs| newer(version, theirs)),
            };
            Ok(version.map(|version| Some(Side { value: Some(value.clone()), at: now, version })))
        };
        let expected = set(&self.expected, said.expected.as_ref(), said.expected_version);
        let actual = set(&self.actual, said.actual.as_ref(), said.actual_version);
        let (Some(expected), Some(actual)) = (expected?, actual?) else {
            return Ok(Merged::Conflict);
        };
        // It can become indispensable, and never dispensable again.
        let optional = self.optional && said.optional.unwrap_or(true);
        let after = Self { name: self.name.clone(), expected, actual, optional, kind };
        Ok(if after == *self && !is_new { Merged::Same } else { Merged::Changed(after) })
    }

    /// Writes it as KubeEdge does.
    pub(crate) fn message(&self, versions: bool) -> MsgTwin {
        let value = |side: &Option<Side>| {
            side.as_ref().map(|side| MsgValue {
                value: side.value.clone(),
                metadata: side.value.is_some().then_some(ValueMeta { timestamp: side.at }),
            })
        };
        let version =
            |side: &Option<Side>| side.as_ref().map(|side| side.version).filter(|_| versions);
        MsgTwin {
            expected: value(&self.expected),
            actual: value(&self.actual),
            optional: Some(self.optional),
            metadata: Some(TypeMeta { kind: self.kind.clone() }),
            expected_version: version(&self.expected),
            actual_version: version(&self.actual),
        }
    }

    /// Returns the value that is expected and not so yet.
    pub(crate) fn delta(&self) -> Option<&str> {
        let expected = self.expected.as_ref()?.value.as_deref()?;
        let actual = self.actual.as_ref().and_then(|side| side.value.as_deref());
        (actual != Some(expected)).then_some(expected)
    }

    /// Returns the versions of both sides, which tell whether the cloud knows all.
    pub(crate) fn stamp(&self) -> Stamp {
        let version = |side: &Option<Side>| side.as_ref().map(|side| side.version);
        (version(&self.expected), version(&self.actual), self.is_deleted())
    }
}

/// The versions of both sides, and whether the property was deleted.
pub(crate) type Stamp = (Option<Version>, Option<Version>, bool);

/// Takes the cloud's version unless it misses something that this side has.
const fn newer(ours: Version, theirs: Version) -> Option<Version> {
    if ours.cloud > theirs.cloud || ours.edge > theirs.edge { None } else { Some(theirs) }
}

#[cfg(test)]
mod tests;
