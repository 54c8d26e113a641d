//! The mappers: who serves which protocol, and what each has still to be told.
//!
//! What a mapper is to be told is kept by object, so that a mapper that hangs has at most one line
//! for each object waiting, and hears of the latest state alone. One call to a mapper is under way
//! at a time. A mapper that was out of reach is told everything again. One that has nothing to be
//! told is asked for one of its devices now and then: so a dead one is noticed, and one that has
//! forgotten a device hears of it again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::dmi::words as w;
use crate::model::{self, Known, Object};
use crate::payload::split;

/// The greatest number of mappers, each with a protocol of its own.
const MAX_MAPPERS: usize = 64;

/// How long a mapper that does not answer is left alone, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long a mapper that answers is left alone before it is asked for one of its devices.
const PROBE: Duration = Duration::from_secs(30);

/// One call to a mapper.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// The mapper's socket.
    pub(crate) socket: PathBuf,
    /// The object that it is about.
    pub(crate) about: Subject,
    /// What it says.
    pub(crate) what: What,
}

/// What a mapper is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    CreateModel(Box<w::DeviceModel>),
    UpdateModel(Box<w::DeviceModel>),
    RemoveModel(w::NameRequest),
    RegisterDevice(Described),
    UpdateDevice(Described),
    RemoveDevice(w::NameRequest),
    GetDevice(w::NameRequest),
}

/// A device that a mapper is told of: its spec is read in the store when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    /// The device.
    pub(crate) id: Box<str>,
    /// Its model.
    pub(crate) model: Box<Object>,
}

/// An object that a mapper has to be told of. Models come before the devices that need them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Model(Box<str>),
    Device(Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Created,
    Changed,
    Gone,
    /// None: whether it still knows the object.
    Asked,
}

/// A mapper as it is kept in the store, in the Go edgecore's form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    pub(crate) name: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) version: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) api_version: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) protocol: Box<str>,
    /// The socket's path, in base64.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) address: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) state: Box<str>,
}

#[derive(Debug)]
pub(crate) struct Mapper {
    pub(crate) info: Info,
    socket: PathBuf,
    todo: BTreeMap<Subject, News>,
    /// The call under way.
    calling: Option<(Subject, News)>,
    retry: Option<Instant>,
    pause: Duration,
    /// When it is asked for a device, and for which one it was asked last.
    probe: Option<Instant>,
    probed: Box<str>,
    /// Why the last call failed.
    pub(crate) trouble: Option<Box<str>>,
}

/// The mappers and what they serve.
#[derive(Debug, Default)]
pub(crate) struct Mappers {
    pub(crate) by_protocol: BTreeMap<Box<str>, Mapper>,
    devices: BTreeMap<Box<str>, Known>,
    models: BTreeMap<Box<str>, Object>,
}

impl Mappers {
    /// Takes a mapper that says it is there; returns its row.
    ///
    /// # Errors
    /// What is wrong with what it says of itself.
    pub(crate) fn register(&mut self, request: w::MapperRegisterRequest) -> Result<Info, String> {
        let mapper = request.mapper.unwrap_or_default();
        for (what, text) in [("name", &mapper.name), ("protocol", &mapper.protocol)] {
            if !(1..=256).contains(&text.len()) || text.contains('/') {
                return Err(format!("the mapper's {what}: expected 1 to 256 letters without '/'"));
            }
        }
        let info = Info {
            name: mapper.name.into(),
            version: mapper.version.into(),
            api_version: mapper.api_version.into(),
            protocol: mapper.protocol.into(),
            address: BASE64.encode(&mapper.address).into(),
            state: mapper.state.into(),
        };
        self.take(info.clone(), !request.with_data)?;
        Ok(info)
    }

    /// Lists for a mapper that registered what the node has for it, of a set of devices' objects.
    pub(crate) fn list(&self, protocol: &str, devices: &[u8]) -> w::MapperRegisterResponse {
        let mut response = w::MapperRegisterResponse::default();
        let mut models = BTreeSet::new();
        for object in split(devices).unwrap_or_default() {
            let Ok(object) = model::read(object.get().as_bytes()) else { continue };
            let Some(shared) = self.models.get(&*object.model_id()) else { continue };
            if *object.protocol != *protocol {
                continue;
            }
            let Ok(device) = model::device(&object, shared) else { continue };
            response.device_list.push(device);
            if models.insert(&shared.id) {
                response.model_list.extend(model::model(shared));
            }
        }
        response
    }

    /// Takes a mapper of the store's, or one that registered; `all` tells it everything.
    ///
    /// # Errors
    /// What is wrong with its socket.
    pub(crate) fn take(&mut self, info: Info, all: bool) -> Result<(), String> {
        let address = BASE64.decode(info.address.as_bytes()).unwrap_or_default();
        let socket = String::from_utf8(address).unwrap_or_default();
        let socket = PathBuf::from(socket.strip_prefix("unix://").unwrap_or(&socket));
        if !socket.is_absolute() {
            return Err("the mapper's address: expected the absolute path of a socket".to_owned());
        }
        let protocol = info.protocol.clone();
        if !self.by_protocol.contains_key(&protocol) && self.by_protocol.len() >= MAX_MAPPERS {
            return Err(format!("there are {MAX_MAPPERS} mappers already"));
        }
        let old = self.by_protocol.remove(&protocol);
        let calling = old.and_then(|old| old.calling);
        let mapper = Mapper {
            info,
            socket,
            todo: BTreeMap::new(),
            calling,
            retry: None,
            pause: PAUSE.0,
            probe: None,
            probed: Box::default(),
            trouble: None,
        };
        self.by_protocol.insert(protocol.clone(), mapper);
        if all {
            self.tell_all(&protocol);
        }
        Ok(())
    }

    fn tell_all(&mut self, protocol: &str) {
        let devices = self.devices.iter().filter(|(_, known)| *known.protocol == *protocol);
        let mut todo = BTreeMap::new();
        for (id, known) in devices {
            todo.insert(Subject::Model(known.model.clone()), News::Created);
            todo.insert(Subject::Device(id.clone()), News::Created);
        }
        if let Some(mapper) = self.by_protocol.get_mut(protocol) {
            let gone = std::mem::take(&mut mapper.todo).into_iter();
            todo.extend(gone.filter(|(_, news)| *news == News::Gone));
            mapper.todo = todo;
        }
    }

    fn tell(&mut self, protocol: &str, about: Subject, news: News) {
        let Some(mapper) = self.by_protocol.get_mut(protocol) else { return };
        let news = match (mapper.todo.get(&about), news) {
            (Some(News::Created | News::Gone), News::Changed) => News::Created,
            (_, news) => news,
        };
        mapper.todo.insert(about, news);
    }

    /// Takes a device; tells whether one of this name was known that was another one.
    pub(crate) fn put_device(&mut self, object: &Object) -> bool {
        let (about, known) = (Subject::Device(object.id.clone()), Known::of(object));
        let old = self.devices.get(&object.id);
        let is_another = old.is_some_and(|old| old.is_another(&known));
        let news = match old {
            Some(old) if *old == known => return false,
            Some(old) if old.protocol != known.protocol => {
                let old = old.protocol.clone();
                self.tell(&old, about.clone(), News::Gone);
                News::Created
            }
            Some(_) => News::Changed,
            None => News::Created,
        };
        let protocol = known.protocol.clone();
        if news == News::Created {
            self.tell(&protocol, Subject::Model(known.model.clone()), News::Created);
        }
        self.devices.insert(object.id.clone(), known);
        self.tell(&protocol, about, news);
        is_another
    }

    /// Takes the news that a device is gone.
    pub(crate) fn remove_device(&mut self, id: &str) {
        if let Some(old) = self.devices.remove(id) {
            self.tell(&old.protocol, Subject::Device(id.into()), News::Gone);
        }
    }

    /// Takes a model.
    pub(crate) fn put_model(&mut self, object: Object) {
        let news = match self.models.get(&object.id) {
            Some(old) if *old == object => return,
            Some(_) => News::Changed,
            None => News::Created,
        };
        self.tell_model(&object, news);
        self.models.insert(object.id.clone(), object);
    }

    /// Takes the news that a model is gone.
    pub(crate) fn remove_model(&mut self, id: &str) {
        if let Some(old) = self.models.remove(id) {
            self.tell_model(&old, News::Gone);
        }
    }

    /// Takes the news that there are no models but these.
    pub(crate) fn keep_models(&mut self, ids: &BTreeSet<Box<str>>) {
        let gone: Vec<_> = self.models.keys().filter(|id| !ids.contains(*id)).cloned().collect();
        for id in gone {
            self.remove_model(&id);
        }
    }

    fn tell_model(&mut self, object: &Object, news: News) {
        let users = self.devices.values().filter(|device| device.model == object.id);
        let mut protocols: BTreeSet<_> = users.map(|device| device.protocol.clone()).collect();
        protocols.insert(object.protocol.clone());
        for protocol in protocols {
            self.tell(&protocol, Subject::Model(object.id.clone()), news);
        }
    }

    /// Returns when [`Mappers::pump`] is next due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let idle = self.by_protocol.values().filter(|mapper| mapper.calling.is_none());
        let due = idle.filter_map(|it| if it.todo.is_empty() { it.probe } else { it.retry });
        due.min()
    }

    /// Lets out one call to each mapper that can take one, with its protocol.
    pub(crate) fn pump(&mut self, now: Instant) -> Vec<(Box<str>, Call)> {
        let mut calls = Vec::new();
        for (protocol, mapper) in &mut self.by_protocol {
            if mapper.calling.is_some() || mapper.retry.is_some_and(|retry| retry > now) {
                continue;
            }
            mapper.retry = None;
            let next = mapper.todo.iter().find_map(|(about, news)| {
                let what = what(about, *news, &self.devices, &self.models)?;
                Some((about.clone(), *news, what))
            });
            let next = next.or_else(|| mapper.ask(now, protocol, &self.devices));
            let Some((about, news, what)) = next else { continue };
            mapper.todo.remove(&about);
            mapper.calling = Some((about.clone(), news));
            match what {
                Ok(what) => {
                    let call = Call { socket: mapper.socket.clone(), about, what };
                    calls.push((protocol.clone(), call));
                }
                // It stays so until the object changes; the others go on at the next turn.
                Err(reason) => {
                    tracing::warn!(%protocol, %reason, "a mapper cannot be told");
                    mapper.trouble = Some(reason.into());
                    mapper.calling = None;
                    mapper.retry = Some(now);
                }
            }
        }
        calls
    }

    /// Notes how a call ended. A mapper that was out of reach is told everything again; one that
    /// answers that it will not do something is not asked for that again.
    pub(crate) fn called(&mut self, now: Instant, protocol: &str, result: Result<(), CallError>) {
        let Some(mapper) = self.by_protocol.get_mut(protocol) else { return };
        let Some((about, news)) = mapper.calling.take() else { return };
        mapper.probe = Some(now + PROBE);
        match result {
            Ok(()) => {
                mapper.pause = PAUSE.0;
                mapper.trouble = None;
            }
            // A mapper that cannot be asked is there all the same.
            Err(CallError::Unsupported) => mapper.trouble = None,
            Err(CallError::Refused(_)) if news == News::Asked => {
                mapper.trouble = None;
                mapper.todo.entry(about).or_insert(News::Created);
            }
            Err(CallError::Refused(reason)) => {
                mapper.pause = PAUSE.0;
                mapper.trouble = Some(reason.into());
            }
            Err(CallError::NoStore) => {
                mapper.todo.entry(about).or_insert(news);
                mapper.retry = Some(now + PAUSE.0);
            }
            Err(CallError::Unreachable(reason)) => {
                if news != News::Asked {
                    mapper.todo.entry(about).or_insert(news);
                }
                mapper.trouble = Some(reason.into());
                mapper.retry = Some(now + mapper.pause);
                mapper.pause = (mapper.pause * 2).min(PAUSE.1);
                self.tell_all(protocol);
            }
        }
    }
}

impl Mapper {
    /// Asks for the next device of the mapper's when that is due.
    fn ask(
        &mut self,
        now: Instant,
        protocol: &str,
        devices: &BTreeMap<Box<str>, Known>,
    ) -> Option<(Subject, News, Result<What, String>)> {
        if *self.probe.get_or_insert(now + PROBE) > now {
            return None;
        }
        self.probe = Some(now + PROBE);
        let own = || devices.iter().filter(|(_, known)| *known.protocol == *protocol);
        let (next, _) = own().find(|(id, _)| **id > self.probed).or_else(|| own().next())?;
        self.probed = next.clone();
        Some((Subject::Device(next.clone()), News::Asked, Ok(What::GetDevice(named(next)))))
    }
}

/// Names an object as mappers do.
fn named(id: &str) -> w::NameRequest {
    let (namespace, name) = id.split_once('/').unwrap_or_default();
    w::NameRequest { name: name.to_owned(), namespace: namespace.to_owned() }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The mapper says so.
    Refused(String),
    /// The mapper does not have this method.
    Unsupported,
    /// The store does not say what the mapper is to be told.
    NoStore,
    /// There is no answer.
    Unreachable(String),
}

/// Makes the words of a call; nothing while a device's model is not there, or when what was to be
/// told of is gone meanwhile.
fn what(
    about: &Subject,
    news: News,
    devices: &BTreeMap<Box<str>, Known>,
    models: &BTreeMap<Box<str>, Object>,
) -> Option<Result<What, String>> {
    match (about, news) {
        (Subject::Model(id), News::Gone) => Some(Ok(What::RemoveModel(named(id)))),
        (Subject::Device(id), News::Gone) => Some(Ok(What::RemoveDevice(named(id)))),
        (Subject::Model(id), news) => {
            let model = model::model(models.get(id)?).map(Box::new);
            let is_new = news == News::Created;
            Some(model.map(if is_new { What::CreateModel } else { What::UpdateModel }))
        }
        (Subject::Device(id), news) => {
            let model = models.get(&devices.get(id)?.model)?;
            let device = Described { id: id.clone(), model: Box::new(model.clone()) };
            let is_new = news == News::Created;
            Some(Ok(if is_new { What::RegisterDevice(device) } else { What::UpdateDevice(device) }))
        }
    }
}

#[cfg(test)]
mod tests;
