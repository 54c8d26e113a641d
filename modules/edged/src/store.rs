//! What is asked of the store (metamanager) and through it of the cloud, and what is told.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ipc_proto::answer::{Answer, Failure};
use ipc_proto::{Content, Group, Kind, Module, Operation, Resource, Scope};
use module_runtime::{Peers, RequestError};
use serde::Deserialize;

/// How long the store may take: it asks the cloud for what it does not have, for a minute at most.
const PATIENCE: Duration = Duration::from_secs(65);

/// How long the store may take to tell what it has when it is as good without.
const SOON: Duration = Duration::from_secs(1);

/// The handle on the store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    peers: Peers,
}

/// An answer without an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// There is no such object.
    NotFound,
    /// It exists already.
    Exists,
    /// Another was faster.
    Conflict,
    /// It cannot be known now; the text says why.
    Unknown(String),
}

/// A config map or a secret: its entries.
pub(crate) type Entries = BTreeMap<String, Vec<u8>>;

impl From<Failure> for Lack {
    fn from(failure: Failure) -> Self {
        match failure.reason.as_deref() {
            Some("NotFound") => Self::NotFound,
            Some("AlreadyExists") => Self::Exists,
            Some("Conflict") => Self::Conflict,
            Some(_) | None => {
                let silent = || "the cloud failed and does not say how".to_owned();
                Self::Unknown(failure.message.unwrap_or_else(silent))
            }
        }
    }
}

fn broken(error: impl fmt::Display) -> Lack {
    Lack::Unknown(format!("the answer cannot be read: {error}"))
}

/// Reads an answer that carries an object in an envelope.
fn opened(content: &Content) -> Result<serde_json::Value, Lack> {
    let mut answer = Answer::read(content.raw()).map_err(broken)?;
    if let Some(failure) = answer.failure() {
        return Err(failure.into());
    }
    let no_object = || Lack::Unknown("the answer has no object".to_owned());
    let object = answer.object.ok_or_else(no_object)?;
    serde_json::from_str(object.get()).map_err(broken)
}

/// Reads an answer that is an object, or says why there is none.
fn bare<T: for<'de> Deserialize<'de>>(content: &Content) -> Result<T, Lack> {
    if let Some(failure) = Answer::read(content.raw()).map_err(broken)?.failure() {
        return Err(failure.into());
    }
    content.decode().map_err(broken)
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "binaryData")]
    binary_data: Option<BTreeMap<String, String>>,
}

fn decoded(entries: Option<BTreeMap<String, String>>) -> Result<Entries, Lack> {
    let mut decoded = Entries::new();
    for (key, value) in entries.unwrap_or_default() {
        let bytes = data_encoding::BASE64.decode(value.as_bytes()).map_err(|error| {
            Lack::Unknown(format!("the value of '{key}' is no base64: {error}"))
        })?;
        decoded.insert(key, bytes);
    }
    Ok(decoded)
}

/// Reads a config map.
fn config_map(content: &Content) -> Result<Entries, Lack> {
    let ConfigMap { data, binary_data } = bare(content)?;
    let mut entries = decoded(binary_data)?;
    entries.extend(data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into())));
    Ok(entries)
}

/// Reads a secret.
fn secret(content: &Content) -> Result<Entries, Lack> {
    let ConfigMap { data, .. } = bare(content)?;
    decoded(data)
}

/// Names an object of a namespace.
pub(crate) fn object(namespace: &str, kind: Kind, name: &str) -> Resource {
    Resource::object(Scope::Namespace(namespace.into()), kind, name)
}

impl Store {
    /// Makes the handle.
    pub(crate) const fn new(peers: Peers) -> Self {
        Self { peers }
    }

    async fn ask(
        &self,
        operation: Operation,
        resource: Resource,
        content: Content,
    ) -> Result<Content, Lack> {
        let message = self.peers.message(Group::Meta, operation, resource, content);
        match self.peers.request(Module::Metamanager, message, PATIENCE).await {
            Ok(delivery) => {
                let content = delivery.message.content.clone();
                delivery.settle();
                Ok(content)
            }
            Err(RequestError::Failed { answer, .. }) => {
                Err(Lack::Unknown(answer.content.decode().unwrap_or_default()))
            }
            Err(error) => Err(Lack::Unknown(error.to_string())),
        }
    }

    /// Asks for a config map's entries.
    pub(crate) async fn config_map(&self, namespace: &str, name: &str) -> Result<Entries, Lack> {
        let resource = object(namespace, Kind::ConfigMap, name);
        config_map(&self.ask(Operation::Query, resource, Content::NULL).await?)
    }

    /// Asks for a secret's entries.
    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<Entries, Lack> {
        let resource = object(namespace, Kind::Secret, name);
        secret(&self.ask(Operation::Query, resource, Content::NULL).await?)
    }

    /// Asks for any object that comes without an envelope.
    pub(crate) async fn query<T: for<'de> Deserialize<'de>>(
        &self,
        resource: Resource,
        content: Content,
    ) -> Result<T, Lack> {
        bare(&self.ask(Operation::Query, resource, content).await?)
    }

    /// Asks for a pod as the cloud gave it; nothing when the store does not have it.
    pub(crate) async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Content>, Lack> {
        let resource = object(namespace, Kind::Pod, name);
        let asked = self.ask(Operation::Query, resource, Content::NULL);
        let late = |_| Lack::Unknown("it does not answer".to_owned());
        let content = tokio::time::timeout(SOON, asked).await.map_err(late)??;
        match Answer::read(content.raw()).map_err(broken)?.failure().map(Lack::from) {
            Some(Lack::NotFound) => Ok(None),
            Some(lack) => Err(lack),
            None => Ok(Some(content)),
        }
    }

    /// Asks for all objects of a type that the store has; none when it does not answer soon.
    pub(crate) async fn all<T: for<'de> Deserialize<'de>>(&self, kind: Kind) -> Vec<T> {
        let resource = Resource::Object { scope: Scope::Cluster, kind, name: None };
        let asked = self.ask(Operation::Query, resource, Content::NULL);
        match tokio::time::timeout(SOON, asked).await {
            Ok(Ok(array)) => array.decode().unwrap_or_default(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    /// Sends something to the cloud, or asks it, and takes the object out of the answer.
    pub(crate) async fn exchange(
        &self,
        operation: Operation,
        resource: Resource,
        content: Content,
    ) -> Result<serde_json::Value, Lack> {
        opened(&self.ask(operation, resource, content).await?)
    }

    /// Changes an object in the cloud. Returns what the cloud says to it; without a cloud, when the
    /// store has the change on its disk.
    pub(crate) async fn patch(&self, resource: Resource, content: Content) -> Result<(), Lack> {
        let answer = self.ask(Operation::Patch, resource, content).await?;
        match answer.decode::<&str>() {
            Ok("OK") => Ok(()),
            Ok(_) | Err(_) => opened(&answer).map(drop),
        }
    }

    /// Tells the cloud something that must arrive; returns when the store has it on its disk.
    pub(crate) async fn tell(
        &self,
        operation: Operation,
        resource: Resource,
        content: Content,
    ) -> Result<(), RequestError> {
        let message = self.peers.message(Group::Meta, operation, resource, content);
        self.peers.send(Module::Metamanager, message).await?.settled().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &'static str) -> Content {
        Content::from_raw(text.as_bytes().into())
    }

    #[test]
    fn entries_are_text_and_base64() {
        let map = config_map(&content(r#"{"data":{"a":"x"},"binaryData":{"b":"AAE="}}"#)).unwrap();
        assert_eq!(map.get("a").map(Vec::as_slice), Some(&b"x"[..]));
        assert_eq!(map.get("b").map(Vec::as_slice), Some(&[0, 1][..]));
        let secret = secret(&content(r#"{"data":{"p":"cHc="},"type":"Opaque"}"#)).unwrap();
        assert_eq!(secret.get("p").map(Vec::as_slice), Some(&b"pw"[..]));
    }

    #[test]
    fn errors_are_no_objects() {
        let missing = content(r#"{"ErrStatus":{"status":"Failure","reason":"NotFound"}}"#);
        assert_eq!(config_map(&missing), Err(Lack::NotFound));
        let exists = content(
            r#"{"Object":null,"Err":{"ErrStatus":{"status":"Failure","reason":"AlreadyExists"}}}"#,
        );
        assert_eq!(opened(&exists), Err(Lack::Exists));
        assert!(matches!(opened(&content(r#"{"Object":{},"Err":{}}"#)), Err(Lack::Unknown(_))));
        assert!(opened(&content(r#"{"Object":{"a":1},"Err":null}"#)).is_ok());
        assert!(matches!(secret(&content(r#"{"data":{"p":"%"}}"#)), Err(Lack::Unknown(_))));
    }
}
