//! What the cloud sends of its own accord: objects that come, change and go, CSI requests, and
//! edgehub's notice that the link came or went.

use ipc_proto::{Kind, Message, Module, Resource, Source};

use super::object::{self, Head, Name};
use super::query::is_wrapped;
use super::{Core, Effect, Now, Receipt, Tag, Then, Wish, unsupported};
use crate::row::Change;

impl Core {
    pub(super) fn cloud_says(
        &mut self,
        now: Now,
        message: Message,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        match Wish::of(&message) {
            Wish::Insert | Wish::Update => {
                self.answer_with(&message, out);
                store(&message, receipt, out);
            }
            Wish::Delete => delete(&message, receipt, out),
            Wish::Connect if message.route.resource == Resource::Connection => {
                self.on_notice(now, &message, receipt, out);
            }
            Wish::Volume => self.on_volume(message, receipt, out),
            Wish::Connect | Wish::Patch | Wish::Query | Wish::Upload | Wish::Unsupported => {
                out.push(Effect::Refuse(receipt, unsupported(&message)));
            }
        }
    }

    /// Answers the queries of an object with what the cloud says of it now: its answer, if it was on
    /// its way, was put aside for this.
    fn answer_with(&mut self, message: &Message, out: &mut Vec<Effect>) {
        let resource = &message.route.resource;
        let Some(name) = Name::of(resource).filter(|_| !is_wrapped(resource)) else { return };
        for asked in self.take_queries(&name) {
            out.push(Effect::Respond(asked.receipt, message.content.clone()));
        }
    }

    fn on_notice(&mut self, now: Now, message: &Message, receipt: Receipt, out: &mut Vec<Effect>) {
        match message.content.decode::<&str>() {
            Ok("cloud_connected") => self.on_link(now, true, out),
            Ok("cloud_disconnected") => self.on_link(now, false, out),
            Ok(_) | Err(_) => {
                out.push(Effect::Refuse(receipt, "unknown notice of the link".to_owned()));
                return;
            }
        }
        out.push(Effect::Settle(receipt));
    }

    /// Hands a CSI request to edged. The cloud waits for a minute, and asks again when it hears
    /// nothing: it needs no place on the disk.
    fn on_volume(&mut self, message: Message, receipt: Receipt, out: &mut Vec<Effect>) {
        let id = message.header.id.clone();
        let bare = Message { content: ipc_proto::Content::NULL, ..message.clone() };
        if let Some((earlier, _)) = self.volumes.insert(id.clone(), (receipt, bare)) {
            out.push(Effect::Settle(earlier));
        }
        out.push(Effect::Request(Module::Edged, message, Tag::Volume(id)));
    }
}

/// Commits an object, acknowledges it and passes it on.
fn store(message: &Message, receipt: Receipt, out: &mut Vec<Effect>) {
    match changes(message) {
        Ok(changes) => {
            let mut then = vec![Effect::Settle(receipt)];
            then.extend(reader(message).map(|to| Effect::Send(to, message.clone())));
            out.push(Effect::Commit(changes, Then::Do(then)));
        }
        Err(reason) => out.push(Effect::Refuse(receipt, reason)),
    }
}

/// Returns what an object changes in the database.
fn changes(message: &Message) -> Result<Vec<Change>, String> {
    let resource = &message.route.resource;
    let name = Name::of(resource)
        .filter(|name| name.kind != Kind::Event)
        .ok_or_else(|| unsupported(message))?;
    let value = message.content.raw();
    if name.kind == Kind::ServiceList {
        return elements(&Kind::Service, value, resource);
    }
    if name.kind == Kind::EndpointsList {
        return elements(&Kind::Endpoints, value, resource);
    }
    let first = object::first_letter(value);
    if name.kind == Kind::PodList && first == Some(b'[') {
        return Ok(vec![Change::Put(name.row(value.clone()))]);
    }
    if first != Some(b'{') {
        return Err(format!("the content of '{resource}' is no object"));
    }
    let version = object::header_version(message);
    Ok(vec![Change::Put(name.rows(version, value.clone()))])
}

/// Splits a list of older clouds into its objects.
fn elements(kind: &Kind, list: &[u8], resource: &Resource) -> Result<Vec<Change>, String> {
    let elements =
        object::split(list).ok_or_else(|| format!("the content of '{resource}' is no list"))?;
    let rows = elements.into_iter().map(|element| {
        let element = element.get().as_bytes();
        let metadata = Head::read(element).and_then(|head| head.metadata).unwrap_or_default();
        let (namespace, name) = (metadata.namespace?, metadata.name?);
        let version = metadata.resource_version.and_then(|version| version.parse().ok());
        let name = Name::new(&namespace, kind.clone(), &name)?;
        let value = bytes::Bytes::copy_from_slice(element);
        Some(Change::Put(name.rows(version.unwrap_or(0), value)))
    });
    rows.collect::<Option<Vec<_>>>()
        .ok_or_else(|| format!("an element of '{resource}' has no name or namespace"))
}

/// Removes an object, acknowledges that and passes it on. An object of another uid than the one
/// that ended stays, but the news is passed on: something of the old one may still run.
fn delete(message: &Message, receipt: Receipt, out: &mut Vec<Effect>) {
    let Some(name) = Name::of(&message.route.resource) else {
        out.push(Effect::Refuse(receipt, unsupported(message)));
        return;
    };
    let object = message.content.raw();
    let removal = name.removal(object::uid(object).unwrap_or_default(), object);
    let mut then = vec![Effect::Settle(receipt)];
    then.extend(reader(message).map(|to| Effect::Send(to, message.clone())));
    out.push(Effect::Commit(vec![removal], Then::Do(then)));
}

/// Returns the module that acts on an object.
fn reader(message: &Message) -> Option<Module> {
    match (message.route.resource.kind(), &message.route.source) {
        // What a service account may do is metaserver's business; rules are the cloud's own.
        (_, Source::Policycontroller)
        | (
            None
            | Some(Kind::ServiceAccountAccess | Kind::Rule | Kind::RuleEndpoint | Kind::RuleStatus),
            _,
        ) => None,
        // The cloud tells of these because somebody watches them through metaserver.
        (Some(Kind::Unknown(_)), Source::Dynamiccontroller) => None,
        (Some(Kind::Device | Kind::DeviceModel | Kind::DeviceMapper), _) => {
            Some(Module::Devicetwin)
        }
        (
            Some(
                Kind::Service
                | Kind::ServiceList
                | Kind::Endpoints
                | Kind::EndpointsList
                | Kind::EndpointSlice
                | Kind::DestinationRule
                | Kind::PodList
                | Kind::Node,
            ),
            _,
        ) => Some(Module::Edgemesh),
        (Some(_), _) => Some(Module::Edged),
    }
}
