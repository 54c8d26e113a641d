//! Answers: of the cloud to what the modules asked and to what the outbox sent, and of edged to
//! what the cloud asked.

use bytes::Bytes;
use ipc_proto::{Content, Kind, Message, Module, Operation, Resource, Scope};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::object::{self, Name};
use super::query::{self, Query, Stage};
use super::reply::Reply;
use super::{Asked, Core, Effect, Keep, Now, Receipt, Silence, Tag, Then};
use crate::row::{Answer, Change, Object, Question};

impl Core {
    pub(super) fn on_reply(
        &mut self,
        now: Now,
        tag: Tag,
        result: Result<(Message, Receipt), Silence>,
        out: &mut Vec<Effect>,
    ) {
        match (tag, result) {
            (Tag::Asked(id), result) => {
                let Some(asked) = self.asked.remove(&id) else {
                    if let Ok((reply, receipt)) = result {
                        keep_late(&reply, receipt, out);
                    }
                    return;
                };
                let others = asked.object().cloned().map(|name| self.take_queries(&name));
                let others = others.unwrap_or_default();
                match result {
                    Ok((reply, receipt)) => {
                        for other in others {
                            Self::answered(other, &reply, None, out);
                        }
                        Self::answered(asked, &reply, Some(receipt), out);
                    }
                    Err(silence) => {
                        let reason = silence.into_reason();
                        for asked in others.into_iter().chain([asked]) {
                            Self::without_cloud(asked, &reason, out);
                        }
                    }
                }
            }
            (Tag::Parcel(sequence), Ok((reply, receipt))) => {
                self.parcel_answered(sequence, &reply, receipt, out);
            }
            (Tag::Parcel(sequence), Err(silence)) => {
                self.on_delivered(sequence, Err(silence), out);
            }
            (Tag::Volume(id), result) => self.volume_answered(now, &id, result, out),
            (Tag::Own, Ok((reply, receipt))) => keep_late(&reply, receipt, out),
            (Tag::Own, Err(_)) => {}
        }
    }

    /// Takes the cloud's answer to a module's request. The module has it at once: it must not wait
    /// for a disk that is full. What is to be kept is kept once, with the answer's own receipt.
    fn answered(asked: Asked, reply: &Message, of_reply: Option<Receipt>, out: &mut Vec<Effect>) {
        let Asked { receipt, request, keep, question } = asked;
        let content = reply.content.clone();
        let change = match Reply::read(content.raw()) {
            Reply::Object(value) => keep.change(reply, value),
            Reply::NotFound if question.is_some() => keep.removal(),
            Reply::Failed if question.is_some() => {
                let Some(question) = question else { return };
                let stage = Stage::Instead(content);
                query::ask(Query { receipt, request, question, stage }, out);
                out.extend(of_reply.map(Effect::Settle));
                return;
            }
            Reply::Other => keep.text(&content),
            Reply::NotFound | Reply::Failed => None,
        };
        out.push(Effect::Respond(receipt, content));
        if let Some(of_reply) = of_reply {
            keep_and_settle(change, of_reply, out);
        }
    }

    /// Takes the cloud's answer to a parcel, which is with that at its end.
    fn parcel_answered(
        &mut self,
        sequence: i64,
        reply: &Message,
        of_reply: Receipt,
        out: &mut Vec<Effect>,
    ) {
        let flight = self.outbox.delivered(sequence, out);
        if let Some((_, Some(receipt))) = flight {
            out.push(Effect::Respond(receipt, reply.content.clone()));
        }
        keep_late(reply, of_reply, out);
        self.outbox.pump(self.linked, out);
    }

    pub(super) fn on_delivered(
        &mut self,
        sequence: i64,
        result: Result<(), Silence>,
        out: &mut Vec<Effect>,
    ) {
        match result {
            Err(Silence::Unknown(reason)) => {
                tracing::debug!(sequence, %reason, "a message to the cloud has no answer");
                self.outbox.failed(sequence, self.linked, out);
            }
            Ok(()) => {
                self.outbox.delivered(sequence, out);
            }
            Err(Silence::Refused(reason)) => {
                tracing::warn!(sequence, %reason, "a message to the cloud was refused");
                if let Some((_, Some(receipt))) = self.outbox.delivered(sequence, out) {
                    out.push(Effect::Fail(receipt, reason));
                }
            }
        }
        self.outbox.pump(self.linked, out);
    }

    /// Takes an answer that nobody waits for any more: what it carries is kept.
    pub(super) fn late_answer(
        &mut self,
        from: Module,
        message: &Message,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        if from == Module::Edgehub {
            keep_late(message, receipt, out);
        } else {
            out.push(Effect::Settle(receipt));
        }
    }

    /// Takes edged's answer to a CSI request of the cloud.
    fn volume_answered(
        &mut self,
        now: Now,
        id: &ipc_proto::MessageId,
        result: Result<(Message, Receipt), Silence>,
        out: &mut Vec<Effect>,
    ) {
        let result = match result {
            Ok((reply, of_reply)) => {
                out.push(Effect::Settle(of_reply));
                Ok(reply.content)
            }
            Err(silence) => Err(silence.into_reason()),
        };
        let Some((receipt, request)) = self.volumes.remove(id) else { return };
        if request.header.sync {
            out.push(match result {
                Ok(content) => Effect::Respond(receipt, content),
                Err(reason) => Effect::Fail(receipt, reason),
            });
            return;
        }
        let answer = match result {
            Ok(content) => request.response((self.draw)(), now.unix_ms, content),
            Err(reason) => request.error((self.draw)(), now.unix_ms, &reason),
        };
        out.extend([Effect::Send(Module::Edgehub, answer), Effect::Settle(receipt)]);
    }

    /// Asks the cloud about everything, if the database came from a snapshot: what was stored after
    /// it is missing, and what was removed after it is back.
    pub(super) fn verify(&mut self, out: &mut Vec<Effect>) {
        if self.unverified && self.linked {
            self.unverified = false;
            for kind in [Kind::Pod, Kind::ConfigMap, Kind::Secret] {
                let question = Question::Rows(kind.as_str().into());
                out.push(Effect::Ask(question, Then::Verify(kind)));
            }
        }
    }

    pub(super) fn ask_about(
        &self,
        now: Now,
        kind: &Kind,
        answer: Result<Answer, String>,
        out: &mut Vec<Effect>,
    ) {
        let Ok(Answer::Rows(rows)) = answer else {
            tracing::warn!(%kind, ?answer, "cannot ask the cloud what is still there");
            return;
        };
        if *kind == Kind::Pod {
            let statuses = rows.iter().filter_map(|(key, pod)| {
                let pod: Pod<'_> = serde_json::from_slice(pod).ok()?;
                Some((key, pod.status()?))
            });
            self.tell_statuses(now, statuses, out);
            return;
        }
        for (key, _) in rows {
            let resource = Resource::parse(&ipc_proto::Group::Resource, &key);
            let mut query = self.own(now, resource, Content::NULL);
            query.route.operation = Operation::Query;
            out.push(Effect::Request(Module::Edgehub, query, Tag::Own));
        }
    }

    pub(super) fn send_statuses(
        &self,
        now: Now,
        answer: Result<Answer, String>,
        out: &mut Vec<Effect>,
    ) {
        if let Ok(Answer::Rows(rows)) = answer {
            let statuses = rows.iter().filter_map(|(key, status)| {
                Some((key, std::str::from_utf8(status).ok()?.to_owned()))
            });
            self.tell_statuses(now, statuses, out);
        }
    }

    /// Sends statuses of pods to the cloud, one message for each namespace.
    fn tell_statuses<'a>(
        &self,
        now: Now,
        statuses: impl Iterator<Item = (&'a Box<str>, String)>,
        out: &mut Vec<Effect>,
    ) {
        let mut arrays = std::collections::BTreeMap::<&str, Vec<String>>::new();
        for (key, status) in statuses {
            if let Some((namespace, _)) = key.split_once('/') {
                arrays.entry(namespace).or_default().push(status);
            }
        }
        for (namespace, statuses) in arrays {
            let resource = Resource::Object {
                scope: Scope::Namespace(namespace.into()),
                kind: Kind::PodStatus,
                name: None,
            };
            let content = Content::from_raw(format!("[{}]", statuses.join(",")).into());
            let message = self.own(now, resource, content);
            out.push(Effect::Request(Module::Edgehub, message, Tag::Own));
        }
    }
}

/// What is told of a pod's status.
#[derive(Deserialize)]
struct Pod<'a> {
    metadata: object::Metadata,
    #[serde(borrow)]
    status: &'a RawValue,
}

impl Pod<'_> {
    fn status(self) -> Option<String> {
        let quoted = |text: String| serde_json::Value::from(text).to_string();
        let (uid, name) = (quoted(self.metadata.uid?), quoted(self.metadata.name?));
        Some(format!(r#"{{"UID":{uid},"Name":{name},"Status":{}}}"#, self.status))
    }
}

impl Keep {
    /// Makes the change that keeps an answer's object.
    fn change(&self, reply: &Message, value: Bytes) -> Option<Change> {
        match self {
            Self::Object(name) => {
                let version = object::version(reply, &value);
                let object = name.rows(version, object::with_type(value, &name.kind));
                // A pod comes by the cloud's own word alone, or a late answer would bring back one
                // that has ended.
                let is_pod = name.kind == Kind::Pod;
                Some(if is_pod { Change::Refresh(object) } else { Change::PutUnlessNewer(object) })
            }
            Self::Token(key) => {
                let kind = Kind::ServiceAccountToken.as_str().into();
                let key = key.clone();
                Some(Change::Put(Object { key, kind, value, mirror: None }))
            }
            Self::Ca | Self::Nothing => None,
        }
    }

    /// Makes the change for an object that does not exist any more.
    fn removal(&self) -> Option<Change> {
        match self {
            Self::Object(name) => Some(name.removal("".into(), b"")),
            Self::Token(key) => Some(Change::RemoveToken(key.clone())),
            Self::Ca | Self::Nothing => None,
        }
    }

    /// Makes the change that keeps an answer that is a text.
    fn text(&self, content: &Content) -> Option<Change> {
        let Self::Ca = self else { return None };
        let pem: String = content.decode().ok()?;
        let (key, kind) = (query::CA_KEY.into(), "ca.crt".into());
        Some(Change::Put(Object { key, kind, value: pem.into(), mirror: None }))
    }
}

/// Keeps the object of an answer whatever it was asked for, and settles it.
fn keep_late(reply: &Message, receipt: Receipt, out: &mut Vec<Effect>) {
    let name = Name::of(&reply.route.resource).map(|name| name.owner());
    let change = match (name, Reply::read(reply.content.raw())) {
        // The key of a token is in the request alone; whoever needs it asks again.
        (Some(Name { kind: Kind::ServiceAccountToken, .. }) | None, _) => None,
        (Some(name), Reply::Object(value)) => Keep::Object(name).change(reply, value),
        (Some(name), Reply::NotFound) if matches!(name.kind, Kind::ConfigMap | Kind::Secret) => {
            Keep::Object(name).removal()
        }
        (Some(_), Reply::NotFound | Reply::Failed | Reply::Other) => None,
    };
    keep_and_settle(change, receipt, out);
}

/// Settles an answer once what it brought is committed, so that the cloud is not told before.
fn keep_and_settle(change: Option<Change>, receipt: Receipt, out: &mut Vec<Effect>) {
    let settle = Effect::Settle(receipt);
    out.push(match change {
        Some(change) => Effect::Commit(vec![change], Then::Do(vec![settle])),
        None => settle,
    });
}
