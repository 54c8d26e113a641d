//! Groups of both versions.

use super::*;

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

const ID: &str = "3f2a9c";

#[test]
fn groups_of_version_2_are_read() {
    let root = tempfile::tempdir().unwrap();
    let group = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice/\
            cri-containerd-3f2a9c.scope";
    write(
        root.path(),
        &[
            ("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n"),
            (
                &format!("{group}/cpu.stat"),
                "usage_usec 4723405\nuser_usec 3012894\nsystem_usec 1710511\nnr_periods 0\n",
            ),
            (&format!("{group}/memory.current"), "33554432\n"),
            (&format!("{group}/memory.max"), "67108864\n"),
            (
                &format!("{group}/memory.stat"),
                "anon 10485760\nfile 20971520\ninactive_anon 0\nactive_anon 10485760\n\
                 inactive_file 4194304\nactive_file 16777216\n",
            ),
        ],
    );
    let ids = [ID.to_owned(), "absent".to_owned()];
    let used = read_below(root.path(), &ids, 7);
    let cpu = Cpu { at: 7, total: 4_723_405_000, rate: None };
    let memory = Memory {
        at: 7,
        working_set: 28 << 20,
        usage: Some(32 << 20),
        available: Some(36 << 20),
        rss: Some(10 << 20),
    };
    assert_eq!(used, BTreeMap::from([(ID.to_owned(), (cpu, memory))]));
}

#[test]
fn groups_of_version_1_are_read() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &[
            ("cpuacct/kubepods/podx/3f2a9c/cpuacct.usage", "4723405123\n"),
            ("memory/kubepods/podx/3f2a9c/memory.usage_in_bytes", "33554432\n"),
            ("memory/kubepods/podx/3f2a9c/memory.limit_in_bytes", "9223372036854771712\n"),
            (
                "memory/kubepods/podx/3f2a9c/memory.stat",
                "inactive_file 1\ntotal_cache 1\ntotal_rss 10485760\ntotal_inactive_file 4194304\n",
            ),
        ],
    );
    let used = read_below(root.path(), &[ID.to_owned()], 7);
    let (cpu, memory) = used[ID];
    assert_eq!((cpu.total, memory.working_set), (4_723_405_123, 28 << 20));
    assert_eq!((memory.available, memory.rss), (None, Some(10 << 20)));
}
