//! Devices and models as the cloud's objects, and its word of which devices are the node's.

use std::collections::BTreeSet;

use super::{Core, Effect, Entry, Now, Refused, publish_on};
use crate::device::Device;
use crate::model::{self, Object};
use crate::payload::{Member, Membership, split};

impl Core {
    /// Takes the whole set of the node's devices.
    pub(crate) fn on_devices(&mut self, now: Now, array: &[u8], out: &mut Vec<Effect>) {
        let Some(objects) = self.read_set(array) else { return };
        let there: BTreeSet<_> = objects.iter().map(|object| object.id.clone()).collect();
        let gone =
            self.devices.iter().filter(|(id, entry)| !there.contains(*id) && !entry.only_member);
        let gone: Vec<_> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove_device(now, &id, true, out);
        }
        for object in objects {
            self.put_device(now, object, out);
        }
        self.pump(now, out);
    }

    /// Takes the whole set of the models.
    pub(crate) fn on_models(&mut self, now: Now, array: &[u8], out: &mut Vec<Effect>) {
        let Some(objects) = self.read_set(array) else { return };
        self.mappers.keep_models(&objects.iter().map(|object| object.id.clone()).collect());
        for object in objects {
            self.mappers.put_model(object);
        }
        self.pump(now, out);
    }

    fn read_set(&mut self, array: &[u8]) -> Option<Vec<Object>> {
        let Some(objects) = split(array) else {
            self.counts.bad_object("a set of objects is no list");
            return None;
        };
        let mut set = Vec::with_capacity(objects.len());
        for object in objects {
            match model::read(object.get().as_bytes()) {
                Ok(object) => set.push(object),
                Err(reason) => self.counts.bad_object(&reason),
            }
        }
        Some(set)
    }

    /// Takes a device that came or changed.
    pub(crate) fn on_device(&mut self, now: Now, object: &[u8], out: &mut Vec<Effect>) {
        match model::read(object) {
            Ok(object) => self.put_device(now, object, out),
            Err(reason) => self.counts.bad_object(&reason),
        }
        self.pump(now, out);
    }

    /// Takes a model that came or changed.
    pub(crate) fn on_model(&mut self, now: Now, object: &[u8], out: &mut Vec<Effect>) {
        match model::read(object) {
            Ok(object) => self.mappers.put_model(object),
            Err(reason) => self.counts.bad_object(&reason),
        }
        self.pump(now, out);
    }

    /// Takes the news that a device is gone.
    pub(crate) fn on_device_gone(&mut self, now: Now, id: &str, out: &mut Vec<Effect>) {
        self.remove_device(now, id, true, out);
        self.pump(now, out);
    }

    /// Takes the news that a model is gone.
    pub(crate) fn on_model_gone(&mut self, now: Now, id: &str, out: &mut Vec<Effect>) {
        self.mappers.remove_model(id);
        self.pump(now, out);
    }

    /// Takes the cloud's word of which devices came and went.
    pub(crate) fn on_membership(&mut self, now: Now, content: &[u8], out: &mut Vec<Effect>) {
        let membership = match serde_json::from_slice::<Membership>(content) {
            Ok(membership) => membership,
            Err(error) => {
                let reason = format!("the membership is not as expected: {error}");
                self.counts.refused(&Refused::bad(reason));
                return;
            }
        };
        for member in membership.added_devices.iter().flatten() {
            if member.id.is_empty() {
                self.counts.bad_object("a member has no id");
            } else if !self.devices.contains_key(&member.id) {
                self.add(now, member, true, out);
            }
        }
        for member in membership.removed_devices.iter().flatten() {
            self.remove_device(now, &member.id, false, out);
        }
        let told = Membership { timestamp: now.unix_ms, ..membership };
        publish_on(format!("$hw/events/node/{}/membership/updated", self.node), &told, out);
        self.pump(now, out);
    }

    fn put_device(&mut self, now: Now, object: Object, out: &mut Vec<Effect>) {
        match self.devices.get_mut(&object.id) {
            Some(entry) => {
                entry.only_member = false;
                // A device of the same name that is another one has told the cloud nothing yet.
                if self.mappers.is_another(&object) {
                    entry.device.forget_told(None);
                    self.reports.tell(&object.id);
                }
            }
            None => {
                let member = Device::new(object.name(), "").member(&object.id);
                self.add(now, &member, false, out);
                self.tell_membership(now, Some(vec![member]), None, out);
            }
        }
        self.mappers.put_device(object);
    }

    fn add(&mut self, now: Now, member: &Member, only_member: bool, out: &mut Vec<Effect>) {
        let id = &member.id;
        self.removed.remove(id);
        let device = Device::new(&member.name, &member.description);
        self.devices.insert(id.clone(), Entry { device, only_member, ..Entry::default() });
        self.store(now, id, Vec::new(), out);
    }

    fn remove_device(&mut self, now: Now, id: &str, tell: bool, out: &mut Vec<Effect>) {
        self.mappers.remove_device(id);
        let Some(mut entry) = self.devices.remove(id) else { return };
        self.reports.forget(id);
        // Who waits for rows that nobody needs any more need not wait.
        let waiting = match std::mem::take(&mut entry.storing) {
            super::Storing::Done => Vec::new(),
            super::Storing::Flying { then, next, .. } => {
                then.into_iter().chain(next.into_iter().flatten()).collect()
            }
            super::Storing::Failed(then) => then,
        };
        out.extend(waiting.into_iter().filter(|effect| matches!(effect, Effect::Settle(_))));
        self.removed.insert(id.into());
        out.push(Effect::Remove(id.into()));
        if tell {
            let Member { id, name, .. } = entry.device.member(id);
            let member = Member { id, name, ..Member::default() };
            self.tell_membership(now, None, Some(vec![member]), out);
        }
    }

    fn tell_membership(
        &self,
        now: Now,
        added_devices: Option<Vec<Member>>,
        removed_devices: Option<Vec<Member>>,
        out: &mut Vec<Effect>,
    ) {
        let base = self.base(now);
        let membership = Membership {
            event_id: base.event_id,
            timestamp: base.timestamp,
            added_devices,
            removed_devices,
        };
        publish_on(format!("$hw/events/node/{}/membership/updated", self.node), &membership, out);
    }
}
