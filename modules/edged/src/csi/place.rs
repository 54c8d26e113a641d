//! Where volumes of drivers are, and what is noted beside them: kubelet's folders and files, so that
//! each takes over what the other has mounted.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::volumes::pod_folder;

/// The folder of drivers' volumes in a pod's.
const KIND: &str = "volumes/kubernetes.io~csi";

const FILE: &str = "vol_data.json";

/// What is noted of a volume beside its mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Note {
    #[serde(rename = "specVolID", skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(rename = "volumeHandle")]
    pub(super) handle: String,
    #[serde(rename = "driverName")]
    pub(super) driver: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) node_name: String,
    #[serde(rename = "attachmentID", skip_serializing_if = "String::is_empty")]
    pub(super) attachment: String,
    #[serde(rename = "volumeLifecycleMode", skip_serializing_if = "String::is_empty")]
    pub(super) lifecycle: String,
}

/// Writes a hash as Go does.
pub(crate) fn sum(text: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref())
}

/// Returns the name of the object that tells whether a volume is attached to a node.
pub(super) fn attachment(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", sum(&format!("{handle}{driver}{node}")))
}

/// Returns the handle of a volume that lives and dies with its pod.
pub(super) fn inline_handle(uid: &str, volume: &str) -> String {
    format!("csi-{}", sum(&format!("{uid}{volume}")))
}

/// Returns where a volume is put on the node; what is noted of it stands beside.
pub(super) fn staged(root: &Path, driver: &str, handle: &str) -> PathBuf {
    root.join("plugins/kubernetes.io/csi").join(driver).join(sum(handle)).join("globalmount")
}

/// Returns where a volume is put in a pod; what is noted of it stands beside.
pub(super) fn published(root: &Path, uid: &str, volume: &str) -> PathBuf {
    pod_folder(root, uid).join(KIND).join(volume).join("mount")
}

/// Returns the folders of a pod's volumes, with what is noted in each that has a note.
pub(super) fn of_pod(root: &Path, uid: &str) -> io::Result<Vec<(PathBuf, Note)>> {
    let entries = match fs::read_dir(pod_folder(root, uid).join(KIND)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for entry in entries {
        let folder = entry?.path();
        match fs::read(folder.join(FILE)) {
            Ok(text) => all.push((folder, serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Tells whether another pod than this one has a volume, or is about to have it.
pub(super) fn has_others(root: &Path, uid: &str, of: &Note) -> io::Result<bool> {
    for entry in fs::read_dir(root.join("pods"))? {
        let other = entry?.file_name().to_string_lossy().into_owned();
        let same = |note: &Note| (&note.driver, &note.handle) == (&of.driver, &of.handle);
        if other != uid && of_pod(root, &other)?.iter().any(|(_, note)| same(note)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Notes a volume beside its mount, whose folder is made.
pub(super) fn note(mount: &Path, note: &Note) -> io::Result<()> {
    let folder = mount.parent().unwrap_or(mount);
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    fs::write(folder.join(FILE), serde_json::to_vec(note)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kubelets() {
        let name = attachment("vol", "driver", "node");
        assert_eq!(name, format!("csi-{}", sum("voldrivernode")));
        assert_eq!(sum(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let staged = staged(Path::new("/r"), "d.org", "h").display().to_string();
        assert!(staged.starts_with("/r/plugins/kubernetes.io/csi/d.org/"), "{staged}");
        assert!(staged.ends_with("/globalmount"), "{staged}");
        let published = published(Path::new("/r"), "u", "pv");
        assert_eq!(published, Path::new("/r/pods/u/volumes/kubernetes.io~csi/pv/mount"));
    }

    #[test]
    fn who_else_has_a_volume_is_known_from_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let of = |handle: &str| Note {
            handle: handle.to_owned(),
            driver: "d".to_owned(),
            ..Note::default()
        };
        note(&published(root, "one", "pv"), &of("h")).unwrap();
        note(&published(root, "two", "other"), &of("i")).unwrap();
        assert!(!has_others(root, "one", &of("h")).unwrap());
        note(&published(root, "two", "pv"), &of("h")).unwrap();
        assert!(has_others(root, "one", &of("h")).unwrap());
        assert_eq!(of_pod(root, "one").unwrap().len(), 1);
        assert_eq!(of_pod(root, "none").unwrap(), []);
    }
}
