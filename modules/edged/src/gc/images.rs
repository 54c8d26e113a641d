//! Which images may go, and which first: kubelet's rules. Pure. Times are milliseconds of a clock that
//! does not jump.

use std::collections::{BTreeMap, HashSet};

use crate::cri::words as w;

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Percent of the disk that are in use when images have to go; at 100 none ever has to.
    pub(crate) high: u64,
    /// Percent of the disk that are to be in use then.
    pub(crate) low: u64,
    /// Milliseconds that an image is here at least before it goes.
    pub(crate) least_age: i64,
    /// Milliseconds after which an image that nobody uses goes whatever room there is; 0 for never.
    pub(crate) most_age: i64,
}

/// What is remembered of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// When it was seen first.
    first: i64,
    /// When it was in use last; nothing when never.
    last: Option<i64>,
    size: u64,
    /// Whether the runtime itself needs it.
    pinned: bool,
}

/// An image that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) id: String,
    pub(crate) size: u64,
}

/// The images that were seen.
#[derive(Debug, Default)]
pub(crate) struct Images(BTreeMap<String, Record>);

impl Images {
    /// Takes the list of all images, and the ids of those in use. `sandbox` is the image of sandboxes,
    /// by any of its names: without it no pod would start.
    pub(crate) fn learn(
        &mut self,
        list: &[w::Image],
        used: &HashSet<String>,
        sandbox: &[&str],
        now: i64,
    ) {
        let mut before = std::mem::take(&mut self.0);
        for image in list.iter().filter(|image| !image.id.is_empty()) {
            let mut names = image.repo_tags.iter().chain(&image.repo_digests).chain([&image.id]);
            let known = before.remove(&image.id);
            let first = known.as_ref().map_or(now, |known| known.first);
            let last = known.and_then(|known| known.last);
            let is_used = names.clone().any(|name| used.contains(name));
            let of_sandboxes = names.any(|name| sandbox.iter().any(|it| is_same(it, name)));
            let record = Record {
                first,
                last: if is_used { Some(now) } else { last },
                size: image.size,
                pinned: image.pinned || of_sandboxes,
            };
            self.0.insert(image.id.clone(), record);
        }
    }

    /// Returns the images that nobody uses and that are here for long enough: who was in use the
    /// longest ago goes first.
    pub(crate) fn spare(&self, policy: &Policy, now: i64) -> Vec<Spare> {
        self.unused(now, |record| now - record.first >= policy.least_age)
    }

    /// Returns the images that nobody has used for too long.
    pub(crate) fn outdated(&self, policy: &Policy, now: i64) -> Vec<Spare> {
        // It counts from when this process began: of the time before it knows nothing.
        let is_old = |it: &Record| now - it.last.unwrap_or(it.first) > policy.most_age;
        if policy.most_age == 0 { Vec::new() } else { self.unused(now, is_old) }
    }

    fn unused(&self, now: i64, fits: impl Fn(&Record) -> bool) -> Vec<Spare> {
        let may_go = |it: &(&String, &Record)| !it.1.pinned && it.1.last != Some(now) && fits(it.1);
        let mut all: Vec<_> = self.0.iter().filter(may_go).collect();
        all.sort_by_key(|(_, record)| (record.last, record.first));
        all.into_iter().map(|(id, it)| Spare { id: id.clone(), size: it.size }).collect()
    }
}

/// Tells whether a short name of an image and a full one name the same.
fn is_same(name: &str, full: &str) -> bool {
    let name = name.trim_start_matches("docker.io/").trim_start_matches("library/");
    let full = full.trim_start_matches("docker.io/").trim_start_matches("library/");
    !name.is_empty() && name == full
}

impl Policy {
    /// Tells whether images are ever to go.
    pub(crate) const fn is_off(&self) -> bool {
        self.high == 100 && self.most_age == 0
    }

    /// Returns the percent in use and the bytes to be freed, when there is too little room.
    pub(crate) fn lacking(&self, available: u64, capacity: u64) -> Option<(u64, u64)> {
        let (available, capacity) = (u128::from(available.min(capacity)), u128::from(capacity));
        let used = 100 - u64::try_from(available * 100 / capacity.max(1)).unwrap_or(100);
        let wanted = capacity * u128::from(100 - self.low) / 100;
        let missing = u64::try_from(wanted.saturating_sub(available)).unwrap_or(u64::MAX);
        (used >= self.high && capacity > 0).then_some((used, missing))
    }
}

/// Says that too little could be freed, as kubelet does.
pub(crate) fn failed(used: u64, capacity: u64, freed: u64) -> String {
    format!(
        "Insufficient free disk space on the node's image filesystem ({used}% of {} used). Failed to \
        free sufficient space by deleting unused images (freed {freed} bytes). Investigate disk usage, \
        as it could be used by active images, logs, volumes, or other data.",
        people(capacity)
    )
}

/// Writes bytes for people.
fn people(bytes: u64) -> String {
    let mut unit = (1, "B");
    for (next, name) in [(10, "KiB"), (20, "MiB"), (30, "GiB"), (40, "TiB")] {
        if bytes >= 1 << next {
            unit = (1_u64 << next, name);
        }
    }
    let tenths = u128::from(bytes) * 10 / u128::from(unit.0);
    match unit {
        (1, name) => format!("{bytes} {name}"),
        (_, name) => format!("{}.{} {name}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests;
