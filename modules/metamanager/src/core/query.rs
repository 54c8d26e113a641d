//! Queries: who answers them, the database or the cloud.
//!
//! An answer has the form of the cloud's for that type: the bare object, or the envelope
//! `{"Object", "Err"}` for leases and certificate requests; what does not exist is answered with
//! `ErrStatus` of reason `NotFound`. A query without a name is answered with the array of all
//! objects of the type, whatever namespace it names. When neither database nor cloud can tell, the
//! answer is an error whose text says why.

use bytes::Bytes;
use ipc_proto::{Content, Kind, Message, Module, Resource};
use serde_json::json;

use super::object::Name;
use super::token::{self, Freshness};
use super::{Asked, Core, Effect, Keep, NOT_LINKED, Now, Receipt, Tag, Then};
use crate::row::{Answer, Question};

/// A query on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(super) receipt: Receipt,
    pub(super) request: Message,
    pub(super) question: Question,
    pub(super) stage: Stage,
}

/// What follows when the database does not have the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing: the database is the place to ask.
    Only,
    /// The cloud is asked.
    ThenCloud,
    /// The cloud is asked, also when the token that there is should be renewed.
    Token(Box<str>),
    /// The cloud was asked, or could not be, for this reason.
    Last(String),
    /// The cloud answered with this error.
    Instead(Content),
}

/// Who is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// The database alone.
    Database,
    /// The database, then the cloud: the cloud pushes every change of these.
    DatabaseFirst,
    /// The cloud, and the database without it: the cloud does not push these.
    CloudFirst,
    /// As [`Policy::DatabaseFirst`] while the token is good for some time.
    Token,
}

const fn policy(kind: &Kind) -> Policy {
    match kind {
        Kind::ConfigMap | Kind::Secret | Kind::Node => Policy::DatabaseFirst,
        Kind::PersistentVolume
        | Kind::PersistentVolumeClaim
        | Kind::VolumeAttachment
        | Kind::Lease
        | Kind::CertificateSigningRequest => Policy::CloudFirst,
        Kind::ServiceAccountToken => Policy::Token,
        Kind::Pod
        | Kind::PodStatus
        | Kind::PodPatch
        | Kind::PodList
        | Kind::NodeStatus
        | Kind::NodePatch
        | Kind::Event
        | Kind::ServiceAccountAccess
        | Kind::Service
        | Kind::ServiceList
        | Kind::Endpoints
        | Kind::EndpointsList
        | Kind::EndpointSlice
        | Kind::DestinationRule
        | Kind::Listener
        | Kind::Volume
        | Kind::Device
        | Kind::DeviceModel
        | Kind::DeviceMapper
        | Kind::Rule
        | Kind::RuleEndpoint
        | Kind::RuleStatus
        | Kind::Unknown(_) => Policy::Database,
    }
}

/// The key of the cluster's certificate authority.
pub(super) const CA_KEY: &str = "k8s/ca.crt";

impl Core {
    /// Begins a query of objects.
    pub(super) fn query(
        &mut self,
        from: Module,
        request: Message,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        if request.route.resource == Resource::KubernetesCa {
            let question = Question::Object(CA_KEY.into());
            self.ask_cloud(request, receipt, Keep::Ca, Some(question), out);
            return;
        }
        let Resource::Object { kind, name, .. } = &request.route.resource else {
            out.push(Effect::Fail(receipt, super::unsupported(&request)));
            return;
        };
        let (None, kind) = (name, kind.clone()) else {
            let Some(name) = Name::of(&request.route.resource) else { return };
            self.query_one(from, name, request, receipt, out);
            return;
        };
        let question = Question::Kind(kind.as_str().into());
        ask(Query { receipt, request, question, stage: Stage::Only }, out);
    }

    fn query_one(
        &mut self,
        from: Module,
        name: Name,
        request: Message,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        let question = Question::Object(name.key());
        let policy = if from == Module::Edged { policy(&name.kind) } else { Policy::Database };
        let stage = match policy {
            Policy::Database => Stage::Only,
            Policy::DatabaseFirst => Stage::ThenCloud,
            Policy::CloudFirst => {
                self.ask_cloud(request, receipt, Keep::Object(name), Some(question), out);
                return;
            }
            Policy::Token => match token::question(&name, &request.content) {
                Ok((question, key)) => {
                    let stage = Stage::Token(key);
                    ask(Query { receipt, request, question, stage }, out);
                    return;
                }
                Err(error) => {
                    out.push(Effect::Fail(receipt, format!("not a token request: {error}")));
                    return;
                }
            },
        };
        ask(Query { receipt, request, question, stage }, out);
    }

    /// Takes a request to the cloud; without one the database answers, if it is a question.
    pub(super) fn ask_cloud(
        &mut self,
        request: Message,
        receipt: Receipt,
        keep: Keep,
        question: Option<Question>,
        out: &mut Vec<Effect>,
    ) {
        let id = request.header.id.clone();
        let bare = Message { content: Content::NULL, ..request.clone() };
        let asked = Asked { receipt, request: bare, keep, question };
        if !self.linked {
            Self::without_cloud(asked, NOT_LINKED, out);
            return;
        }
        if !self.asked.values().any(|earlier| earlier.asks_the_same_as(&asked)) {
            out.push(Effect::Request(Module::Edgehub, request, Tag::Asked(id.clone())));
        }
        if let Some(earlier) = self.asked.insert(id, asked) {
            // The same request came again over a new connection: only the new one can be answered.
            out.push(Effect::Settle(earlier.receipt));
        }
    }

    /// Takes out the queries of an object that wait for the cloud.
    pub(super) fn take_queries(&mut self, name: &Name) -> Vec<Asked> {
        self.asked.extract_if(|_, asked| asked.object() == Some(name)).map(|(_, it)| it).collect()
    }

    /// Answers a request that the cloud did not answer.
    pub(super) fn without_cloud(asked: Asked, reason: &str, out: &mut Vec<Effect>) {
        let Asked { receipt, request, question, .. } = asked;
        match question {
            Some(question) => {
                let stage = Stage::Last(reason.to_owned());
                ask(Query { receipt, request, question, stage }, out);
            }
            None => out.push(Effect::Fail(receipt, reason.to_owned())),
        }
    }

    /// Goes on with a query once the database has spoken.
    pub(super) fn go_on(
        &mut self,
        now: Now,
        query: Query,
        answer: Result<Answer, String>,
        out: &mut Vec<Effect>,
    ) {
        let Query { receipt, request, question, stage } = query;
        let missing = match answer {
            Ok(Answer::Array(array)) => {
                out.push(Effect::Respond(receipt, Content::from_raw(array)));
                return;
            }
            Ok(Answer::One(Some(object))) => {
                let due = matches!(stage, Stage::Token(_))
                    && token::freshness(&object, now.unix_ms / 1000) == Freshness::Due;
                if !(due && self.linked) {
                    out.push(Effect::Respond(receipt, found(&request.route.resource, object)));
                    return;
                }
                None
            }
            Ok(Answer::One(None)) => None,
            Ok(Answer::Rows(_) | Answer::Outbox(_)) => Some("the database answered amiss".into()),
            Err(reason) => Some(reason),
        };
        match (stage, missing) {
            (Stage::ThenCloud, _) => {
                let keep = Name::of(&request.route.resource).map_or(Keep::Nothing, Keep::Object);
                self.or_ask_cloud(request, receipt, keep, question, out);
            }
            (Stage::Token(key), _) => {
                self.or_ask_cloud(request, receipt, Keep::Token(key), question, out);
            }
            (Stage::Instead(error), _) => out.push(Effect::Respond(receipt, error)),
            (Stage::Only, None) => {
                let answer = not_found(&request.route.resource);
                out.push(Effect::Respond(receipt, answer));
            }
            (Stage::Last(reason), _) => {
                let resource = &request.route.resource;
                let reason = format!("no answer on '{resource}': {reason}, and it is not stored");
                out.push(Effect::Fail(receipt, reason));
            }
            (Stage::Only, Some(reason)) => out.push(Effect::Fail(receipt, reason)),
        }
    }

    /// Asks the cloud, now that the database has been asked in vain.
    fn or_ask_cloud(
        &mut self,
        request: Message,
        receipt: Receipt,
        keep: Keep,
        question: Question,
        out: &mut Vec<Effect>,
    ) {
        if self.linked {
            self.ask_cloud(request, receipt, keep, Some(question), out);
        } else {
            let resource = &request.route.resource;
            let reason = format!("no answer on '{resource}': {NOT_LINKED}, and it is not stored");
            out.push(Effect::Fail(receipt, reason));
        }
    }
}

impl Asked {
    /// Returns the object that is asked for, if that is all that is asked.
    ///
    /// An object is asked for once at a time: of the answers that the cloud has not had confirmed
    /// yet it keeps the latest of each object alone, so that every other would never come.
    pub(super) fn object(&self) -> Option<&Name> {
        match (&self.keep, &self.question) {
            (Keep::Object(name), Some(_)) => Some(name),
            (Keep::Object(_) | Keep::Token(_) | Keep::Ca | Keep::Nothing, _) => None,
        }
    }

    fn asks_the_same_as(&self, other: &Self) -> bool {
        self.object().is_some() && self.object() == other.object()
    }
}

pub(super) fn ask(query: Query, out: &mut Vec<Effect>) {
    out.push(Effect::Ask(query.question.clone(), Then::Query(Box::new(query))));
}

/// Tells whether the cloud puts the objects of a type into an envelope when it is asked for them.
pub(super) fn is_wrapped(resource: &Resource) -> bool {
    matches!(resource.kind(), Some(Kind::Lease | Kind::CertificateSigningRequest))
}

/// Makes the answer that has an object.
fn found(resource: &Resource, object: Bytes) -> Content {
    if *resource == Resource::KubernetesCa {
        return Content::text(&String::from_utf8_lossy(&object));
    }
    if !is_wrapped(resource) {
        return Content::from_raw(object);
    }
    let wrapped = [br#"{"Object":"#.as_slice(), &object, br#","Err":null}"#].concat();
    Content::from_raw(wrapped.into())
}

/// Makes the answer that there is no such object.
fn not_found(resource: &Resource) -> Content {
    let status = json!({"ErrStatus": {
        "metadata": {},
        "status": "Failure",
        "message": format!("'{resource}' does not exist on this node"),
        "reason": "NotFound",
        "code": 404,
    }});
    let answer = if is_wrapped(resource) { json!({"Object": null, "Err": status}) } else { status };
    Content::from_raw(answer.to_string().into())
}
