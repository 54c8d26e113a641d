//! The way to the cluster's API: requests as applications (WIRE.md §5.8), which CloudCore carries
//! out, and the watches that it keeps for this node.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use ipc_proto::{Content, Group, Message, Module, Operation, Resource};
use module_runtime::query::Query;
use module_runtime::{Peers, RequestError};
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{mpsc, watch as state};

use crate::path::Target;
use crate::status::Refusal;
use watches::Existence;
pub(crate) use watches::Watching;

mod watches;

/// How long the cloud may take to answer: as long as Go's edgecore gives it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request to the cluster's API, as CloudCore reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Application {
    #[serde(rename = "ID")]
    id: String,
    key: String,
    verb: &'static str,
    nodename: String,
    option: Option<String>,
    req_body: Option<String>,
    subresource: String,
    resp_body: Option<String>,
    status: &'static str,
    reason: &'static str,
    error: NoError,
    timestamp: &'static str,
}

/// How Go writes an error that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NoError;

impl Serialize for NoError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({"ErrStatus": {"metadata": {}}}).serialize(serializer)
    }
}

/// The parts of CloudCore's answer that count.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Answer {
    status: String,
    reason: Option<String>,
    error: Option<Wrapped>,
    resp_body: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wrapped {
    #[serde(rename = "ErrStatus")]
    status: ipc_proto::answer::Failure,
}

/// What is asked of the cloud.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) key: String,
    pub(crate) verb: &'static str,
    /// JSON.
    pub(crate) option: Option<String>,
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) subresource: &'a str,
}

/// The way to the cloud.
#[derive(Clone, Debug)]
pub(crate) struct Cloud {
    node: String,
    peers: Peers,
    linked: state::Receiver<bool>,
    notes: mpsc::Sender<watches::Note>,
}

impl Cloud {
    pub(crate) fn new(node: String, peers: Peers, linked: state::Receiver<bool>) -> Self {
        let (notes, noted) = mpsc::channel(watches::NOTES);
        let cloud = Self { node, peers, linked, notes };
        tokio::spawn(watches::keep(cloud.clone(), noted));
        cloud
    }

    pub(crate) fn is_linked(&self) -> bool {
        *self.linked.borrow()
    }

    /// Gets an object.
    ///
    /// # Errors
    /// What the cloud says, or why it says nothing.
    pub(crate) async fn get(&self, target: &Target) -> Result<Bytes, Refusal> {
        let (key, option) = (target.application_key(), Some("{}".to_owned()));
        let subresource = &*target.subresource;
        self.apply(Ask { key, verb: "get", option, subresource, body: None }).await
    }

    /// Lists objects.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn list(&self, target: &Target, query: &Query) -> Result<Bytes, Refusal> {
        let option = Some(options(
            query.first("labelSelector").unwrap_or_default(),
            query.first("fieldSelector").unwrap_or_default(),
        ));
        self.apply(Ask { key: target.application_key(), verb: "list", option, ..Ask::default() })
            .await
    }

    /// Passes a question on that is about no object.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn pass(&self, path: &str) -> Result<Bytes, Refusal> {
        let option = Some("{}".to_owned());
        self.apply(Ask { key: path.to_owned(), verb: "get", option, ..Ask::default() }).await
    }

    /// Has the cloud tell of all that the mesh lives on.
    pub(crate) fn watch_for_mesh(&self) -> [Watching; 3] {
        [
            ("", "v1", "services", Existence::Known),
            ("discovery.k8s.io", "v1", "endpointslices", Existence::Known),
            // Istio's, which EdgeMesh's users have, and other clusters have not
            ("networking.istio.io", "v1alpha3", "destinationrules", Existence::Optional),
        ]
        .map(|(group, version, plural, existence)| {
            let target = Target {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: plural.to_owned(),
                ..Target::default()
            };
            self.begin_watch(&target, "", "", existence)
        })
    }

    /// Has the cloud tell of changes for as long as what is returned stands.
    pub(crate) fn watch(&self, target: &Target, labels: &str, fields: &str) -> Watching {
        self.begin_watch(target, labels, fields, Existence::Unknown)
    }

    fn begin_watch(
        &self,
        target: &Target,
        labels: &str,
        fields: &str,
        existence: Existence,
    ) -> Watching {
        let key = target.application_key();
        let option = Some(options(labels, fields));
        let application = self.application(&Ask { key, verb: "watch", option, ..Ask::default() });
        Watching::begin(application, existence, self.notes.clone())
    }

    /// Has the cloud do something, and returns what comes of it; empty where it is nothing.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn apply(&self, ask: Ask<'_>) -> Result<Bytes, Refusal> {
        let what = format!("to {} {}", ask.verb, ask.key);
        if !self.is_linked() {
            return Err(Refusal::offline(&what));
        }
        let application = self.application(&ask);
        let content = Content::encode(&application)
            .map_err(|error| Refusal::bad_request(format!("cannot write the request: {error}")))?;
        let answer = self.ask("null", content).await.map_err(|error| match error {
            RequestError::TimedOut { .. } => {
                Refusal::timeout(format!("the cloud did not answer in time: {what}"))
            }
            RequestError::NotSent(_)
            | RequestError::PeerDied { .. }
            | RequestError::Refused { .. }
            | RequestError::Failed { .. }
            | RequestError::Repeated => Refusal::unavailable(format!("{what}: {error}")),
        })?;
        let amiss = |error| Refusal::unavailable(format!("the cloud answered amiss: {error}"));
        answer.content.decode::<Answer>().map_err(amiss)?.result()
    }

    async fn ask(&self, resource: &str, content: Content) -> Result<Message, RequestError> {
        let resource = Resource::Text(resource.into());
        let group = Group::Dynamiccontroller;
        let message = self.peers.message(group, Operation::Null, resource, content);
        let answer = self.peers.request(Module::Edgehub, message, PATIENCE).await?;
        Ok(answer.take())
    }

    fn application(&self, ask: &Ask<'_>) -> Application {
        let mut hash = digest::Context::new(&digest::SHA256);
        let option = ask.option.as_deref().map(str::as_bytes);
        let parts = [
            self.node.as_bytes(),
            ask.key.as_bytes(),
            ask.verb.as_bytes(),
            option.unwrap_or_default(),
            ask.body.unwrap_or_default(),
            ask.subresource.as_bytes(),
        ];
        parts.iter().for_each(|part| hash.update(part));
        Application {
            id: HEXLOWER.encode(hash.finish().as_ref()),
            key: ask.key.clone(),
            verb: ask.verb,
            nodename: self.node.clone(),
            option: option.map(|option| BASE64.encode(option)),
            req_body: ask.body.map(|body| BASE64.encode(body)),
            subresource: ask.subresource.to_owned(),
            resp_body: None,
            status: "InApplying",
            reason: "",
            error: NoError,
            timestamp: "0001-01-01T00:00:00Z",
        }
    }
}

/// Writes the options of a list or a watch.
fn options(labels: &str, fields: &str) -> String {
    let mut options = serde_json::Map::new();
    for (key, value) in [("labelSelector", labels), ("fieldSelector", fields)] {
        if !value.is_empty() {
            options.insert(key.to_owned(), value.into());
        }
    }
    serde_json::Value::Object(options).to_string()
}

impl Answer {
    pub(crate) fn result(self) -> Result<Bytes, Refusal> {
        if self.status == "Approved" {
            let body = self.resp_body.unwrap_or_default();
            let decoded = BASE64.decode(body.as_bytes());
            let amiss = |error| Refusal::unavailable(format!("the cloud answered amiss: {error}"));
            return decoded.map(Bytes::from).map_err(amiss);
        }
        let failure = self.error.unwrap_or_default().status;
        let reason = self.reason.unwrap_or_default();
        let code =
            failure.code.and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400);
        let message = failure.message.filter(|text| !text.is_empty()).unwrap_or(reason);
        Err(match code {
            Some(code) => Refusal::of_cloud(code, &failure.reason.unwrap_or_default(), &message),
            // Of lists CloudCore tells the text of the error alone.
            None if message.contains("could not find the requested resource") => {
                Refusal::of_cloud(404, "NotFound", &message)
            }
            // An error of CloudCore itself has a text alone.
            None => {
                Refusal::of_cloud(500, "InternalError", &format!("the cloud refuses: {message}"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(answer: &str) -> Result<Bytes, Refusal> {
        serde_json::from_str::<Answer>(answer).unwrap().result()
    }

    #[test]
    fn what_the_cloud_says_is_what_the_client_hears() {
        let approved =
            r#"{"Status":"Approved","RespBody":"e30=","Error":{"ErrStatus":{"metadata":{}}}}"#;
        assert_eq!(result(approved), Ok(Bytes::from_static(b"{}")));
        assert_eq!(result(r#"{"Status":"Approved","RespBody":null}"#), Ok(Bytes::new()));
        let rejected = r#"{"Status":"Rejected","Reason":"","Error":{"ErrStatus":
            {"status":"Failure","reason":"Conflict","message":"it changed","code":409}}}"#;
        assert_eq!(result(rejected), Err(Refusal::of_cloud(409, "Conflict", "it changed")));
        let failed =
            r#"{"Status":"Failed","Reason":"no such key","Error":{"ErrStatus":{"metadata":{}}}}"#;
        let told = Refusal::of_cloud(500, "InternalError", "the cloud refuses: no such key");
        assert_eq!(result(failed), Err(told));
        assert!(result(r#"{"Status":"Approved","RespBody":"*"}"#).is_err());
    }

    #[test]
    fn options_have_what_is_asked_for_alone() {
        assert_eq!(options("", ""), "{}", "as it was recorded");
        assert_eq!(options("a=b", "c=d"), r#"{"fieldSelector":"c=d","labelSelector":"a=b"}"#);
    }
}
