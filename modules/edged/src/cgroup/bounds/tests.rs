//! Tests of the bounds.

use serde_json::json;

use super::super::kernel::PageSize;
use super::*;

const EVERY: Every = Every { pids: None, quota_period: Some(100_000) };

fn bounds(containers: &serde_json::Value) -> Bounds {
    let pod = serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap();
    Bounds::of_pod(&pod, EVERY, &Kernel::default())
}

#[test]
fn a_pod_is_bounded_when_all_its_containers_are() {
    let limits =
        |cpu: &str, memory: &str| json!({"resources": {"limits": {"cpu": cpu, "memory": memory}}});
    let sure = bounds(&json!([limits("500m", "64Mi"), limits("1", "64Mi")]));
    let expected = Bounds {
        shares: Some(1536),
        quota: Some((150_000, 100_000)),
        memory: Some(128 << 20),
        ..Bounds::default()
    };
    assert_eq!(sure, expected);
    let half = bounds(&json!([limits("500m", "64Mi"), {"resources": {"requests": {"cpu": "1"}}}]));
    assert_eq!((half.shares, half.quota, half.memory), (Some(1536), None, None));
    let none = bounds(&json!([{}]));
    assert_eq!(none, Bounds { shares: Some(2), ..Bounds::default() });
}

#[test]
fn huge_pages_and_processes_are_bounded_too() {
    let resources = json!({"limits": {"hugepages-2Mi": "4Mi", "memory": "1Mi"}});
    let pod = json!({"spec": {"containers": [{"resources": resources}]}});
    let page = PageSize { name: "2MB".to_owned(), resource: "hugepages-2Mi".to_owned() };
    let kernel = Kernel { huge_pages: vec![page], ..Kernel::default() };
    let every = Every { pids: Some(100), ..EVERY };
    let bounds = Bounds::of_pod(&serde_json::from_value(pod).unwrap(), every, &kernel);
    assert_eq!((bounds.huge, bounds.pids), (vec![("2MB".to_owned(), 4 << 20)], Some(100)));
}

#[test]
fn both_versions_are_written() {
    let bounds = Bounds {
        shares: Some(1024),
        quota: Some((50_000, 100_000)),
        memory: Some(1 << 20),
        pids: Some(7),
        huge: vec![("2MB".to_owned(), 0)],
    };
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    for controller in ["cpu", "memory", "pids"] {
        fs::create_dir_all(old.join(controller)).unwrap();
    }
    bounds.write(&old, "/a/b").unwrap();
    let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
    assert_eq!(read("old/cpu/a/b/cpu.shares"), "1024");
    assert_eq!(read("old/cpu/a/b/cpu.cfs_quota_us"), "50000");
    assert_eq!(read("old/memory/a/b/memory.limit_in_bytes"), "1048576");
    assert_eq!(read("old/pids/a/b/pids.max"), "7");
    assert!(!old.join("hugetlb").exists(), "nobody counts huge pages there");
    // the folder is there and nothing can be made in it, as where systemd found no such controller
    fs::create_dir(old.join("hugetlb")).unwrap();
    fs::write(old.join("hugetlb/a"), "").unwrap();
    bounds.write(&old, "/a/b").unwrap();
    fs::create_dir_all(&new).unwrap();
    fs::write(new.join("cgroup.controllers"), "cpu").unwrap();
    bounds.write(&new, "a/b").unwrap();
    assert_eq!(read("new/a/b/cpu.weight"), "39");
    assert_eq!(read("new/a/b/cpu.max"), "50000 100000");
    assert_eq!(read("new/a/b/memory.max"), "1048576");
    assert!(new.join("a/cgroup.subtree_control").exists());
}

#[test]
fn what_the_kernel_refuses_is_said_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("cpu")).unwrap();
    fs::write(folder.path().join("cpu/a"), "no folder").unwrap();
    let bounds = Bounds { shares: Some(2), ..Bounds::default() };
    let said = bounds.write(folder.path(), "a").unwrap_err().to_string();
    assert!(said.starts_with("cannot write 2 to ") && said.contains("cpu/a/cpu.shares"), "{said}");
}
