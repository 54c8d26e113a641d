//! Devices and models as the cloud's objects, and its word of which devices are the node's.

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::{Core, Effect, Entry, Flying, Now, Refused, Storing, publish_on};
use crate::device::Device;
use crate::model::{self, Object};
use crate::payload::{Member, Membership, split};

impl Core {
    /// Takes the whole set of the node's devices.
    pub(crate) fn on_devices(&mut self, now: Now, array: &[u8], out: &mut Vec<Effect>) {
        let Some(objects) = self.read_set(array) else { return };
        let (mut there, mut added) = (BTreeSet::new(), Vec::new());
        for object in objects {
            // One after the other: all at once they are longer than all else that is kept of them.
            let Some(object) = self.read(object.get().as_bytes()) else { continue };
            added.extend(self.put_device(now, &object, out));
            there.insert(object.id);
        }
        let gone =
            self.devices.iter().filter(|(id, entry)| !there.contains(*id) && !entry.only_member);
        let gone: Vec<_> = gone.map(|(id, _)| id.clone()).collect();
        let gone = gone.iter().filter_map(|id| self.remove_device(id, out));
        let gone: Vec<_> = gone.collect();
        self.tell_membership(now, added, gone, out);
        self.pump(now, out);
    }

    /// Takes the whole set of the models.
    pub(crate) fn on_models(&mut self, now: Now, array: &[u8], out: &mut Vec<Effect>) {
        let Some(objects) = self.read_set(array) else { return };
        let objects = objects.into_iter().filter_map(|it| self.read(it.get().as_bytes()));
        let objects: Vec<_> = objects.collect();
        self.mappers.keep_models(&objects.iter().map(|object| object.id.clone()).collect());
        for object in objects {
            self.mappers.put_model(object);
        }
        self.pump(now, out);
    }

    fn read_set<'a>(&mut self, array: &'a [u8]) -> Option<Vec<&'a RawValue>> {
        let objects = split(array);
        if objects.is_none() {
            self.counts.bad_object("a set of objects is no list");
        }
        objects
    }

    fn read(&mut self, object: &[u8]) -> Option<Object> {
        model::read(object).inspect_err(|reason| self.counts.bad_object(reason)).ok()
    }

    /// Takes a device that came or changed.
    pub(crate) fn on_device(&mut self, now: Now, object: &[u8], out: &mut Vec<Effect>) {
        if let Some(object) = self.read(object) {
            let added = self.put_device(now, &object, out).into_iter().collect();
            self.tell_membership(now, added, Vec::new(), out);
        }
        self.pump(now, out);
    }

    /// Takes a model that came or changed.
    pub(crate) fn on_model(&mut self, now: Now, object: &[u8], out: &mut Vec<Effect>) {
        if let Some(object) = self.read(object) {
            self.mappers.put_model(object);
        }
        self.pump(now, out);
    }

    /// Takes the news that a device is gone.
    pub(crate) fn on_device_gone(&mut self, now: Now, id: &str, out: &mut Vec<Effect>) {
        let gone = self.remove_device(id, out).into_iter().collect();
        self.tell_membership(now, Vec::new(), gone, out);
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
            self.remove_device(&member.id, out);
        }
        let told = Membership { timestamp: now.unix_ms, ..membership };
        publish_on(format!("$hw/events/node/{}/membership/updated", self.node), &told, out);
        self.pump(now, out);
    }

    /// Takes a device; returns it as a member where it is new.
    fn put_device(&mut self, now: Now, object: &Object, out: &mut Vec<Effect>) -> Option<Member> {
        let is_another = self.mappers.put_device(object);
        let Some(entry) = self.devices.get_mut(&object.id) else {
            let member = Device::new(object.name(), "").member(&object.id);
            self.add(now, &member, false, out);
            return Some(member);
        };
        entry.only_member = false;
        // A device of the same name that is another one has told the cloud nothing yet.
        if is_another {
            entry.device.change(|device| device.forget_told(None));
            self.reports.tell(&object.id);
        }
        None
    }

    fn add(&mut self, now: Now, member: &Member, only_member: bool, out: &mut Vec<Effect>) {
        let id = &member.id;
        self.removed.remove(id);
        let device = Device::new(&member.name, &member.description).pack();
        self.devices.insert(id.clone(), Entry { device, only_member, ..Entry::default() });
        self.store(now, id, Vec::new(), out);
    }

    /// Removes a device; returns it as the member that it was.
    fn remove_device(&mut self, id: &str, out: &mut Vec<Effect>) -> Option<Member> {
        self.mappers.remove_device(id);
        let mut entry = self.devices.remove(id)?;
        self.reports.forget(id);
        // Who waits for rows that nobody needs any more need not wait.
        let waiting = match std::mem::take(&mut entry.storing) {
            Storing::Done => Vec::new(),
            Storing::Flying(flying) => {
                let Flying { then, next, .. } = *flying;
                then.into_iter().chain(next.into_iter().flatten()).collect()
            }
            Storing::Waiting(then) => then,
        };
        out.extend(waiting.into_iter().filter(|effect| matches!(effect, Effect::Settle(_))));
        self.removed.insert(id.into());
        out.push(Effect::Remove(id.into()));
        let Member { id, name, .. } = entry.device.open().member(id);
        Some(Member { id, name, ..Member::default() })
    }

    /// Says which devices came and went, if any did.
    fn tell_membership(
        &self,
        now: Now,
        added: Vec<Member>,
        removed: Vec<Member>,
        out: &mut Vec<Effect>,
    ) {
        if added.is_empty() && removed.is_empty() {
            return;
        }
        let some = |members: Vec<Member>| (!members.is_empty()).then_some(members);
        let (added_devices, removed_devices) = (some(added), some(removed));
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
