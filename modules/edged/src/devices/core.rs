//! Which devices there are, and which container has which. Pure: what plug-ins and pods say goes in,
//! choices come out. The rules and the words are kubelet's.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::words as w;

/// How long the devices of a plug-in that left are told of as capacity, in milliseconds.
const GRACE: i64 = 300_000;

/// Resources of plug-ins at the most, and devices of one.
const MAX_RESOURCES: usize = 256;
const MAX_DEVICES: usize = 16_384;

/// The place of devices that have none in particular.
pub(crate) const NOWHERE: i64 = -1;

/// The devices of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// By id.
    pub(crate) devices: BTreeMap<String, Device>,
    /// Which plug-in is there, by number; none when it left, or was not there yet.
    pub(crate) plugin: Option<u64>,
    /// When it left: Unix milliseconds.
    gone: i64,
    /// Whether a plug-in was there since this process began.
    came: bool,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) healthy: bool,
    /// The parts of the machine that it is near to.
    pub(crate) nodes: Vec<i64>,
}

/// Devices that a container has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Held {
    pub(crate) uid: String,
    pub(crate) container: String,
    pub(crate) resource: String,
    /// By place; [`NOWHERE`] for those without.
    pub(crate) devices: BTreeMap<i64, BTreeSet<String>>,
    /// What the plug-in says the container needs; nothing while it is asked.
    pub(crate) answer: Option<w::ContainerAllocateResponse>,
}

impl Held {
    /// Returns the devices' ids.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.devices.values().flatten().cloned().collect()
    }

    fn is_of(&self, want: &Want) -> bool {
        (&self.uid, &self.container, &self.resource) == (&want.uid, &want.container, &want.resource)
    }
}

/// What a container wants of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) uid: String,
    pub(crate) container: String,
    pub(crate) resource: String,
    pub(crate) count: usize,
    /// The init containers of the pod that have ended when this one runs, or ended before: what
    /// they have is used again.
    pub(crate) before: Vec<String>,
}

/// Why there are no devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) why: String,
    /// Whether the plug-in has not come back yet since this process began.
    pub(crate) soon: bool,
}

/// What a container can have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// What it is to have in any case: its pod had it before.
    pub(crate) must: BTreeSet<String>,
    /// What is free beside.
    pub(crate) free: BTreeSet<String>,
}

/// Everything about devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Core {
    /// By the resource's name.
    pub(crate) resources: BTreeMap<String, Known>,
    pub(crate) held: Vec<Held>,
}

impl Core {
    /// Goes on with what was known before; plug-ins come back by themselves.
    pub(crate) fn new(
        resources: impl IntoIterator<Item = String>,
        held: Vec<Held>,
        now: i64,
    ) -> Self {
        let known = |name| (name, Known { gone: now, ..Known::default() });
        Self { resources: resources.into_iter().map(known).collect(), held }
    }

    /// Takes it that a plug-in came; another of the same resource is replaced.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn came(&mut self, resource: &str, plugin: u64) -> Result<(), String> {
        if !self.resources.contains_key(resource) && self.resources.len() >= MAX_RESOURCES {
            return Err(format!("there are plug-ins of {MAX_RESOURCES} resources already"));
        }
        let known = self.resources.entry(resource.to_owned()).or_default();
        (known.plugin, known.came) = (Some(plugin), true);
        Ok(())
    }

    /// Takes all devices that a plug-in has. What one says that was replaced counts no more.
    pub(crate) fn listed(&mut self, resource: &str, plugin: u64, devices: Vec<w::Device>) {
        let Some(known) = self.resources.get_mut(resource) else { return };
        if known.plugin != Some(plugin) {
            return;
        }
        let device = |it: w::Device| {
            let nodes = it.topology.unwrap_or_default().nodes;
            let nodes = nodes.into_iter().map(|node| node.id).filter(|id| *id >= 0).collect();
            (it.id, Device { healthy: it.health == w::HEALTHY, nodes })
        };
        let named = devices.into_iter().filter(|it| !it.id.is_empty());
        known.devices = named.take(MAX_DEVICES).map(device).collect();
    }

    /// Takes it that a plug-in left: its devices stay where they are, and cannot be given away.
    pub(crate) fn left(&mut self, resource: &str, plugin: u64, now: i64) {
        let Some(known) = self.resources.get_mut(resource) else { return };
        if known.plugin == Some(plugin) {
            (known.plugin, known.gone) = (None, now);
            known.devices.values_mut().for_each(|device| device.healthy = false);
        }
    }

    /// Returns what of a resource a container can have; nothing when it has it already.
    ///
    /// # Errors
    /// Why there is not enough.
    pub(crate) fn offer(&self, want: &Want) -> Result<Option<Offer>, Lack> {
        let Want { uid, container, resource, count, before } = want;
        let lack = |why: String| Lack { why, soon: false };
        let settled = |held: &&Held| held.is_of(want) && held.answer.is_some();
        if let Some(held) = self.held.iter().find(settled) {
            let has = held.ids().len();
            if has == *count {
                return Ok(None);
            }
            return Err(lack(format!(
                "pod \"{uid}\" container \"{container}\" changed request for resource \
                 \"{resource}\" from {has} to {count}"
            )));
        }
        let Some(known) = self.resources.get(resource) else {
            return Err(lack(format!("cannot allocate unregistered device {resource}")));
        };
        let healthy = known.devices.iter().filter(|(_, device)| device.healthy);
        let healthy: BTreeSet<String> = healthy.map(|(id, _)| id.clone()).collect();
        if healthy.is_empty() {
            let why =
                format!("no healthy devices present; cannot allocate unhealthy devices {resource}");
            return Err(Lack { soon: !known.came, ..lack(why) });
        }
        let of = |held: &&Held| held.resource == *resource && !held.is_of(want);
        let (own, others): (Vec<&Held>, Vec<&Held>) = self
            .held
            .iter()
            .filter(of)
            .partition(|held| held.uid == *uid && before.contains(&held.container));
        let taken: BTreeSet<String> = others.iter().flat_map(|held| held.ids()).collect();
        let mine: BTreeSet<String> = own.iter().flat_map(|held| held.ids()).collect();
        let must: BTreeSet<String> = mine
            .intersection(&healthy)
            .filter(|id| !taken.contains(*id))
            .take(*count)
            .cloned()
            .collect();
        let free: BTreeSet<String> =
            healthy.into_iter().filter(|id| !taken.contains(id) && !mine.contains(id)).collect();
        let needed = count - must.len();
        if free.len() < needed {
            return Err(lack(format!(
                "requested number of devices unavailable for {resource}. Requested: {needed}, \
                 Available: {}",
                free.len()
            )));
        }
        Ok(Some(Offer { must, free }))
    }

    /// Gives a container its devices, those among them first that the plug-in would rather give;
    /// nothing when it has them already.
    ///
    /// # Errors
    /// Why there is not enough.
    pub(crate) fn reserve(
        &mut self,
        want: &Want,
        preferred: &[String],
    ) -> Result<Option<BTreeSet<String>>, Lack> {
        let Some(Offer { must, free }) = self.offer(want)? else { return Ok(None) };
        // Somebody asked before and did not hear the answer.
        self.held.retain(|held| !held.is_of(want));
        let rather = preferred.iter().filter(|id| free.contains(*id));
        let mut ids = must;
        for id in rather.chain(&free) {
            if ids.len() >= want.count {
                break;
            }
            ids.insert(id.clone());
        }
        let known = self.resources.get(&want.resource);
        let mut devices = BTreeMap::<i64, BTreeSet<String>>::new();
        for id in &ids {
            let nodes = known.and_then(|known| known.devices.get(id)).map(|device| &device.nodes);
            let nodes = nodes.filter(|nodes| !nodes.is_empty()).cloned();
            for node in nodes.unwrap_or_else(|| vec![NOWHERE]) {
                devices.entry(node).or_default().insert(id.clone());
            }
        }
        let Want { uid, container, resource, .. } = want.clone();
        self.held.push(Held { uid, container, resource, devices, answer: None });
        Ok(Some(ids))
    }

    /// Takes what the plug-in says a container needs for its devices; without an answer it does not
    /// get them.
    pub(crate) fn settle(&mut self, want: &Want, answer: Option<w::ContainerAllocateResponse>) {
        match answer {
            Some(answer) => {
                let held = self.held.iter_mut().find(|held| held.is_of(want));
                held.into_iter().for_each(|held| held.answer = Some(answer.clone()));
            }
            None => self.held.retain(|held| !held.is_of(want)),
        }
    }

    /// Takes back what a pod has; tells whether it had anything.
    pub(crate) fn release(&mut self, uid: &str) -> bool {
        let before = self.held.len();
        self.held.retain(|held| held.uid != uid);
        self.held.len() != before
    }

    /// Takes back what all other pods have; tells whether they had anything.
    pub(crate) fn retain(&mut self, uids: &HashSet<String>) -> bool {
        let before = self.held.len();
        self.held.retain(|held| uids.contains(&held.uid));
        self.held.len() != before
    }

    /// Returns what a container has.
    pub(crate) fn of<'a>(&'a self, uid: &str, container: &str) -> impl Iterator<Item = &'a Held> {
        self.held.iter().filter(move |held| held.uid == uid && held.container == container)
    }
}

impl Known {
    /// Returns how many devices there are, and how many of them can be used.
    pub(crate) fn amount(&self, now: i64) -> (usize, usize) {
        if self.plugin.is_none() && now.saturating_sub(self.gone) >= GRACE {
            return (0, 0);
        }
        let healthy = self.devices.values().filter(|device| device.healthy).count();
        (self.devices.len(), healthy)
    }
}

/// Tells whether a name can be that of a plug-in's resource: a domain that is not Kubernetes' own,
/// and a name.
pub(crate) fn is_extended(name: &str) -> bool {
    let Some((domain, rest)) = name.split_once('/') else { return false };
    let edge = |letter: char| letter.is_ascii_alphanumeric();
    let part = |text: &str, more: &str| {
        text.starts_with(edge)
            && text.ends_with(edge)
            && text.chars().all(|letter| edge(letter) || more.contains(letter))
    };
    !domain.ends_with("kubernetes.io")
        && !name.starts_with("requests.")
        && domain.len() <= 244
        && rest.len() <= 63
        && part(domain, "-.")
        && part(rest, "-._")
}
