//! What is mounted in a container: its volumes and parts of volumes, its /etc/hosts, and the file
//! for the message of its end.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Worker;
use crate::cri::words as w;
use crate::env;
use crate::pod::spec::{Container, Pod, VolumeDevice, VolumeMount};
use crate::pod::{make, names};
use crate::volumes::{Folders, pod_folder, sub_path};

impl Worker {
    /// Makes the mounts of a container, and the files that are mounted.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub(super) fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        ips: &[String],
        variables: &[(String, String)],
        images: &BTreeMap<String, String>,
    ) -> Result<Vec<w::Mount>, String> {
        let recursive = self.host.facts.borrow().recursive.contains(&self.handler);
        let root = pod_folder(&self.host.config.root, &pod.metadata.uid);
        let mut mounts = Vec::new();
        for (at, mount) in container.volume_mounts.iter().enumerate() {
            let parts = root.join("volume-subpaths").join(&mount.name).join(&container.name);
            let (source, read_only) = self.source(mount, &parts.join(at.to_string()), variables)?;
            let propagation = match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => w::MountPropagation::HostToContainer,
                Some("Bidirectional") => w::MountPropagation::Bidirectional,
                Some(_) | None => w::MountPropagation::Private,
            };
            let image = images.get(&mount.name).cloned();
            mounts.push(w::Mount {
                container_path: full(&mount.mount_path, &container.working_dir),
                host_path: source.display().to_string(),
                readonly: mount.read_only || read_only,
                selinux_relabel: false,
                propagation: propagation.into(),
                recursive_read_only: read_only_below(mount, recursive)?,
                image_sub_path: image.as_ref().map_or_else(String::new, |_| mount.sub_path.clone()),
                image: image.map(|image| w::ImageSpec { image }),
            });
        }
        let hosts = root.join("etc-hosts");
        let of_host = fs::read_to_string("/etc/hosts").unwrap_or_default();
        let text = make::hosts_file(pod, ips, &self.host.config.cluster_domain, &of_host);
        let stamp = module_runtime::message_id().to_string();
        let stamp = stamp.get(..8).unwrap_or(&stamp);
        let said = root.join("containers").join(&container.name).join(stamp);
        let path = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
        let path = path.unwrap_or(names::MESSAGE_FILE);
        for (inside, file, text, mode) in
            [("/etc/hosts", &hosts, text.as_str(), 0o644), (path, &said, "", 0o666)]
        {
            put(file, text, mode)
                .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            // What the pod mounts there itself goes before.
            if !mounts.iter().any(|mount: &w::Mount| mount.container_path == inside) {
                let (container_path, host_path) = (inside.to_owned(), file.display().to_string());
                mounts.push(w::Mount { container_path, host_path, ..w::Mount::default() });
            }
        }
        Ok(mounts)
    }

    /// Returns the volumes that a container has as devices.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub(super) fn volume_devices(&self, container: &Container) -> Result<Vec<w::Device>, String> {
        let none = Folders::new();
        let folders = self.folders.as_ref().unwrap_or(&none);
        let device = |VolumeDevice { name, device_path: path }: &VolumeDevice| {
            if !path.starts_with('/') {
                return Err(format!("error DevicePath `{path}` must be an absolute path"));
            }
            let Some(folder) = folders.get(name) else {
                let of = &container.name;
                return Err(format!(
                    "cannot find volume \"{name}\" to pass into container \"{of}\""
                ));
            };
            if !folder.is_device {
                return Err(unfit(name, "Filesystem", "volumeDevices"));
            }
            Ok(w::Device {
                container_path: path.clone(),
                host_path: folder.path.display().to_string(),
                permissions: if folder.read_only { "r" } else { "mrw" }.to_owned(),
            })
        };
        container.volume_devices.iter().map(device).collect()
    }

    /// Returns what of the host is mounted: a volume, or a part of it, which `part` is made for; and
    /// whether it may not be written.
    fn source(
        &self,
        mount: &VolumeMount,
        part: &Path,
        variables: &[(String, String)],
    ) -> Result<(PathBuf, bool), String> {
        let none = Folders::new();
        let folder = self.folders.as_ref().unwrap_or(&none).get(&mount.name);
        let folder = folder.ok_or_else(|| format!("volume \"{}\" does not exist", mount.name))?;
        if folder.image.is_some() {
            return Ok((PathBuf::new(), true));
        }
        if folder.is_device {
            return Err(unfit(&mount.name, "Block", "volumeMounts"));
        }
        let lookup = |name: &str| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let sub = if mount.sub_path_expr.is_empty() {
            mount.sub_path.clone()
        } else {
            env::expand(&mount.sub_path_expr, lookup)
        };
        if sub.is_empty() {
            return Ok((folder.path.clone(), folder.read_only));
        }
        if !mount.sub_path_expr.is_empty() && sub.contains("$(") {
            return Err(format!("subPathExpr '{}' names no known variable", mount.sub_path_expr));
        }
        sub_path::bind(&folder.path, &sub, part)?;
        Ok((part.to_owned(), folder.read_only))
    }
}

/// Says that a volume is not what a container takes it for.
fn unfit(name: &str, mode: &str, place: &str) -> String {
    format!("volume {name} has volumeMode {mode}, but is specified in {place}")
}

/// Tells whether what is mounted below a volume may not be written either.
fn read_only_below(mount: &VolumeMount, supported: bool) -> Result<bool, String> {
    let asked = match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => return Ok(false),
        Some(asked) => asked,
    };
    let refused = |why: &str| {
        let name = &mount.name;
        Err(format!("volume \"{name}\" requested recursive read-only mode, but {why}"))
    };
    if !mount.read_only {
        return refused("it is not read-only");
    }
    if let Some(other) = mount.mount_propagation.as_deref().filter(|it| *it != "None") {
        return refused(&format!("it is not compatible with propagation \"{other}\""));
    }
    match asked {
        "IfPossible" => Ok(supported),
        "Enabled" if supported => Ok(true),
        "Enabled" => refused("it is not supported by the runtime"),
        other => Err(format!("unknown recursive read-only mode \"{other}\"")),
    }
}

/// Writes a file, unless it is there as it has to be.
fn put(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    // In place: what is mounted in a container has to stay the same file.
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    std::io::Write::write_all(&mut file, text.as_bytes())
}

/// Returns a full path inside a container.
fn full(path: &str, working_dir: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", working_dir.trim_end_matches('/'))
}
