//! Plug-ins that register by a socket in the folder `plugins_registry`: each is asked what it is, and
//! told whether it was taken. One that goes takes its socket with it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::driver::Driver;
use super::words as w;
use super::{Drivers, PATIENCE, RETRY};
use crate::cri;
use crate::statics::watch::{hear, listen};

/// How often the folder is looked at although nothing was heard.
const RECHECK: Duration = Duration::from_secs(20);

/// Files in the folder at the most.
const MOST: usize = 256;

/// What stands in the registration of storage drivers.
const TYPE: &str = "CSIPlugin";

/// A socket, as it was seen: its inode tells a new one of the same name.
#[derive(Debug)]
struct Seen {
    inode: u64,
    /// The driver that registered with it, once it did; while it is asked nothing.
    driver: Option<String>,
}

/// Keeps the drivers known, for ever.
pub(super) async fn watch(folder: PathBuf, drivers: watch::Sender<Drivers>) {
    let mut seen = BTreeMap::<PathBuf, Seen>::new();
    let mut asked = JoinSet::new();
    let mut ears = None;
    loop {
        if ears.is_none() {
            ears = listen(&folder).ok();
        }
        let now = sockets(&folder);
        forget(&mut seen, &now, &drivers);
        for (path, inode) in now {
            seen.entry(path.clone()).or_insert_with(|| {
                asked.spawn(async move {
                    let taken = take(&path).await;
                    if taken.is_err() {
                        // It is asked again, but not at once.
                        tokio::time::sleep(RETRY).await;
                    }
                    (path, inode, taken)
                });
                Seen { inode, driver: None }
            });
        }
        tokio::select! {
            heard = tokio::time::timeout(RECHECK, hear(ears.as_mut())) => {
                if matches!(heard, Ok(Err(_))) {
                    ears = None;
                }
            }
            Some(Ok((path, inode, taken))) = asked.join_next() => {
                let current = seen.get_mut(&path).filter(|seen| seen.inode == inode);
                match (current, taken) {
                    (Some(known), Ok((name, driver))) => {
                        info!(driver = %name, "a storage driver is there");
                        known.driver = Some(name.clone());
                        drivers.send_modify(|drivers| drop(drivers.insert(name, driver)));
                    }
                    (Some(_), Err(why)) => {
                        warn!("the plug-in at {} is not taken: {why}", path.display());
                        seen.remove(&path);
                    }
                    (None, _) => debug!("the plug-in at {} is another now", path.display()),
                }
            }
        }
    }
}

/// Forgets the drivers whose sockets are gone, or are others.
fn forget(
    seen: &mut BTreeMap<PathBuf, Seen>,
    now: &BTreeMap<PathBuf, u64>,
    drivers: &watch::Sender<Drivers>,
) {
    seen.retain(|path, seen| {
        let stays = now.get(path) == Some(&seen.inode);
        if !stays && let Some(name) = seen.driver.take() {
            warn!(driver = %name, "a storage driver left");
            drivers.send_modify(|drivers| drop(drivers.remove(&name)));
        }
        stays
    });
}

/// Returns the sockets in the folder with their inodes.
fn sockets(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MOST);
    let socket = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(|it| it.file_type().is_socket())?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        (!hidden).then(|| (entry.path(), metadata.ino()))
    };
    entries.filter_map(socket).collect()
}

/// Asks a plug-in what it is, and tells it whether it was taken.
async fn take(socket: &Path) -> Result<(String, Driver), String> {
    let channel = cri::channel(socket.to_owned());
    let call = ("GetInfo", "/pluginregistration.Registration/GetInfo");
    let info: w::PluginInfo = cri::ask(&channel, call, w::Empty {}, PATIENCE)
        .await
        .map_err(|trouble| trouble.to_string())?;
    let taken = admit(socket, info).await;
    let status = w::RegistrationStatus {
        plugin_registered: taken.is_ok(),
        error: taken.as_ref().err().cloned().unwrap_or_default(),
    };
    let call =
        ("NotifyRegistrationStatus", "/pluginregistration.Registration/NotifyRegistrationStatus");
    let told = cri::ask::<_, w::Empty>(&channel, call, status, PATIENCE).await;
    let driver = taken?;
    told.map_err(|trouble| trouble.to_string())?;
    Ok(driver)
}

async fn admit(socket: &Path, info: w::PluginInfo) -> Result<(String, Driver), String> {
    let w::PluginInfo { r#type, name, endpoint, supported_versions } = info;
    if r#type != TYPE {
        return Err(format!(
            "no handler registered for plugin type: {type} at socket {}",
            socket.display()
        ));
    }
    if !crate::pod::names::is_plain(&name) {
        return Err(format!("'{name}' is no name of a driver"));
    }
    let is_first =
        |version: &String| version.trim_start_matches('v').split('.').next() == Some("1");
    if !supported_versions.iter().any(is_first) {
        return Err(format!("the driver speaks versions {supported_versions:?}, expected 1.x.x"));
    }
    let endpoint = if endpoint.is_empty() { socket.to_owned() } else { PathBuf::from(endpoint) };
    Ok((name, Driver::connect(endpoint).await?))
}
