//! The rows that other modules keep here: twins, mappers, topics, URLs, jobs, mesh addresses; and
//! their questions about objects.

use ipc_proto::{Group, Kind, Message, Module, Resource};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::object::Name;
use super::query::{self, Query, Stage};
use super::{Core, Effect, Receipt, Then, Wish, ok, unsupported};
use crate::row::{Change, DeviceRows, Mirror, Page, Question, Words};

/// What is done with a module's rows.
enum Work {
    Change(Change),
    Ask(Question),
}

impl Core {
    /// Takes a message of a module other than edgehub and edged. What is written is answered with
    /// `"OK"` once it is on the disk.
    pub(super) fn module_says(
        &mut self,
        from: Module,
        message: Message,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        if let Err(error) = message.content.decode::<IgnoredAny>() {
            out.push(Effect::Refuse(receipt, format!("the content is no JSON: {error}")));
            return;
        }
        let wish = Wish::of(&message);
        let work = match (from, &message.route.resource) {
            (Module::Devicetwin, Resource::Device { .. })
            | (Module::Eventbus | Module::Servicebus, Resource::Text(_))
                if matches!(wish, Wish::Upload | Wish::Update) =>
            {
                self.queue(&message, receipt, Vec::new(), out);
                return;
            }
            (Module::Eventbus, Resource::Text(topic)) => word(Words::Topics, topic, &message),
            (Module::Servicebus, Resource::Text(url)) => word(Words::Urls, url, &message),
            (Module::Metaserver, Resource::Text(of)) => page(of, &message),
            (Module::Taskmanager, Resource::Task(task)) => job(task, &message),
            (Module::Devicetwin, _) if message.route.group == Group::Twin => twin(&message),
            (_, Resource::Object { .. } | Resource::KubernetesCa) if wish == Wish::Query => {
                self.query(from, message, receipt, out);
                return;
            }
            (_, Resource::Object { .. }) => object(&message),
            _ => None,
        };
        match work {
            Some(Work::Change(change)) => {
                let then = Then::Do(vec![Effect::Respond(receipt, ok())]);
                out.push(Effect::Commit(vec![change], then));
            }
            Some(Work::Ask(question)) => {
                let stage = Stage::Only;
                query::ask(Query { receipt, request: message, question, stage }, out);
            }
            None => out.push(Effect::Fail(receipt, unsupported(&message))),
        }
    }
}

fn word(words: Words, word: &str, message: &Message) -> Option<Work> {
    match Wish::of(message) {
        Wish::Query => Some(Work::Ask(Question::Words(words))),
        Wish::Insert => Some(Work::Change(Change::AddWord(words, word.into()))),
        Wish::Delete => Some(Work::Change(Change::RemoveWord(words, word.into()))),
        Wish::Update
        | Wish::Patch
        | Wish::Upload
        | Wish::Connect
        | Wish::Volume
        | Wish::Unsupported => None,
    }
}

/// The longest page that may be asked for, in bytes.
const MAX_PAGE: usize = 1024 * 1024;

/// What of `meta_v2` metaserver wants: the rows behind a key, in so many bytes.
#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    after: Box<str>,
    bytes: usize,
}

fn page(of: &str, message: &Message) -> Option<Work> {
    let Wanted { after, bytes } = message.content.decode().ok()?;
    let page = Page { of: of.into(), after, bytes: bytes.min(MAX_PAGE) };
    (Wish::of(message) == Wish::Query).then_some(Work::Ask(Question::Page(page)))
}

fn object(message: &Message) -> Option<Work> {
    let name = Name::of(&message.route.resource)?;
    match Wish::of(message) {
        Wish::Insert | Wish::Update => {
            let value = message.content.raw().clone();
            let is_own = matches!(name.kind, Kind::DeviceMapper | Kind::Listener);
            let object = if is_own { name.row(value) } else { name.rows(0, value) };
            Some(Work::Change(Change::Put(object)))
        }
        Wish::Delete => Some(Work::Change(name.removal("".into(), b""))),
        Wish::Query
        | Wish::Patch
        | Wish::Upload
        | Wish::Connect
        | Wish::Volume
        | Wish::Unsupported => None,
    }
}

/// A device's rows in the twin tables: the content is a [`DeviceRows`].
fn twin(message: &Message) -> Option<Work> {
    let Resource::Object { scope, kind: Kind::Device, name } = &message.route.resource else {
        return None;
    };
    let id = name.as_ref().map(|name| format!("{}/{name}", scope.as_str()));
    match (Wish::of(message), id) {
        (Wish::Query, None) => Some(Work::Ask(Question::Twins)),
        (Wish::Query, Some(id)) => Some(Work::Ask(Question::Twin(id.into()))),
        (Wish::Insert | Wish::Update, Some(id)) => {
            let rows = message.content.decode::<DeviceRows>().ok()?;
            Some(Work::Change(Change::PutTwin(Box::new(DeviceRows { id, ..rows }))))
        }
        (Wish::Delete, Some(id)) => Some(Work::Change(Change::RemoveTwin(id.into()))),
        (Wish::Insert | Wish::Update | Wish::Delete, None)
        | (Wish::Patch | Wish::Upload | Wish::Connect | Wish::Volume | Wish::Unsupported, _) => {
            None
        }
    }
}

/// The record of a node job, where the Go edgecore keeps it. A query of
/// `operations.kubeedge.io/<version>/<type>` is answered with all of that type.
fn job(task: &str, message: &Message) -> Option<Work> {
    let parts: Vec<_> = task.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    let (key, resource, name) = match parts[..] {
        [group, version, kind, job, "node", node] => (
            format!("/{group}/{version}/{kind}specs/{job}/nodes/{node}"),
            format!("{group}/{version}, Resource={kind}specs"),
            job,
        ),
        [group, version, kind] if Wish::of(message) == Wish::Query => {
            let resource = format!("{group}/{version}, Resource={kind}specs");
            return Some(Work::Ask(Question::Records(resource.into())));
        }
        // Clouds up to 1.21.
        [_kind, id, "node", _node] => (
            format!("/operations.kubeedge.io/v1alpha1/nodeupgradejobtaskrequests/{id}"),
            "operations.kubeedge.io/v1alpha1, Resource=nodeupgradejobtaskrequests".to_owned(),
            id,
        ),
        _ => return None,
    };
    match Wish::of(message) {
        Wish::Query => Some(Work::Ask(Question::Record(key.into()))),
        Wish::Insert | Wish::Update => {
            let mirror = Mirror {
                key: key.into(),
                resource: resource.into(),
                namespace: "".into(),
                name: name.into(),
                version: 0,
            };
            Some(Work::Change(Change::PutRecord(mirror, message.content.raw().clone())))
        }
        Wish::Delete => Some(Work::Change(Change::RemoveRecord(key.into()))),
        Wish::Patch | Wish::Upload | Wish::Connect | Wish::Volume | Wish::Unsupported => None,
    }
}
