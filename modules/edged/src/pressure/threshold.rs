//! What the node watches, and below which amount it acts: kubelet's signals and thresholds. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Kept;

/// Something that the node can run short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// Memory of the node.
    Memory,
    /// Memory of what all pods may have together.
    PodMemory,
    /// Bytes of the file system of the pods' folder.
    NodeFs,
    /// Its inodes.
    NodeInodes,
    /// Bytes of the file system of the images.
    ImageFs,
    /// Its inodes.
    ImageInodes,
    /// Processes and threads.
    Pids,
}

/// The signals by the names that the configuration has for them.
const NAMES: [(&str, Signal); 6] = [
    ("memory.available", Signal::Memory),
    ("nodefs.available", Signal::NodeFs),
    ("nodefs.inodesFree", Signal::NodeInodes),
    ("imagefs.available", Signal::ImageFs),
    ("imagefs.inodesFree", Signal::ImageInodes),
    ("pid.available", Signal::Pids),
];

/// Names that count for nothing: that file system is the pods' or the images'.
const IGNORED: [&str; 2] = ["containerfs.available", "containerfs.inodesFree"];

/// What pods use up, as the API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    Storage,
    Inodes,
    Pids,
}

impl Resource {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Storage => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }
}

/// A condition of a node that is short of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Pressure {
    #[serde(rename = "DiskPressure")]
    Disk,
    #[serde(rename = "MemoryPressure")]
    Memory,
    #[serde(rename = "PIDPressure")]
    Pid,
}

impl Pressure {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Disk => "DiskPressure",
            Self::Memory => "MemoryPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

impl Signal {
    pub(crate) const fn resource(self) -> Resource {
        match self {
            Self::Memory | Self::PodMemory => Resource::Memory,
            Self::NodeFs | Self::ImageFs => Resource::Storage,
            Self::NodeInodes | Self::ImageInodes => Resource::Inodes,
            Self::Pids => Resource::Pids,
        }
    }

    pub(crate) const fn pressure(self) -> Pressure {
        match self {
            Self::Memory | Self::PodMemory => Pressure::Memory,
            Self::NodeFs | Self::NodeInodes | Self::ImageFs | Self::ImageInodes => Pressure::Disk,
            Self::Pids => Pressure::Pid,
        }
    }
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) available: u64,
    pub(crate) capacity: u64,
}

/// What was read; a signal that could not be read is not there.
pub(crate) type Readings = BTreeMap<Signal, Reading>;

/// An amount of something below which the node acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threshold {
    pub(crate) signal: Signal,
    pub(crate) value: Kept,
    /// Milliseconds that it has to be met for; a hard one acts at once.
    pub(crate) grace: i64,
    /// How much beyond the value there has to be before it is not met any more.
    pub(crate) reclaim: Option<Kept>,
}

impl Threshold {
    /// Tells whether there is less than the value, or than the value and what is to be reclaimed.
    pub(crate) fn is_met(&self, readings: &Readings, with_reclaim: bool) -> bool {
        readings.get(&self.signal).is_some_and(|reading| {
            let more = self.reclaim.filter(|_| with_reclaim);
            let more = more.map_or(0, |reclaim| reclaim.amount(reading.capacity));
            self.value.amount(reading.capacity).saturating_add(more) > reading.available
        })
    }

    pub(crate) const fn is_hard(&self) -> bool {
        self.grace == 0
    }

    /// Returns what it is remembered under.
    pub(crate) fn key(&self) -> String {
        format!("{:?} {:?} {}", self.signal, self.value, self.grace)
    }
}

/// The tables of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Tables<'a> {
    pub(crate) hard: BTreeMap<&'a str, &'a str>,
    pub(crate) soft: BTreeMap<&'a str, &'a str>,
    /// By signal, for how long a soft one has to be met.
    pub(crate) grace: BTreeMap<&'a str, &'a str>,
    pub(crate) reclaim: BTreeMap<&'a str, &'a str>,
    /// Whether the memory of all pods together is bounded, and so watched.
    pub(crate) bounded: bool,
}

/// Reads the thresholds; what is wrong goes to `errors`.
pub(crate) fn thresholds(tables: &Tables<'_>, errors: &mut Vec<String>) -> Vec<Threshold> {
    let reclaim = amounts("evictionMinimumReclaim", &tables.reclaim, errors);
    let reclaim: BTreeMap<Signal, Kept> = reclaim.into_iter().map(|(_, it, by)| (it, by)).collect();
    let threshold = |signal, value, grace| {
        let reclaim = reclaim.get(&signal).copied();
        Threshold { signal, value, grace, reclaim }
    };
    let mut all = Vec::new();
    // Nothing and everything are no thresholds.
    let counts = |value: &Kept| !matches!(value, Kept::Share(0 | 1000));
    for (_, signal, value) in amounts("evictionHard", &tables.hard, errors) {
        if counts(&value) {
            all.push(threshold(signal, value, 0));
        }
    }
    for (name, signal, value) in amounts("evictionSoft", &tables.soft, errors) {
        let said = tables.grace.get(name).copied();
        match said.map(crate::duration::parse) {
            Some(Some(grace)) if counts(&value) => all.push(threshold(signal, value, grace)),
            Some(Some(_)) => {}
            Some(None) => {
                let said = said.unwrap_or_default();
                errors.push(format!(
                    "evictionSoftGracePeriod {name} is '{said}', expected a duration such as 1m30s"
                ));
            }
            None => errors.push(format!(
                "evictionSoft has {name}, expected its grace period in evictionSoftGracePeriod"
            )),
        }
    }
    if tables.bounded {
        let of_node = |it: &&Threshold| it.signal == Signal::Memory && it.is_hard();
        let of_pods =
            all.iter().find(of_node).map(|it| Threshold { signal: Signal::PodMemory, ..*it });
        all.extend(of_pods);
    }
    all
}

fn amounts<'a>(
    table: &str,
    texts: &BTreeMap<&'a str, &'a str>,
    errors: &mut Vec<String>,
) -> Vec<(&'a str, Signal, Kept)> {
    let mut read = Vec::new();
    for (name, text) in texts {
        let signal = NAMES.into_iter().find(|(known, _)| known == name);
        match (signal, Kept::parse(text)) {
            (None, _) if IGNORED.contains(name) => {}
            (None, _) => {
                let known = NAMES.map(|(name, _)| name).join(", ");
                errors.push(format!("{table} has '{name}', expected one of {known}"));
            }
            (Some((_, signal)), Some(value)) => read.push((*name, signal, value)),
            (Some(_), None) => {
                errors.push(format!("{table} {name} is '{text}', expected 100Mi or 10%"));
            }
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_and_what_is_wrong_is_said() {
        let mut errors = Vec::new();
        let mut tables = Tables {
            hard: [
                ("memory.available", "100Mi"),
                ("nodefs.available", "0%"),
                ("pid.available", "5%"),
            ]
            .into(),
            soft: [("imagefs.available", "20%")].into(),
            grace: [("imagefs.available", "1m30s")].into(),
            reclaim: [("memory.available", "1Gi")].into(),
            bounded: true,
        };
        let read = thresholds(&tables, &mut errors);
        assert_eq!(errors, [""; 0]);
        let memory = Kept::Bytes(100 << 20);
        let reclaim = Some(Kept::Bytes(1 << 30));
        let of = |signal, value, grace, reclaim| Threshold { signal, value, grace, reclaim };
        assert_eq!(
            read,
            [
                of(Signal::Memory, memory, 0, reclaim),
                of(Signal::Pids, Kept::Share(50), 0, None),
                of(Signal::ImageFs, Kept::Share(200), 90_000, None),
                of(Signal::PodMemory, memory, 0, None),
            ]
            .map(|it| if it.signal == Signal::PodMemory {
                Threshold { reclaim, ..it }
            } else {
                it
            })
        );
        tables.soft = [("memory.available", "1Gi"), ("disk", "1"), ("pid.available", "x")].into();
        tables.grace = [("pid.available", "1"), ("memory.available", "soon")].into();
        assert_eq!(thresholds(&tables, &mut errors).len(), 3);
        for word in ["'disk'", "'x'", "'soon'"] {
            assert!(errors.iter().any(|it| it.contains(word)), "{word} is missing in {errors:?}");
        }
    }
}
