//! Static pods and their mirrors, and pods that are held back, with a real containerd.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::bench::{Bench, give, page, pod};
use super::containerd::{Containerd, IMAGE, containerd};
use crate::cri::words::ContainerState;
use crate::statics::Folder;

fn manifest(page: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: ns}}\nspec:\n  \
        terminationGracePeriodSeconds: 1\n  containers:\n  - name: c\n    image: {IMAGE}\n    \
        imagePullPolicy: IfNotPresent\n    command: [sh, -c, \
        'mkdir /www; echo {page} > /www/index.html; exec httpd -f -p 80 -h /www']\n"
    )
}

/// Reads the folder again, as its watcher would.
fn look(bench: &mut Bench, containerd: &Containerd) {
    let mut folder = Folder::new(&containerd.path().join("manifests"), "n");
    bench.pods.set_statics(folder.read().unwrap());
}

/// Returns the uid of the only static pod of a folder.
fn uid(folder: &Path) -> String {
    Folder::new(folder, "n").read().unwrap()[0].pod.metadata.uid.clone()
}

/// Plays the cloud: gives the mirror that the engine made a uid, and sends it.
fn show(bench: &mut Bench, uid: &str) -> Value {
    let mut mirror = bench.made.remove("web-n").unwrap();
    mirror["metadata"]["uid"] = uid.into();
    give(bench, &mirror);
    mirror
}

/// Tells whether a container of a pod runs.
async fn runs(containerd: &Containerd, pod: &str) -> bool {
    let (_, containers) = containerd.runtime().list(BTreeMap::new()).await.unwrap();
    containers.iter().any(|it| {
        it.state() == ContainerState::Running && it.labels[crate::pod::names::POD_NAME] == pod
    })
}

async fn address(containerd: &Containerd) -> String {
    let runtime = containerd.runtime();
    let (sandboxes, _) = runtime.list(BTreeMap::new()).await.unwrap();
    for sandbox in sandboxes {
        let request = crate::cri::words::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id };
        let status = runtime.sandbox_status(request).await.unwrap().status.unwrap();
        let ip = status.network.unwrap_or_default().ip;
        if !ip.is_empty() {
            return ip;
        }
    }
    String::new()
}

#[tokio::test]
async fn a_static_pod_runs_without_a_store_is_mirrored_changes_and_goes() {
    let Some(containerd) = containerd().await else { return };
    let folder = containerd.path().join("manifests");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("web.yaml"), manifest("one")).unwrap();
    let mut bench = Bench::new(&containerd);
    bench.maps.send_modify(|maps| {
        maps.insert("n".to_owned(), json!({"metadata": {"name": "n", "uid": "u-node"}}));
    });
    // The store has not told which pods there are.
    look(&mut bench, &containerd);
    bench.while_until("it runs", async || runs(&containerd, "web-n").await).await;
    let ip = address(&containerd).await;
    super::containerd::until("it serves", async || page(&ip).await.trim() == "one").await;

    bench.pods.set(&"[]".into());
    bench.until("it is mirrored", |bench| bench.made.contains_key("web-n")).await;
    let mirror = show(&mut bench, "m1");
    assert_eq!(mirror["metadata"]["ownerReferences"][0]["uid"], "u-node");
    bench.until("its status is told", |bench| bench.is_ready("web-n")).await;
    assert_eq!(bench.uids["web-n"], "m1");

    // Somebody deletes the mirror: the pod does not notice.
    let id = bench.container("web-n")["containerID"].clone();
    let mut deleted = mirror.clone();
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    give(&mut bench, &deleted);
    bench.until("its end is confirmed", |bench| bench.deleted == ["web-n"]).await;
    bench.pods.remove("ns", "web-n", br#"{"metadata":{"uid":"m1"}}"#);
    bench.until("it is mirrored again", |bench| bench.made.contains_key("web-n")).await;
    show(&mut bench, "m2");
    bench.until("its status is told again", |bench| bench.uids["web-n"] == "m2").await;
    assert_eq!(bench.container("web-n")["containerID"], id);

    // The manifest changes: the pod is another, and so is its mirror.
    bench.deleted.clear();
    fs::write(folder.join("web.yaml"), manifest("two")).unwrap();
    look(&mut bench, &containerd);
    bench.until("the old mirror goes", |bench| bench.deleted == ["web-n"]).await;
    bench.pods.remove("ns", "web-n", br#"{"metadata":{"uid":"m2"}}"#);
    bench.until("the new one comes", |bench| bench.made.contains_key("web-n")).await;
    show(&mut bench, "m3");
    let is_new = |bench: &Bench| bench.uids["web-n"] == "m3" && bench.is_ready("web-n");
    bench.until("the new pod is ready", is_new).await;
    assert_ne!(bench.container("web-n")["containerID"], id);
    let ip = bench.statuses["web-n"]["podIP"].as_str().unwrap().to_owned();
    super::containerd::until("it serves", async || page(&ip).await.trim() == "two").await;

    bench.deleted.clear();
    fs::remove_file(folder.join("web.yaml")).unwrap();
    look(&mut bench, &containerd);
    bench.until("the mirror is deleted", |bench| bench.deleted == ["web-n"]).await;
    bench.until("nothing is left", |bench| bench.pods.count() == 0).await;
    let (sandboxes, _) = containerd.runtime().list(BTreeMap::new()).await.unwrap();
    assert_eq!(sandboxes.len(), 0);
    containerd.end().await;
}

#[tokio::test]
async fn a_static_pod_goes_on_when_the_engine_begins_anew() {
    let Some(containerd) = containerd().await else { return };
    let folder = containerd.path().join("manifests");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("web.yaml"), manifest("one")).unwrap();
    let mut bench = Bench::new(&containerd);
    look(&mut bench, &containerd);
    bench.while_until("it runs", async || runs(&containerd, "web-n").await).await;
    let ids = async || {
        let (_, containers) = containerd.runtime().list(BTreeMap::new()).await.unwrap();
        containers.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    let first = ids().await;
    let mirror = json!({"metadata": {"name": "web-n", "namespace": "ns", "uid": "m", "annotations":
        {"kubernetes.io/config.mirror": uid(&folder)}}, "spec": {"nodeName": "n"}});
    bench.begin_anew_with(|pods| {
        // The store may be faster than the folder.
        pods.set(&serde_json::to_vec(&[&mirror]).unwrap().into());
        pods.set_statics(Folder::new(&folder, "n").read().unwrap());
    });
    bench.until("it is known again", |bench| bench.is_ready("web-n")).await;
    assert_eq!(ids().await, first);

    fs::write(folder.join("web.yaml"), manifest("two")).unwrap();
    bench.begin_anew_with(|pods| pods.set_statics(Folder::new(&folder, "n").read().unwrap()));
    let changed = async || {
        let now = ids().await;
        now.len() == 1 && now != first
    };
    bench.while_until("what it was before goes, also without a store", changed).await;
    containerd.end().await;
}

#[tokio::test]
async fn a_pod_that_is_held_back_waits_until_it_is_let_go() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    let mut held = pod("held", &spec);
    held["metadata"]["annotations"] = json!({"edge.kubeedge.io/hold-upgrade": "true"});
    bench.pods.set(&serde_json::to_vec(&[&held]).unwrap().into());
    let condition = |bench: &Bench| {
        let conditions = bench.statuses.get("held")?["conditions"].as_array()?.clone();
        let condition = conditions.into_iter().find(|it| it["type"] == "HeldUpgrade")?;
        Some((condition["status"].clone(), condition["reason"].clone()))
    };
    let enabled = Some(("True".into(), "HoldUpgradeEnabled".into()));
    bench.until("it is told that it waits", |bench| condition(bench) == enabled).await;
    held["status"] =
        json!({"phase": "Pending", "conditions": bench.statuses["held"]["conditions"]});
    give(&mut bench, &held);
    bench.begin_anew(std::slice::from_ref(&held));
    bench.statuses.clear();
    bench.until("it waits still", |bench| condition(bench) == enabled).await;
    assert!(!runs(&containerd, "held").await);

    bench.pods.release("ns", "other");
    bench.pods.release("ns", "held");
    // It is let go for good, even when this process dies at once.
    bench.begin_anew(std::slice::from_ref(&held));
    bench.until("it runs", |bench| bench.is_ready("held")).await;
    assert_eq!(condition(&bench), Some(("False".into(), "HoldUpgradeReleased".into())));
    containerd.end().await;
}
