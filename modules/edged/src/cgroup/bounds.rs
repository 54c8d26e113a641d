//! What a group of pods may use together, and how that is written for the kernel, in either version of
//! control groups. The values are kubelet's.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::kernel::Kernel;
use crate::pod::amounts::{Quality, quality, quota, request, shares, together};
use crate::pod::spec::{Container, Pod};

/// Bounds of a group; nothing where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Shares of the processor when it is contended.
    pub(crate) shares: Option<i64>,
    /// Microseconds of the processor, and of which period.
    pub(crate) quota: Option<(i64, i64)>,
    /// Bytes.
    pub(crate) memory: Option<i64>,
    /// Processes and threads.
    pub(crate) pids: Option<i64>,
    /// Bytes of huge pages, by the kernel's name of their size.
    pub(crate) huge: Vec<(String, i64)>,
}

/// What bounds every pod alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Every {
    /// Processes and threads.
    pub(crate) pids: Option<i64>,
    /// Over how many microseconds limits on the processor hold; nothing when they do not count.
    pub(crate) quota_period: Option<i64>,
}

/// The controllers that are written to.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "hugetlb"];

impl Bounds {
    /// Returns the bounds of a pod. Those of all its containers bound it only when each has one.
    pub(crate) fn of_pod(pod: &Pod, every: Every, kernel: &Kernel) -> Self {
        let all = |key: &str| {
            let has =
                |it: &Container| it.resources.limits.get(key).is_some_and(|it| it.milli() > 0);
            pod.spec.all_containers().all(has)
        };
        let limit = |key: &str, of: fn(crate::quantity::Quantity) -> i64| {
            let of = |it: &Container| it.resources.limits.get(key).map_or(0, |limit| of(*limit));
            all(key).then(|| together(pod, key, of))
        };
        let huge = kernel.huge_pages.iter().map(|size| {
            let asked = request(pod, &size.resource);
            (size.name.clone(), asked)
        });
        let period = every.quota_period;
        let quality = quality(pod);
        let (milli, memory) = if quality == Quality::BestEffort {
            (None, None)
        } else {
            (limit("cpu", |limit| limit.milli()), limit("memory", |limit| limit.units()))
        };
        let asked = if quality == Quality::BestEffort { 0 } else { request(pod, "cpu") };
        Self {
            shares: Some(shares(asked)),
            quota: milli.zip(period).map(|(milli, period)| (quota(milli, period), period)),
            memory,
            pids: every.pids,
            huge: huge.collect(),
        }
    }

    /// Returns the files to write, as controller, name and text.
    fn files(&self, unified: bool) -> Vec<(&'static str, String, String)> {
        let mut files = Vec::new();
        let mut put = |controller, name: &str, text: String| {
            files.push((controller, name.to_owned(), text));
        };
        if let Some(shares) = self.shares {
            // The two count differently; this is how runtimes translate.
            let weight = 1 + (shares - 2) * 9999 / 262_142;
            match unified {
                true => put("cpu", "cpu.weight", weight.to_string()),
                false => put("cpu", "cpu.shares", shares.to_string()),
            }
        }
        if let Some((quota, period)) = self.quota {
            if unified {
                put("cpu", "cpu.max", format!("{quota} {period}"));
            } else {
                put("cpu", "cpu.cfs_period_us", period.to_string());
                put("cpu", "cpu.cfs_quota_us", quota.to_string());
            }
        }
        if let Some(memory) = self.memory {
            let name = if unified { "memory.max" } else { "memory.limit_in_bytes" };
            put("memory", name, memory.to_string());
        }
        if let Some(pids) = self.pids {
            put("pids", "pids.max", pids.to_string());
        }
        for (size, bytes) in &self.huge {
            let end = if unified { "max" } else { "limit_in_bytes" };
            put("hugetlb", &format!("hugetlb.{size}.{end}"), bytes.to_string());
        }
        files
    }

    /// Makes a group, where it does not exist, and bounds it.
    ///
    /// # Errors
    /// What the kernel refuses, with the file.
    pub(crate) fn write(&self, mount: &Path, group: &str) -> io::Result<()> {
        let group = group.trim_start_matches('/');
        let unified = mount.join("cgroup.controllers").exists();
        if unified {
            make(mount, group)?;
        }
        let counted = fs::read_to_string(mount.join(group).join("cgroup.controllers")).ok();
        let is_counted = |controller: &str| {
            let all = counted.as_deref();
            all.is_none_or(|all| all.split_whitespace().any(|it| it == controller))
        };
        for (controller, file, text) in self.files(unified) {
            let folder = match unified {
                true if is_counted(controller) => mount.join(group),
                false if mount.join(controller).is_dir() => mount.join(controller).join(group),
                // The kernel does not count this, or nobody asked it to.
                true | false => continue,
            };
            let file = folder.join(file);
            let named = |error: io::Error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot write {text} to {}: {error}", file.display()),
                )
            };
            match fs::create_dir_all(&folder).and_then(|()| fs::write(&file, &text)) {
                // Huge pages are not counted everywhere, and a folder that systemd made for their
                // controller does not mean that it is mounted there.
                Err(_) if controller == "hugetlb" => {}
                Err(error) => return Err(named(error)),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

/// Makes a group of version 2, and has the controllers counted from the top down to it.
fn make(mount: &Path, group: &str) -> io::Result<()> {
    let mut folder = mount.to_owned();
    for part in group.split('/').filter(|part| !part.is_empty()) {
        for controller in CONTROLLERS {
            // One that there is not is no reason to stop; its file will say so.
            drop(fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")));
        }
        folder.push(part);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                let why = format!("cannot make {}: {error}", folder.display());
                return Err(io::Error::new(error.kind(), why));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
