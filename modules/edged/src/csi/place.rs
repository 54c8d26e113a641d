//! Where volumes of drivers are, and what is noted beside them: kubelet's folders and files, so that
//! each takes over what the other has mounted.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, symlink};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::volumes::{pod_folder, tree};

/// The folders of drivers' volumes in a pod's: file systems, and links to devices.
const MOUNTS: &str = "volumes/kubernetes.io~csi";
const DEVICES: &str = "volumeDevices/kubernetes.io~csi";

/// The folder of drivers' volumes on the node.
const ON_NODE: &str = "plugins/kubernetes.io/csi";

const FILE: &str = "vol_data.json";

/// What is noted of a volume.
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
    /// How large the driver was last told that it is, in bytes. A text, as all that kubelet reads.
    #[serde(rename = "expandedTo", skip_serializing_if = "String::is_empty")]
    pub(super) size: String,
}

/// The places of one volume in one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// The folder of the note.
    noted: PathBuf,
    /// Where the driver puts it into the pod: a folder, or a file that is a device.
    pub(super) target: PathBuf,
    /// Where the driver puts it on the node.
    pub(super) staged: PathBuf,
    /// The link that says that a pod has a device.
    link: Option<PathBuf>,
    /// What goes when no pod has it.
    shared: Vec<PathBuf>,
}

impl Spot {
    /// Names the places of a volume of a driver with this handle.
    pub(super) fn new(
        (root, uid): (&Path, &str),
        (name, driver, handle): (&str, &str, &str),
        is_device: bool,
    ) -> Self {
        let noted = noted((root, uid), name, is_device);
        let on_node = root.join(ON_NODE);
        if is_device {
            let all = on_node.join("volumeDevices");
            let published = all.join("publish").join(name);
            let staged = all.join("staging").join(name);
            return Self {
                noted,
                target: published.join(uid),
                link: Some(pod_folder(root, uid).join(DEVICES).join(name)),
                shared: vec![staged.clone(), published, all.join(name)],
                staged,
            };
        }
        let shared = on_node.join(driver).join(sum(handle));
        Self {
            target: noted.join("mount"),
            noted,
            staged: shared.join("globalmount"),
            link: None,
            shared: vec![shared],
        }
    }

    /// Tells whether the driver has put the volume into the pod since the machine started.
    pub(super) fn is_there(&self) -> io::Result<bool> {
        let device = || fs::metadata(&self.target).is_ok_and(|it| it.file_type().is_block_device());
        Ok(tree::is_mounted(&self.target)? && (self.link.is_none() || device()))
    }

    /// Tells whether what the driver has put there is what was asked for.
    pub(super) fn is_fit(&self) -> bool {
        fs::metadata(&self.target).is_ok_and(|it| match self.link {
            Some(_) => it.file_type().is_block_device(),
            None => it.is_dir(),
        })
    }

    /// Notes a volume before the driver is asked to put it there; folders are made.
    pub(super) fn note(&self, note: &Note) -> io::Result<()> {
        write(&self.noted, note)?;
        let Some(link) = &self.link else { return Ok(()) };
        for folder in [link, &self.target].into_iter().filter_map(|path| path.parent()) {
            make(folder)?;
        }
        match symlink(&self.target, link) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Notes the volume on the node before the driver is asked to put it there, and makes its folder.
    pub(super) fn note_stage(&self, note: &Note) -> io::Result<()> {
        // Of a device there is one note for all.
        if let (None, Some(folder)) = (&self.link, self.staged.parent()) {
            let Note { handle, driver, .. } = note.clone();
            write(folder, &Note { handle, driver, ..Note::default() })?;
        }
        make(&self.staged)
    }

    /// Reads what is noted.
    pub(super) fn read(&self) -> io::Result<Note> {
        Ok(serde_json::from_slice(&fs::read(self.noted.join(FILE))?)?)
    }

    /// Unmounts what the driver left in the pod, which would be a mount of nobody's.
    pub(super) fn unmount(&self) -> io::Result<()> {
        tree::unmount_below(if self.link.is_some() { &self.target } else { &self.noted })
    }

    /// Removes what is on the node for all pods.
    pub(super) fn remove_shared(&self) -> io::Result<()> {
        self.shared.iter().try_for_each(|path| tree::remove(path))
    }

    /// Removes what is in the pod: the volume is none of its any more.
    pub(super) fn remove(&self) -> io::Result<()> {
        match &self.link {
            None => tree::remove(&self.noted),
            Some(link) => tree::remove(&self.target).and_then(|()| tree::remove(link)),
        }
    }
}

/// Returns the folder of what is noted of a volume in a pod; of a device, in all pods.
fn noted((root, uid): (&Path, &str), name: &str, is_device: bool) -> PathBuf {
    if is_device {
        return root.join(ON_NODE).join("volumeDevices").join(name).join("data");
    }
    pod_folder(root, uid).join(MOUNTS).join(name)
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)
}

fn write(folder: &Path, note: &Note) -> io::Result<()> {
    make(folder)?;
    fs::write(folder.join(FILE), serde_json::to_vec(note)?)
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

/// Returns the volumes of a pod of which something is noted.
pub(super) fn of_pod(root: &Path, uid: &str) -> io::Result<Vec<(Spot, Note)>> {
    let mut all = Vec::new();
    for (kind, is_device) in [(MOUNTS, false), (DEVICES, true)] {
        for name in names(&pod_folder(root, uid).join(kind))? {
            match fs::read(noted((root, uid), &name, is_device).join(FILE)) {
                Ok(text) => {
                    let note: Note = serde_json::from_slice(&text)?;
                    let volume = (name.as_str(), note.driver.as_str(), note.handle.as_str());
                    all.push((Spot::new((root, uid), volume, is_device), note));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(all)
}

/// Returns what is in a folder; nothing when there is none.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Returns what is noted of the volumes of all pods but this one.
pub(super) fn of_others(root: &Path, uid: &str) -> io::Result<Vec<Note>> {
    let mut all = Vec::new();
    for other in names(&root.join("pods"))?.into_iter().filter(|other| other != uid) {
        all.extend(of_pod(root, &other)?.into_iter().map(|(_, note)| note));
    }
    Ok(all)
}

/// Tells whether another pod than this one has a volume, or is about to have it.
pub(super) fn has_others(root: &Path, uid: &str, of: &Note) -> io::Result<bool> {
    let same = |note: &Note| (&note.driver, &note.handle) == (&of.driver, &of.handle);
    Ok(of_others(root, uid)?.iter().any(same))
}

#[cfg(test)]
mod tests;
