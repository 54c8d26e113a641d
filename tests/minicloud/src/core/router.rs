//! What CloudCore's router decides (WIRE.md §8.2): which rule takes a call or an upload, what the
//! node is told of a rule, and what becomes of either.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use ipc_proto::{Group, Message, MessageId, Operation, Resource, Route, Source};
use serde_json::{Value, json};

use super::Cloud;
use super::cluster::{Change, ChangeKind, Cluster};
use super::downstream::Notice;
use super::key::Key;
use crate::hub::core::Effect;
use crate::time::Time;

/// A call of the router's REST interface: `/<node>/<namespace>/<path>…`.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The headers.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The body.
    pub body: Vec<u8>,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// No rule takes it.
    NoRule,
    /// The node is not connected.
    NotConnected,
    /// It is on its way, and nobody answers it.
    Delivered,
    /// It is on its way, and the answer has this parent.
    Asked(MessageId),
}

/// An upload that goes to a REST endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Where to.
    pub url: String,
    /// What.
    pub body: Vec<u8>,
    /// Whether the node waits for the answer.
    pub answered: bool,
}

/// A rule, with the types of its ends.
struct Rule<'a> {
    namespace: &'a str,
    source: &'a str,
    source_resource: &'a Value,
    target: &'a str,
    target_resource: &'a Value,
    target_properties: &'a Value,
}

fn rule<'a>(cluster: &'a Cluster, key: &'a Key, object: &'a Value) -> Option<Rule<'a>> {
    let spec = &object["spec"];
    let endpoint = |name: &Value| {
        let key = Key::new("ruleendpoint", key.namespace(), name.as_str()?);
        cluster.get(&key).map(|endpoint| &endpoint["spec"])
    };
    let (source, target) = (endpoint(&spec["source"])?, endpoint(&spec["target"])?);
    Some(Rule {
        namespace: key.namespace(),
        source: source["ruleEndpointType"].as_str()?,
        source_resource: &spec["sourceResource"],
        target: target["ruleEndpointType"].as_str()?,
        target_resource: &spec["targetResource"],
        target_properties: &target["properties"],
    })
}

fn rules(cluster: &Cluster) -> impl Iterator<Item = Rule<'_>> {
    cluster.of_kind("rule").filter_map(|(key, object)| rule(cluster, key, object))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Tells the node of a rule whose source it is.
pub(super) fn about_rule(cluster: &Cluster, change: &Change) -> Vec<Notice> {
    let is_new = match change.kind {
        ChangeKind::Added => true,
        ChangeKind::Removed => false,
        ChangeKind::Modified => return Vec::new(),
    };
    let Some(rule) = rule(cluster, &change.key, &change.object) else { return Vec::new() };
    let node = text(rule.source_resource, "node_name");
    let (source, operation, resource) = match rule.source {
        "eventbus" => {
            let operation = if is_new { Operation::Subscribe } else { Operation::Unsubscribe };
            let topic = format!("{}/{}", rule.namespace, text(rule.source_resource, "topic"));
            (Source::RouterEventbus, operation, topic)
        }
        "servicebus" if is_new => {
            let url = text(rule.source_resource, "target_url").to_owned();
            (Source::RouterServicebus, Operation::Start, url)
        }
        "servicebus" => {
            // The path of the message is cleaned, and the URL with it.
            let url = text(rule.source_resource, "target_url").replace("://", ":/");
            (Source::RouterServicebus, Operation::Stop, url)
        }
        _ => return Vec::new(),
    };
    let resource = Resource::Text(resource.into());
    let route = Route { source, group: Group::User, operation, resource };
    vec![Notice { node: node.into(), route, version: 0, content: Value::Null }]
}

/// Finds where an upload goes.
pub(crate) fn post(cluster: &Cluster, node: &str, message: &Message) -> Option<Post> {
    let route = &message.route;
    let resource = route.resource.to_string();
    let takes = |rule: &Rule<'_>| {
        text(rule.source_resource, "node_name") == node
            && match rule.source {
                "eventbus" => {
                    let topic = text(rule.source_resource, "topic");
                    route.source == Source::Bus && resource == format!("{}/{topic}", rule.namespace)
                }
                "servicebus" => {
                    route.source == Source::Servicebus
                        && resource == text(rule.source_resource, "target_url")
                }
                _ => false,
            }
    };
    let rule = rules(cluster).find(|rule| rule.target == "rest" && takes(rule))?;
    let body = match message.content.decode::<String>() {
        Ok(text) => text.into_bytes(),
        Err(_) => message.content.raw().to_vec(),
    };
    let url = text(rule.target_resource, "resource").to_owned();
    Some(Post { url, body, answered: rule.source == "servicebus" })
}

impl Cloud {
    /// Takes a call of the REST interface.
    pub fn call(&mut self, now: Time, call: &Call, out: &mut Vec<Effect>) -> Taken {
        let mut parts = call.path.trim_start_matches('/').splitn(3, '/');
        let (Some(node), Some(namespace), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            return Taken::NoRule;
        };
        let Some((route, content, answered)) = self.downward(namespace, path, call) else {
            return Taken::NoRule;
        };
        if self.hub.session_of(node).is_none() {
            return Taken::NotConnected;
        }
        let message = self.message(now, route, &content);
        let id = message.header.id.clone();
        let node = node.to_owned();
        self.hub.send(now, &node, message, out);
        if answered { Taken::Asked(id) } else { Taken::Delivered }
    }

    /// Makes the message that a call becomes.
    fn downward(&self, namespace: &str, path: &str, call: &Call) -> Option<(Route, Value, bool)> {
        let rule = rules(&self.cluster).find(|rule| {
            let own = text(rule.source_resource, "path").trim_matches('/');
            rule.source == "rest"
                && rule.namespace == namespace
                && path
                    .strip_prefix(own)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })?;
        let own = text(rule.source_resource, "path").trim_matches('/');
        let rest = path.strip_prefix(own).unwrap_or_default().trim_start_matches('/');
        let join = |base: &str| {
            if rest.is_empty() {
                base.to_owned()
            } else {
                format!("{}/{rest}", base.trim_end_matches('/'))
            }
        };
        let group = Group::User;
        match rule.target {
            "eventbus" => {
                let resource = Resource::Text(join(text(rule.target_resource, "topic")).into());
                let (source, operation) = (Source::RouterEventbus, Operation::Publish);
                let content = String::from_utf8_lossy(&call.body).into_owned().into();
                Some((Route { source, group, operation, resource }, content, false))
            }
            "servicebus" => {
                let port = text(rule.target_properties, "service_port");
                let path = join(text(rule.target_resource, "path"));
                let resource = Resource::Text(format!("{port}:{path}").into());
                let operation = Operation::parse(&call.method);
                let source = Source::RouterServicebus;
                let content = json!({
                    "header": call.headers, "body": BASE64.encode(&call.body),
                    "method": call.method, "url": "",
                });
                Some((Route { source, group, operation, resource }, content, true))
            }
            _ => None,
        }
    }

    /// Answers an upload of a node.
    pub fn answer_upload(
        &mut self,
        now: Time,
        node: &str,
        upload: &Message,
        body: &str,
        out: &mut Vec<Effect>,
    ) {
        let route = Route { operation: Operation::Response, ..upload.route.clone() };
        let mut message = self.message(now, route, &body.into());
        message.header.parent = Some(upload.header.id.clone());
        self.hub.send(now, node, message, out);
    }
}
