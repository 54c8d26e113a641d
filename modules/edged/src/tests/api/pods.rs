//! Pods as the API lists them: whole, with the status that the cloud is told.

use super::*;
use crate::statics::{Folder, mirror};

/// What nobody here acts on is shown as it came, too.
fn came() -> Value {
    let mut object = pod(
        "p",
        &json!({
            "containers": [{"name": "c", "command": ["sleep", "1000"], "workingDir": "/", "x": 1.50,
                            "terminationMessagePolicy": "FallbackToLogsOnError"}],
            "affinity": {"nodeAffinity": {}}, "schedulerName": "other", "preemptionPolicy": "Never",
        }),
    );
    object["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": "r"}]);
    object["metadata"]["resourceVersion"] = "17".into();
    object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    object
}

const MANIFEST: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: s, namespace: ns, labels: {a: b}}\nspec:\n  \
    priority: 7\n  containers: [{name: c, image: none, imagePullPolicy: Never, tty: true}]\n";

async fn listed(address: SocketAddr, path: &str) -> Vec<Value> {
    let (status, list) = ask(address, "GET", path).await;
    let mut list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(
        (status, &list["kind"], &list["apiVersion"]),
        (200, &json!("PodList"), &json!("v1"))
    );
    serde_json::from_value(list["items"].take()).unwrap()
}

#[tokio::test]
async fn pods_are_listed_whole_with_the_status_that_the_cloud_is_told() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let came = came();
    give(&mut bench, &came);
    let manifests = containerd.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    std::fs::write(manifests.join("s.yaml"), MANIFEST).unwrap();
    let statics = Folder::new(&manifests, "n").read().unwrap();
    bench.pods.set_statics(statics.clone());
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let mut mirror = mirror(&statics[0].object, ("n", "uid-n")).unwrap();
    mirror["metadata"]["uid"] = "of-the-mirror".into();
    mirror["status"]["qosClass"] = "Burstable".into();
    let rows = [("p".to_owned(), came.clone()), ("s-n".to_owned(), mirror)];
    bench.maps.send_replace(rows.into());
    let (_pods, address) = serve_beside(&bench).await;

    let pods = listed(address, "/pods").await;
    assert_eq!((&pods[0]["metadata"], &pods[0]["spec"]), (&came["metadata"], &came["spec"]));
    let (shown, told) = (&pods[0]["status"], &bench.statuses["p"]);
    for key in ["phase", "podIP", "podIPs", "startTime"] {
        assert_eq!(shown[key], told[key], "{key}");
    }
    let (shown_container, told_container) = (&shown["containerStatuses"][0], bench.container("p"));
    assert_eq!(shown_container["containerID"], told_container["containerID"]);
    assert_eq!(shown_container["state"], told_container["state"]);
    assert_eq!(shown["qosClass"], "BestEffort");
    assert_eq!(shown["conditions"][0]["type"], told["conditions"][0]["type"]);
    assert_eq!(shown["conditions"][0].get("reason"), None, "{shown}");
    assert!(!shown.as_object().unwrap().keys().any(|key| key.starts_with('$')), "{shown}");
    let of_static: Value = serde_json::from_str(&statics[0].object).unwrap();
    assert_eq!(pods[1]["metadata"], of_static["metadata"]);
    assert_eq!(
        (&pods[1]["spec"]["priority"], &pods[1]["spec"]["containers"][0]["tty"]),
        (&json!(7), &json!(true))
    );
    assert_eq!(pods[1]["status"]["qosClass"], "Burstable");

    // Without the store it is told what is acted on, and that it is not all.
    bench.store.abort();
    let head = "GET /pods HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    send(address, head).await.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("warning: 299 - \"the store does not answer"), "{answer}");
    let pods = listed(address, "/pods").await;
    assert_eq!(pods[0]["spec"]["containers"][0]["name"], "c");
    assert_eq!(pods[0]["metadata"]["uid"], came["metadata"]["uid"]);
    assert_eq!(pods[1]["metadata"], of_static["metadata"]);
    containerd.end().await;
}

#[tokio::test]
async fn running_pods_are_what_the_runtime_has_up() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let waits = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    give(&mut bench, &pod("p", &waits));
    // Its sandbox is up, though nothing runs in it.
    let mut lacks = pod("q", &waits);
    lacks["spec"]["containers"][0]["image"] = "none".into();
    lacks["spec"]["containers"][0]["imagePullPolicy"] = "Never".into();
    give(&mut bench, &lacks);
    bench.until("one runs", |bench| bench.is_ready("p")).await;
    let has_no_image =
        |bench: &Bench| bench.container("q")["state"]["waiting"]["reason"] == "ErrImageNeverPull";
    bench.until("the other has no image", has_no_image).await;
    let (_pods, address) = serve_beside(&bench).await;
    let pods = listed(address, "/runningpods/").await;
    let shown =
        json!({"name": "c", "image": pods[0]["spec"]["containers"][0]["image"], "resources": {}});
    assert_eq!(
        pods,
        [
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "uid-p"},
               "spec": {"containers": [shown]}, "status": {}}),
            json!({"metadata": {"name": "q", "namespace": "ns", "uid": "uid-q"},
               "spec": {"containers": []}, "status": {}}),
        ]
    );
    assert!(shown["image"].as_str().is_some_and(|image| !image.is_empty()), "{shown}");
    containerd.end().await;
}
