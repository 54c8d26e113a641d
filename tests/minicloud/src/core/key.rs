//! What names an object: kind, namespace and name.

use std::fmt;

use ipc_proto::{Kind, Resource, Scope};
use serde_json::Value;

use super::kinds;

/// The longest name of an object that is taken, in bytes (Kubernetes' own bound).
const MAX_NAME: usize = 253;

/// The name of an object. Ordered by kind first, so that the objects of a kind stand together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The wire's word for the kind.
    kind: Box<str>,
    /// The namespace; `null` for objects of the cluster, as on the wire.
    namespace: Box<str>,
    name: Box<str>,
}

/// An object or a path that names nothing the cluster could hold.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No `kind`.
    #[error("object has no kind")]
    NoKind,
    /// No `metadata.name`, or one that cannot be a name.
    #[error(
        "object of kind {kind} has name {name:?}: expected 1 to 253 letters, digits, '.', '-', ':' or '_'"
    )]
    Name {
        /// The kind in lower case.
        kind: String,
        /// What stood there.
        name: String,
    },
    /// Not of the form `<namespace>/<kind>/<name>`.
    #[error("path {0:?} names no object: expected <namespace|null>/<kind>/<name>")]
    Path(String),
}

impl Key {
    /// Names an object of a kind that belongs to the cluster or, else, to `namespace`.
    #[must_use]
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        let namespace = if is_cluster(kind) { "null" } else { namespace };
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// Reads the name of an object; a missing namespace is `default`.
    ///
    /// # Errors
    /// When kind or name is missing, or a part could not stand in a path.
    pub fn of(object: &Value) -> Result<Self, KeyError> {
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        if !is_name(&kind) {
            return Err(KeyError::NoKind);
        }
        let meta = &object["metadata"];
        let name = meta["name"].as_str().unwrap_or_default();
        let namespace = meta["namespace"].as_str().filter(|text| !text.is_empty());
        let checked = Self::checked(&kind, namespace.unwrap_or("default"), name);
        checked.ok_or_else(|| KeyError::Name { kind, name: name.to_owned() })
    }

    /// Reads a name as paths and files write it: `<namespace|null>/<kind>/<name>`.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(path: &str) -> Result<Self, KeyError> {
        let mut parts = path.split('/');
        let checked = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some(kind), Some(name), None) if is_name(kind) => {
                Self::checked(&kind.to_lowercase(), namespace, name)
            }
            _ => None,
        };
        checked.ok_or_else(|| KeyError::Path(path.to_owned()))
    }

    /// Names an object if its parts could name one; `null` is no namespace.
    fn checked(kind: &str, namespace: &str, name: &str) -> Option<Self> {
        let key = Self::new(kind, namespace, name);
        let homeless = &*key.namespace == "null" && !is_cluster(kind);
        (is_name(name) && is_name(namespace) && !homeless).then_some(key)
    }

    /// Returns the wire's word for the kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the namespace; `null` for objects of the cluster.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the first name that a kind could have, from which its objects stand together.
    pub(crate) fn first_of(kind: &str) -> Self {
        Self { kind: kind.into(), namespace: Box::default(), name: Box::default() }
    }

    /// Returns the resource of messages about the object.
    #[must_use]
    pub fn resource(&self) -> Resource {
        let scope = match &*self.namespace {
            "null" => Scope::Cluster,
            namespace => Scope::Namespace(namespace.into()),
        };
        Resource::object(scope, Kind::parse(&self.kind), &self.name)
    }
}

fn is_cluster(kind: &str) -> bool {
    kinds::by_word(kind).is_some_and(|names| names.cluster)
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(allowed)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cluster_objects_have_no_namespace() {
        let node = json!({"kind": "Node", "metadata": {"name": "edge1", "namespace": "x"}});
        assert_eq!(Key::of(&node).unwrap().to_string(), "null/node/edge1");
        let pod = json!({"kind": "Pod", "metadata": {"name": "p"}});
        assert_eq!(Key::of(&pod).unwrap().to_string(), "default/pod/p");
    }

    #[test]
    fn names_that_break_paths_are_refused() {
        for name in ["", "a/b", "a b", "\u{e9}"] {
            let pod = json!({"kind": "Pod", "metadata": {"name": name}});
            assert!(Key::of(&pod).is_err(), "{name:?}");
        }
        assert!(Key::parse("null/pod/p").is_err());
        assert!(Key::parse("default/pod").is_err());
        assert!(Key::parse("default/pod/a/b").is_err());
    }
}
