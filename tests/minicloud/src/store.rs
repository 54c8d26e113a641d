//! What outlives a minicloud: the certificate authority and the state of the cluster, as files in
//! one folder.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ipc_proto::{Group, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::Cloud;
use crate::core::cluster::Cluster;
use crate::core::ids::Ids;
use crate::hub::core::{Sync, SyncKey};
use crate::pki::Authority;

/// The state as it stands in the file.
#[derive(Deserialize, Serialize)]
struct State<O> {
    version: u64,
    objects: Vec<O>,
    syncs: Vec<SavedSync>,
}

#[derive(Deserialize, Serialize)]
struct SavedSync {
    node: Box<str>,
    uid: Box<str>,
    resource: String,
    version: u64,
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    written: Option<String>,
}

impl Store {
    /// Opens a folder, which is made if it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make folder {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), written: None })
    }

    /// Takes up the authority that is kept here, or makes one and keeps it.
    pub(crate) fn authority(&self) -> Result<Authority> {
        let (der, key) = (self.dir.join("ca.der"), self.dir.join("ca.key"));
        if let Some(der) = read(&der)? {
            let key = fs::read_to_string(&key)
                .with_context(|| format!("cannot read {}", key.display()))?;
            return Authority::load(der, &key);
        }
        let authority = Authority::create()?;
        // The key first: a certificate without its key could not be taken up again.
        write(&key, authority.key_pem().as_bytes(), 0o600)?;
        write(&der, authority.der(), 0o644)?;
        Ok(authority)
    }

    /// Takes up the cluster that is kept here, or starts an empty one.
    pub(crate) fn load(&self, ids: Ids) -> Result<(Cluster, BTreeMap<SyncKey, Sync>)> {
        let path = self.dir.join("state.json");
        let state: State<Value> = match read(&path)? {
            None => State { version: 0, objects: Vec::new(), syncs: Vec::new() },
            Some(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is no state of a minicloud", path.display()))?,
        };
        let sync = |saved: SavedSync| {
            let resource = Resource::parse(&Group::Resource, &saved.resource);
            ((saved.node, saved.uid), Sync { resource, version: saved.version })
        };
        let syncs = state.syncs.into_iter().map(sync).collect();
        Ok((Cluster::restore(ids, state.version, state.objects), syncs))
    }

    /// Writes the state if it is not what was written last.
    pub(crate) fn save(&mut self, cloud: &Cloud) -> Result<()> {
        let sync = |((node, uid), sync): (&SyncKey, &Sync)| SavedSync {
            node: node.clone(),
            uid: uid.clone(),
            resource: sync.resource.to_string(),
            version: sync.version,
        };
        let state = State {
            version: cloud.cluster().version(),
            objects: cloud.cluster().iter().map(|(_, object)| object).collect(),
            syncs: cloud.hub().syncs().iter().map(sync).collect(),
        };
        let text = serde_json::to_string(&state)?;
        if self.written.as_ref() != Some(&text) {
            write(&self.dir.join("state.json"), text.as_bytes(), 0o600)?;
            self.written = Some(text);
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Replaces a file as a whole.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let draft = path.with_extension("draft");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(&draft);
    file.and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
