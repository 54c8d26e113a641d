//! Tests of the manifests.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;

const WEB: &str = "apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  containers:
  - name: c
    image: busybox
    args: [\"yes\", \"no\"]
";

fn read(text: &str) -> Result<Static, String> {
    parse(text.as_bytes(), Path::new("/m/web.yaml"), "Node")
}

#[test]
fn a_manifest_gets_what_kubelet_gives_it() {
    let web = read(WEB).unwrap();
    let metadata = &web.pod.metadata;
    assert_eq!((&*metadata.name, &*metadata.namespace), ("web-node", "default"));
    assert_eq!(metadata.uid.len(), 32);
    let annotations = metadata.annotations.clone().unwrap();
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(annotations["kubernetes.io/config.hash"], metadata.uid);
    assert!(annotations["kubernetes.io/config.seen"].ends_with('Z'));
    assert_eq!(web.pod.spec.node_name, "Node");
    assert_eq!(web.pod.spec.containers[0].args, ["yes", "no"]);
    let object: Value = serde_json::from_str(&web.object).unwrap();
    assert_eq!(object["spec"]["tolerations"][0]["effect"], "NoExecute");
}

#[test]
fn the_uid_is_of_the_content_the_node_and_the_file() {
    let uid = |text: &str, file: &str, node: &str| {
        parse(text.as_bytes(), Path::new(file), node).unwrap().pod.metadata.uid
    };
    let json = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","labels":{"app":"web"}},
        "spec":{"containers":[{"image":"busybox","name":"c","args":["yes","no"]}]}}"#;
    let first = uid(WEB, "/a", "n");
    assert_eq!(uid(json, "/a", "n"), first, "the same pod as JSON");
    assert_eq!(uid(&format!("# note\n{WEB}"), "/a", "n"), first, "a comment");
    assert_ne!(uid(&WEB.replace("busybox", "other"), "/a", "n"), first);
    assert_ne!(uid(WEB, "/b", "n"), first);
    assert_ne!(uid(WEB, "/a", "m"), first);
}

#[test]
fn what_is_no_pod_is_refused_with_the_reason() {
    let hostile = WEB.replace("name: web", "name: ../../etc");
    for (text, said) in [
        ("kind: Pod\napiVersion: v1\nmetadata: {}\n", "metadata.name"),
        ("kind: Service\napiVersion: v1\n", "'Service'"),
        ("a: [", ""),
        ("", ""),
        (&WEB.replace("    image: busybox\n", ""), "no image"),
        (&WEB.replace("args", "resources: {limits: {cpu: lots}}\n    args"), "lots"),
        (&hostile, "metadata.name"),
        (&format!("{WEB}  resourceClaims: [{{name: x}}]\n"), "resourceClaims"),
    ] {
        let refused = read(text).unwrap_err();
        assert!(refused.contains(said), "{said} is missing in: {refused}");
    }
}

#[test]
fn a_file_that_became_wrong_keeps_its_pod_and_a_removed_one_does_not() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path();
    let mut folder = Folder::new(path, "n");
    let names = |folder: &mut Folder| -> Vec<String> {
        folder.read().unwrap().into_iter().map(|it| it.pod.metadata.name).collect()
    };
    assert_eq!(names(&mut Folder::new(&path.join("none"), "n")), [""; 0]);
    fs::write(path.join("a.yaml"), WEB).unwrap();
    fs::write(path.join("b.yaml"), WEB.replace("app: web", "app: twin")).unwrap();
    fs::write(path.join(".hidden"), WEB.replace("name: web", "name: hidden")).unwrap();
    fs::write(path.join("c.yaml"), WEB.replace("name: web", "name: other")).unwrap();
    fs::create_dir(path.join("folder")).unwrap();
    assert_eq!(names(&mut folder), ["web-n", "other-n"]);
    fs::write(path.join("c.yaml"), "half a").unwrap();
    assert_eq!(names(&mut folder), ["web-n", "other-n"]);
    fs::remove_file(path.join("c.yaml")).unwrap();
    assert_eq!(names(&mut folder), ["web-n"]);
    assert_eq!(names(&mut Folder::new(&path.join("b.yaml"), "n")), ["web-n"]);
}

#[test]
fn a_mirror_carries_the_hash_and_belongs_to_the_node() {
    let web = read(WEB).unwrap();
    let mirror = mirror(&web.object, ("node", "u-node")).unwrap();
    assert_eq!(mirror["metadata"]["annotations"][MIRROR], hash(&web.pod));
    assert_eq!(mirror["metadata"]["ownerReferences"][0]["uid"], "u-node");
    let mirror: Pod = serde_json::from_value(mirror).unwrap();
    assert_eq!(mirrored(&mirror), Some(hash(&web.pod)));
    assert_eq!(mirrored(&web.pod), None);
}

#[tokio::test]
async fn changes_of_the_folder_are_heard_of() {
    let temporary = tempfile::tempdir().unwrap();
    let mut folder = Folder::new(temporary.path(), "n");
    let (sender, mut pods) = mpsc::channel(1);
    let first = folder.read().unwrap();
    let task = tokio::spawn(watch(folder, Some(first), sender));
    tokio::task::yield_now().await;
    let file = temporary.path().join("web.yaml");
    fs::write(&file, WEB).unwrap();
    let soon = Duration::from_secs(60);
    let come = tokio::time::timeout(soon, pods.recv()).await.unwrap().unwrap();
    assert_eq!(come.len(), 1);
    fs::remove_file(&file).unwrap();
    let gone = tokio::time::timeout(soon, pods.recv()).await.unwrap().unwrap();
    assert_eq!(gone.len(), 0);
    task.abort();
}
