//! The control groups of a containerd's pods: below one that is named after its folder, so that tests
//! side by side have nothing in common.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Returns the group that the pods of a test are to be in, for its folder: `cgroupRoot` of edged.
#[must_use]
pub fn group(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("/{}", name.trim_start_matches('.'))
}

/// Returns where the group is: once, or in the tree of every controller.
fn places(folder: &Path) -> Vec<PathBuf> {
    let name = group(folder);
    let mount = PathBuf::from(MOUNT);
    let entries = fs::read_dir(&mount).into_iter().flatten().flatten().map(|entry| entry.path());
    let trees = entries.chain([mount.clone()]);
    let place = |tree: PathBuf| tree.join(name.trim_start_matches('/'));
    trees.map(place).filter(|place| place.is_dir()).collect()
}

/// Returns the groups of pods.
pub(crate) fn of_pods(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut look = places(folder);
    while let Some(place) = look.pop() {
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("pod") {
            found.push(place);
            continue;
        }
        look.extend(folders(&place));
    }
    found
}

fn folders(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    entries.map(|entry| entry.path()).collect()
}

/// Removes the group of a folder with all in it; nothing runs there any more.
///
/// # Errors
/// When something does, or the kernel refuses.
pub fn remove(folder: &Path) -> Result<()> {
    places(folder).iter().try_for_each(|place| remove_below(place))
}

fn remove_below(place: &Path) -> Result<()> {
    folders(place).iter().try_for_each(|folder| remove_below(folder))?;
    fs::remove_dir(place).with_context(|| format!("cannot remove {}", place.display()))
}
