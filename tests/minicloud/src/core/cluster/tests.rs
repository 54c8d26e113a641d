//! What an API server does with any object.

use super::*;

fn cluster() -> Cluster {
    Cluster::new(Ids::new(7))
}

const NOW: Time = Time::from_millis(1_795_407_740_000);

#[test]
fn a_new_object_gets_identity_and_version() {
    let mut cluster = cluster();
    let key = cluster.create(NOW, json!({"kind": "Pod", "metadata": {"name": "p", "creationTimestamp": null}, "spec": {}})).unwrap();
    let pod = cluster.get(&key).unwrap();
    assert_eq!(pod["apiVersion"], "v1");
    assert_eq!(pod["metadata"]["namespace"], "default");
    assert_eq!(pod["metadata"]["creationTimestamp"], "2026-11-23T04:22:20Z");
    assert_eq!(pod["metadata"]["generation"], 1);
    assert!(!uid_of(pod).is_empty() && version_of(pod) > 0);
    let again = cluster.create(NOW, json!({"kind": "Pod", "metadata": {"name": "p"}}));
    assert_eq!(again.unwrap_err().reason, "AlreadyExists");
}

#[test]
fn versions_grow_only_with_changes() {
    let mut cluster = cluster();
    let key = cluster.create(NOW, json!({"kind": "ConfigMap", "metadata": {"name": "c"}})).unwrap();
    let first = version_of(cluster.get(&key).unwrap());
    let same = version_of(cluster.modify(&key, |_| {}).unwrap());
    assert_eq!(same, first);
    let next =
        version_of(cluster.modify(&key, |object| object["data"] = json!({"a": "1"})).unwrap());
    assert!(next > first);
    cluster.remove(&key).unwrap();
    let kinds: Vec<_> = std::iter::from_fn(|| cluster.next_change()).map(|it| it.kind).collect();
    assert_eq!(kinds, [ChangeKind::Added, ChangeKind::Modified, ChangeKind::Removed]);
}

#[test]
fn apply_keeps_status_and_identity() {
    let mut cluster = cluster();
    let key = cluster.apply(NOW, json!({"kind": "Pod", "metadata": {"name": "p", "labels": {"a": "1"}}, "spec": {"x": 1}})).unwrap();
    cluster.modify(&key, |pod| pod["status"] = json!({"phase": "Running"})).unwrap();
    let uid = uid_of(cluster.get(&key).unwrap()).to_owned();
    cluster
        .apply(NOW, json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": 2}}))
        .unwrap();
    let pod = cluster.get(&key).unwrap();
    assert_eq!(uid_of(pod), uid);
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["metadata"]["generation"], 2);
    assert!(pod["metadata"].get("labels").is_none());
}

#[test]
fn a_restored_cluster_goes_on_with_higher_versions() {
    let mut old = cluster();
    let key = old.create(NOW, json!({"kind": "Node", "metadata": {"name": "edge1"}})).unwrap();
    let objects = old.iter().map(|(_, object)| object.clone()).collect();
    let mut new = Cluster::restore(Ids::new(8), 3, objects);
    assert_eq!(new.get(&key), old.get(&key));
    assert_eq!(new.next_change().unwrap().kind, ChangeKind::Added);
    let before = new.version();
    new.modify(&key, |node| node["x"] = 1.into()).unwrap();
    assert!(new.version() > before);
}
