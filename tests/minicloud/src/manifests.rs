//! Objects from YAML: texts of many documents, and a folder whose files are followed while the
//! cloud runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::core::key::Key;
use crate::shared::Shared;

/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 32 << 20;
/// The most files that are followed.
const MAX_FILES: usize = 10_000;

/// Reads the objects of a text: YAML documents or JSON, and the items of lists.
///
/// # Errors
/// When it is no YAML, or a document is no object.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut objects = Vec::new();
    for document in documents {
        if document["kind"] == "List" {
            objects.extend(document["items"].as_array().cloned().unwrap_or_default());
        } else if !document.is_null() {
            anyhow::ensure!(document.is_object(), "a document is no object");
            objects.push(document);
        }
    }
    Ok(objects)
}

/// A file as it was when it was read last.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

/// The files that are followed, with the objects that came from each.
#[derive(Default)]
struct Followed {
    files: BTreeMap<PathBuf, (Stamp, Vec<Key>)>,
}

/// Follows a folder until the cloud ends: objects of new and changed files are applied, those that
/// a file no longer has are deleted.
pub(crate) async fn follow(folder: PathBuf, shared: Shared) {
    let mut followed = Followed::default();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if followed.look(&folder, &shared).await.is_err() {
            return;
        }
    }
}

impl Followed {
    /// Looks once.
    ///
    /// # Errors
    /// When the cloud has ended.
    async fn look(&mut self, folder: &Path, shared: &Shared) -> Result<()> {
        let now = scan(folder);
        let gone: Vec<_> =
            self.files.keys().filter(|path| !now.contains_key(*path)).cloned().collect();
        for path in gone {
            if let Some((_, keys)) = self.files.remove(&path) {
                remove(shared, keys).await?;
            }
        }
        for (path, stamp) in now {
            if self.files.get(&path).is_none_or(|(old, _)| *old != stamp) {
                self.read(path, stamp, shared).await?;
            }
        }
        Ok(())
    }

    /// Reads a file. One that is broken keeps the objects that it had.
    #[expect(clippy::print_stderr, reason = "a test double has no log; its user must see this")]
    async fn read(&mut self, path: PathBuf, stamp: Stamp, shared: &Shared) -> Result<()> {
        let before = self.files.remove(&path).map(|(_, keys)| keys).unwrap_or_default();
        let read = std::fs::read_to_string(&path).map_err(Into::into);
        let objects = match read.and_then(|text| parse(&text)) {
            Ok(objects) => objects,
            Err(error) => {
                eprintln!("minicloud: {}: {error}", path.display());
                self.files.insert(path, (stamp, before));
                return Ok(());
            }
        };
        let applied = shared.act(move |cloud, now, out| {
            let apply = |object| cloud.apply(now, object, out).map_err(|status| status.message);
            objects.into_iter().map(apply).collect::<Vec<_>>()
        });
        let mut keys = Vec::new();
        for result in applied.await? {
            match result {
                Ok(key) => keys.push(key),
                Err(error) => eprintln!("minicloud: {}: {error}", path.display()),
            }
        }
        let lost = before.into_iter().filter(|key| !keys.contains(key)).collect();
        self.files.insert(path, (stamp, keys));
        remove(shared, lost).await
    }
}

async fn remove(shared: &Shared, keys: Vec<Key>) -> Result<()> {
    let delete = move |cloud: &mut crate::core::Cloud, now, out: &mut Vec<_>| {
        for key in &keys {
            // It may have gone by other ways.
            cloud.delete(now, key, false, out).ok();
        }
    };
    shared.act(delete).await.context("cannot delete objects")
}

/// Lists the manifests of a folder; what cannot be read is not there.
fn scan(folder: &Path) -> BTreeMap<PathBuf, Stamp> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let manifest = |path: &Path| {
        let extension = path.extension().and_then(|it| it.to_str());
        extension.is_some_and(|it| ["yaml", "yml", "json"].contains(&it))
    };
    let stamp = |path: &Path| {
        let meta =
            std::fs::metadata(path).ok().filter(|it| it.is_file() && it.len() <= MAX_FILE)?;
        Some(Stamp { modified: meta.modified().ok(), length: meta.len() })
    };
    entries
        .map(|entry| entry.path())
        .filter(|path| manifest(path))
        .filter_map(|path| stamp(&path).map(|stamp| (path, stamp)))
        .take(MAX_FILES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_stay_strings_and_lists_are_opened() {
        let text = "kind: Pod\nmetadata: {name: a, labels: {x: \"20\", y: 'true'}}\nspec: {n: 20}\n\
                    ---\nkind: List\nitems:\n- {kind: Pod, metadata: {name: b}}\n---\n";
        let objects = parse(text).unwrap();
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[0]["metadata"]["labels"]["x"], "20");
        assert_eq!(objects[0]["metadata"]["labels"]["y"], "true");
        assert_eq!(objects[0]["spec"]["n"], 20);
        assert_eq!(objects[1]["metadata"]["name"], "b");
        assert!(parse("- a\n").is_err());
        assert!(parse("{\"kind\": ").is_err());
    }
}
