//! What came to the cloud, held against what it may have been: each topic's messages in order, each
//! property's versions never back.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result, ensure};
use ipc_proto::{Message, MessageId, Operation};
use serde_json::Value;

use crate::rig::cloud::Cloud;

/// A property as the cloud was told of it last. A report whose acknowledgement was lost comes again, as
/// a new version; so an older value can follow a newer one for a moment, and versions alone count up.
#[derive(Debug)]
struct Told {
    version: i64,
    value: u64,
}

/// What the cloud was told.
#[derive(Debug, Default)]
pub(in crate::chaos) struct Ledger {
    looked: u64,
    /// The numbers of each topic, in the order of their first arrival.
    arrived: BTreeMap<String, Vec<u64>>,
    /// Messages that came more than once.
    pub(in crate::chaos) again: u64,
    /// Reports of devices.
    pub(in crate::chaos) reports: u64,
    /// The identities of those: one that the cloud did not confirm before it went away comes again.
    seen: HashSet<MessageId>,
    /// Each property of each device.
    told: BTreeMap<String, Told>,
}

impl Ledger {
    /// Reads what has come since the last look.
    ///
    /// # Errors
    /// When something came that must not, or the cloud's log was not read in time.
    pub(in crate::chaos) fn look(&mut self, cloud: &Cloud) -> Result<()> {
        let since = self.looked;
        let new = cloud.with(|cloud| async move { cloud.received(since).await })?;
        for received in new {
            ensure!(received.sequence == self.looked + 1, "the cloud's log was not read in time");
            self.looked = received.sequence;
            self.read(&received.message)?;
        }
        Ok(())
    }

    fn read(&mut self, message: &Message) -> Result<()> {
        let resource = message.route.resource.to_string();
        if message.route.operation == Operation::Upload {
            let number: u64 = message.content.decode::<String>()?.parse()?;
            return self.note_message(resource, number);
        }
        let device = resource.strip_suffix("/twin/edge_updated");
        if let Some(device) = device.filter(|_| message.route.operation == Operation::Update) {
            if !self.seen.insert(message.header.id.clone()) {
                self.again += 1;
                return Ok(());
            }
            self.reports += 1;
            let report: Value = message.content.decode()?;
            for (name, twin) in report["twin"].as_object().into_iter().flatten() {
                self.note_property(format!("{device} {name}"), twin)?;
            }
        }
        Ok(())
    }

    fn note_message(&mut self, topic: String, number: u64) -> Result<()> {
        let numbers = self.arrived.entry(topic).or_default();
        if numbers.binary_search(&number).is_ok() {
            self.again += 1;
            return Ok(());
        }
        let last = numbers.last();
        ensure!(last < Some(&number), "{number} came after {last:?} on one topic");
        numbers.push(number);
        Ok(())
    }

    fn note_property(&mut self, name: String, twin: &Value) -> Result<()> {
        let version = twin["actual_version"]["edge"].as_i64().context("a report has no version")?;
        let value = twin["actual"]["value"].as_str().context("a report has no value")?.parse()?;
        if let Some(last) = self.told.get(&name) {
            ensure!(
                last.version <= version && (last.version != version || last.value == value),
                "{name}: version {version} is {value}, and came after {last:?}"
            );
        }
        self.told.insert(name, Told { version, value });
        Ok(())
    }

    /// Returns how many messages came, each counted once.
    pub(in crate::chaos) fn count(&self) -> u64 {
        self.arrived.values().map(|numbers| numbers.len() as u64).sum()
    }

    /// Tells whether this was the last value of every property that there is.
    pub(in crate::chaos) fn all_are(&self, value: u64) -> bool {
        !self.told.is_empty() && self.told.values().all(|told| told.value == value)
    }

    /// Tells whether a message came on a topic.
    pub(in crate::chaos) fn has(&self, topic: &str, number: u64) -> bool {
        self.arrived.get(topic).is_some_and(|numbers| numbers.binary_search(&number).is_ok())
    }
}
