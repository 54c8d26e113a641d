//! The pod engine with a real containerd, and a store that the test plays: pods run, are told, heal,
//! follow their config maps, survive the engine and go.

mod addresses;
mod admission;
mod api;
mod bench;
mod containerd;
mod csi;
mod defence;
mod devices;
mod fake;
mod groups;
mod images;
mod life;
mod probes;
mod rarer;
mod runtimes;
mod shortage;
mod shutdown;
mod small_disk;
mod statics;
mod volumes;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cri::words::ContainerState;
use bench::{Bench, give, page, pod};
use containerd::containerd;
pub(crate) use containerd::may_use_the_kernel;
pub(crate) use small_disk::SmallDisk;

#[tokio::test]
async fn a_pod_runs_follows_its_config_map_survives_the_engine_and_goes() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.maps.send_modify(|maps| {
        maps.insert("m".to_owned(), json!({"data": {"index.html": "one"}}));
    });
    let mut web = pod(
        "web",
        &json!({
            "volumes": [{"name": "v", "configMap": {"name": "m"}}, {"name": "w", "emptyDir": {"medium": "Memory"}}],
            "containers": [{
                "name": "c", "command": ["httpd", "-f", "-p", "80", "-h", "/www"],
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "index.html"}}}],
                "volumeMounts": [{"name": "v", "mountPath": "/www"}, {"name": "w", "mountPath": "/w"},
                {"name": "w", "mountPath": "/part", "subPathExpr": "a/$(A)"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
                "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
            }],
        }),
    );
    bench.pods.set(&"[]".into());
    give(&mut bench, &web);
    bench.until("web is ready", |bench| bench.is_ready("web")).await;
    let id = bench.container("web")["containerID"].clone();
    let ip = bench.statuses["web"]["podIP"].as_str().unwrap().to_owned();
    assert_eq!(page(&ip).await, "one");
    let part = "kubelet/pods/uid-web/volumes/kubernetes.io~empty-dir/w/a/one";
    assert!(containerd.path().join(part).is_dir());

    bench.maps.send_modify(|maps| {
        maps.insert("m".to_owned(), json!({"data": {"index.html": "two"}}));
    });
    bench.pods.refresh("ns");
    containerd::until("the page changes", async || page(&ip).await == "two").await;

    web["status"] = bench.statuses["web"].clone();
    for _ in 0..5 {
        bench.begin_anew(std::slice::from_ref(&web));
        bench.statuses.clear();
        bench.until("web is told again", |bench| bench.is_ready("web")).await;
        assert_eq!(bench.container("web")["containerID"], id, "it was started again");
    }

    web["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    web["metadata"]["deletionGracePeriodSeconds"] = 1.into();
    give(&mut bench, &web);
    bench.until("the cloud is asked to delete it", |bench| bench.deleted == ["web"]).await;
    bench.pods.remove("ns", "web", br#"{"metadata":{"uid":"uid-web"}}"#);
    bench.until("nothing is left", |bench| bench.pods.count() == 0).await;
    let (sandboxes, containers) = containerd.runtime().list(BTreeMap::new()).await.unwrap();
    assert_eq!((sandboxes.len(), containers.len()), (0, 0));
    let left = std::fs::read_dir(containerd.path().join("kubelet/pods")).unwrap().count();
    assert_eq!(left, 0);
    containerd.end().await;
}

/// Pods that fail, each in its own way, and one that does not.
fn failing() -> Vec<Value> {
    let container = |more: Value| {
        let mut container = json!({"name": "c", "command": ["sleep", "1000"]});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let mut absent = pod("absent", &container(json!({})));
    absent["spec"]["containers"][0]["image"] = "127.0.0.1:1/none:1".into();
    let mut once = pod(
        "once",
        &container(json!({"command": ["sh", "-c", "echo done > /dev/termination-log"]})),
    );
    once["spec"]["restartPolicy"] = "Never".into();
    let lacks = json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]});
    vec![
        pod("good", &container(json!({}))),
        pod("crash", &container(json!({"command": ["sh", "-c", "exit 3"]}))),
        pod("lacks", &container(lacks)),
        pod("quantity", &container(json!({"resources": {"limits": {"cpu": "lots"}}}))),
        pod("command", &container(json!({"command": ["/nothing/there"]}))),
        absent,
        once,
    ]
}

#[tokio::test]
async fn containers_that_fail_say_why_and_the_others_never_notice() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.pods.set(&serde_json::to_vec(&failing()).unwrap().into());
    let waits = |bench: &Bench, pod: &str, reason: &str| {
        bench.container(pod)["state"]["waiting"]["reason"] == reason
    };
    bench.until("good is ready", |bench| bench.is_ready("good")).await;
    bench.until("crash pauses", |bench| waits(bench, "crash", "CrashLoopBackOff")).await;
    assert_eq!(bench.container("crash")["lastState"]["terminated"]["exitCode"], 3);
    let begun = ["Pulled", "Created", "Started"];
    assert_eq!(bench.happened("good"), begun);
    assert_eq!(bench.happened("crash"), [&begun[..], &begun[..], &["BackOff"]].concat());
    assert!(bench.said(
        "crash",
        "BackOff",
        "Back-off restarting failed container c in pod crash_ns"
    ));
    bench.until("an image is missing", |bench| waits(bench, "absent", "ImagePullBackOff")).await;
    assert_eq!(bench.happened("absent"), ["Pulling", "Failed", "BackOff", "Failed"]);
    assert!(bench.said("absent", "Failed", "Failed to pull image \"127.0.0.1:1/none:1\""));
    assert!(bench.said("absent", "Failed", "Error: ErrImagePull"));
    bench
        .until("a config map is missing", |bench| {
            waits(bench, "lacks", "CreateContainerConfigError")
        })
        .await;
    bench.until("a command is missing", |bench| waits(bench, "command", "RunContainerError")).await;
    bench
        .until("a quantity is none", |bench| {
            bench.statuses.get("quantity").is_some_and(|it| it["reason"] == "InvalidPod")
        })
        .await;
    bench
        .until("once is done", |bench| {
            bench.statuses.get("once").is_some_and(|it| it["phase"] == "Succeeded")
        })
        .await;
    assert_eq!(bench.container("once")["state"]["terminated"]["message"], "done\n");

    bench.maps.send_modify(|maps| drop(maps.insert("m".to_owned(), json!({"data": {"k": "v"}}))));
    bench.pods.refresh("ns");
    bench.until("lacks runs when it comes", |bench| bench.is_ready("lacks")).await;
    assert_eq!(bench.container("good")["restartCount"], 0);

    bench.pods.set(&"[]".into());
    bench.until("nothing is left", |bench| bench.pods.count() == 0).await;
    containerd.end().await;
}

#[tokio::test]
async fn what_the_runtime_has_of_no_pod_is_removed() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    let list = [pod("kept", &spec), pod("gone", &spec)];
    bench.pods.set(&serde_json::to_vec(&list).unwrap().into());
    bench.until("both run", |bench| bench.is_ready("kept") && bench.is_ready("gone")).await;
    bench.begin_anew(&list[..1]);
    bench.until("one is found", |bench| bench.pods.count() == 2).await;
    bench.until("one is left", |bench| bench.pods.count() == 1).await;
    let (sandboxes, _) = containerd.runtime().list(BTreeMap::new()).await.unwrap();
    let names: Vec<_> = sandboxes.into_iter().filter_map(|it| Some(it.metadata?.name)).collect();
    assert_eq!(names, ["kept"]);
    containerd.end().await;
}

#[tokio::test]
async fn a_pod_heals_while_the_store_takes_nothing() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    bench.pods.set(&serde_json::to_vec(&[pod("p", &spec)]).unwrap().into());
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let id = bench.container("p")["containerID"].as_str().unwrap_or_default().to_owned();
    let id = id.trim_start_matches("containerd://");
    bench.store.abort();
    let runtime = containerd.runtime();
    for _ in 0..2 {
        runtime.stop_container(id, std::time::Duration::ZERO).await.unwrap();
    }
    let again = async || {
        let (_, containers) = runtime.list(BTreeMap::new()).await.unwrap();
        containers.iter().any(|it| it.id != id && it.state() == ContainerState::Running)
    };
    tokio::select! {
        () = bench.until("never", |_| false) => {}
        () = containerd::until("it runs again", again) => {}
    }
    containerd.end().await;
}
