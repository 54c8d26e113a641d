//! What this host's kernel can bound beside processor and memory.

use std::fs;
use std::path::Path;

use super::MOUNT;

/// How swap is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Swap {
    /// Not at all.
    #[default]
    Uncounted,
    /// With memory, in version 1.
    Split,
    /// By itself, in version 2.
    Unified,
}

/// Pages of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageSize {
    /// As the kernel names it: `2MB`.
    pub(crate) name: String,
    /// As pods name it: `hugepages-2Mi`.
    pub(crate) resource: String,
}

/// What the kernel can bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) huge_pages: Vec<PageSize>,
    pub(crate) swap: Swap,
}

impl Kernel {
    /// Looks at the host.
    pub(crate) fn read() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::of(Path::new("/sys/kernel/mm/hugepages"), Path::new(MOUNT), &own)
    }

    fn of(pages: &Path, mount: &Path, own: &str) -> Self {
        let entries = fs::read_dir(pages).into_iter().flatten().flatten();
        let sizes = entries.filter_map(|entry| page_size(entry.file_name().to_str()?));
        let mut huge_pages: Vec<_> = sizes.collect();
        huge_pages.sort_by(|a, b| a.name.cmp(&b.name));
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let unified = mount.join("cgroup.controllers").exists();
        let swap = match unified {
            // The group of all has no bounds.
            true if mount.join(own).join("memory.swap.max").exists() => Swap::Unified,
            false if mount.join("memory/memory.memsw.limit_in_bytes").exists() => Swap::Split,
            true | false => Swap::Uncounted,
        };
        Self { huge_pages, swap }
    }
}

/// Reads a size out of a name such as `hugepages-2048kB`.
fn page_size(name: &str) -> Option<PageSize> {
    let kibi: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let mut unit = (kibi, "K");
    for next in ["M", "G"] {
        if unit.0.is_multiple_of(1024) && unit.0 > 0 {
            unit = (unit.0 / 1024, next);
        }
    }
    let (number, letter) = unit;
    let (name, resource) = (format!("{number}{letter}B"), format!("hugepages-{number}{letter}i"));
    Some(PageSize { name, resource })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_pages_and_the_kinds_of_swap_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let (pages, mount) = (folder.path().join("pages"), folder.path().join("groups"));
        for size in ["hugepages-2048kB", "hugepages-1048576kB", "hugepages-64kB", "other"] {
            fs::create_dir_all(pages.join(size)).unwrap();
        }
        fs::create_dir_all(mount.join("memory")).unwrap();
        let kernel = Kernel::of(&pages, &mount, "4:memory:/x\n0::/\n");
        let names: Vec<_> =
            kernel.huge_pages.iter().map(|it| (it.name.as_str(), it.resource.as_str())).collect();
        let expected =
            [("1GB", "hugepages-1Gi"), ("2MB", "hugepages-2Mi"), ("64KB", "hugepages-64Ki")];
        assert_eq!((names.as_slice(), kernel.swap), (&expected[..], Swap::Uncounted));
        fs::write(mount.join("memory/memory.memsw.limit_in_bytes"), "").unwrap();
        assert_eq!(Kernel::of(&pages, &mount, "").swap, Swap::Split);
        fs::write(mount.join("cgroup.controllers"), "memory").unwrap();
        fs::create_dir(mount.join("own")).unwrap();
        fs::write(mount.join("own/memory.swap.max"), "max").unwrap();
        assert_eq!(Kernel::of(&pages, &mount, "0::/own\n").swap, Swap::Unified);
    }
}
