//! Devices of plug-ins: pods get them and keep them, and a plug-in that misbehaves hurts its own pods
//! only.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::bench::{Bench, give, pod};
use super::containerd::{containerd, until};
use super::runtimes::{Place, place};
use crate::devices::words::VERSION;
use fake_plugins::device::{Manner, PlugIn, register};

fn wanting(name: &str, resource: &str, count: &str) -> Value {
    let resources = json!({"limits": {resource: count}});
    let container = json!({"name": "c", "command": ["sleep", "1000"], "resources": resources});
    pod(name, &json!({"containers": [container]}))
}

fn root(bench: &Bench) -> PathBuf {
    bench.host.config.root.clone()
}

/// Waits until a resource has this many devices, and this many that can be used.
async fn amount(bench: &Bench, resource: &str, expected: (usize, usize)) {
    let amounts = bench.host.devices.amounts();
    let now = || amounts.borrow().get(resource).map(|it| it.amount(module_runtime::unix_millis()));
    until(resource, async || now() == Some(expected)).await;
}

fn failed(bench: &Bench, pod: &str, why: &str) -> bool {
    bench.statuses.get(pod).is_some_and(|status| {
        status["phase"] == "Failed"
            && status["reason"] == "UnexpectedAdmissionError"
            && status["message"].as_str().is_some_and(|text| text.contains(why))
    })
}

#[tokio::test]
async fn a_pod_has_its_devices_through_restarts_of_container_plug_in_and_engine() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.pods.set(&"[]".into());
    let mut plugin = PlugIn::new(&root(&bench), "x.org/d", Manner::Good);
    plugin.begin().await.unwrap();
    amount(&bench, "x.org/d", (2, 2)).await;
    let mut user = wanting("user", "x.org/d", "1");
    let script = "{ echo $DEVICES; cat /plugin/file; echo; head -c 3 /dev/of-the-plugin | wc -c; } \
                  > /dev/termination-log; exit 1";
    user["spec"]["containers"][0]["command"] = json!(["sh", "-c", script]);
    give(&mut bench, &user);
    let restarts = |bench: &Bench| bench.container("user")["restartCount"].as_u64();
    let ended = |bench: &Bench| {
        let end = &bench.container("user")["lastState"]["terminated"]["message"];
        end.as_str().unwrap_or_default().to_owned()
    };
    bench.until("it was restarted", |bench| restarts(bench) == Some(1)).await;
    assert_eq!(ended(&bench), "two\nof the plug-in\n3\n");
    assert_eq!((plugin.count("Allocate"), plugin.count("PreStartContainer two")), (1, 2));

    // The plug-in and the engine die; whoever is back first.
    plugin.vanish().await;
    amount(&bench, "x.org/d", (2, 0)).await;
    user["status"] = bench.statuses["user"].clone();
    bench.restart_devices();
    bench.begin_anew(std::slice::from_ref(&user));
    assert!(!root(&bench).join("device-plugins/x.org-d").exists(), "how would it notice");
    plugin.begin().await.unwrap();
    amount(&bench, "x.org/d", (2, 2)).await;
    bench.until("it was restarted again", |bench| restarts(bench) == Some(2)).await;
    assert_eq!(ended(&bench), "two\nof the plug-in\n3\n");
    assert_eq!(plugin.count("Allocate"), 1, "it was given devices again");
    give(&mut bench, &wanting("other", "x.org/d", "1"));
    bench.until("the other has the other", |bench| bench.is_ready("other")).await;
    assert_eq!(plugin.count("Allocate one"), 1);
    containerd.end().await;
}

#[tokio::test]
async fn who_wants_more_than_there_is_fails_and_what_is_over_gives_back() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    let mut plugin = PlugIn::new(&root(&bench), "x.org/d", Manner::Good);
    plugin.begin().await.unwrap();
    amount(&bench, "x.org/d", (2, 2)).await;
    let first = wanting("first", "x.org/d", "2");
    give(&mut bench, &first);
    bench.until("the first runs", |bench| bench.is_ready("first")).await;
    let config = fake.look().await.configs.remove(0);
    assert_eq!(config.annotations.get("x.org/note").map(String::as_str), Some("one,two"));
    give(&mut bench, &wanting("second", "x.org/d", "1"));
    give(&mut bench, &wanting("stranger", "y.org/unknown", "1"));
    let why = "Pod was rejected: Allocate failed due to requested number of devices unavailable for \
               x.org/d. Requested: 1, Available: 0, which is unexpected";
    bench.until("the second fails", |bench| failed(bench, "second", why)).await;
    bench.until("what no plug-in has is nobody's", |bench| bench.is_ready("stranger")).await;
    bench.pods.remove("ns", "first", br#"{"metadata":{"uid":"uid-first"}}"#);
    bench
        .until("the first is gone", |bench| {
            !bench.pods.all().iter().any(|it| it.pod.metadata.name == "first")
        })
        .await;
    plugin.devices.send_replace(vec![("one", true), ("two", false), ("three", true)]);
    amount(&bench, "x.org/d", (3, 2)).await;
    give(&mut bench, &wanting("third", "x.org/d", "2"));
    bench.until("the third runs", |bench| bench.is_ready("third")).await;
    assert_eq!(plugin.count("Allocate one,three"), 1);
    assert!(!bench.is_ready("second"));
}

#[tokio::test]
async fn a_plug_in_that_hangs_lies_floods_or_vanishes_hurts_its_own_pods_only() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    let root = root(&bench);
    let mut plugins: Vec<PlugIn> = [
        ("hang.org/d", Manner::Hangs),
        ("lie.org/d", Manner::Lies),
        ("flood.org/d", Manner::Floods),
        ("good.org/d", Manner::Good),
    ]
    .into_iter()
    .map(|(resource, manner)| PlugIn::new(&root, resource, manner))
    .collect();
    for plugin in &mut plugins {
        plugin.begin().await.unwrap();
    }
    for resource in ["hang.org/d", "lie.org/d", "flood.org/d", "good.org/d"] {
        amount(&bench, resource, (2, 2)).await;
    }
    for (name, resource) in [
        ("hung", "hang.org/d"),
        ("fooled", "lie.org/d"),
        ("flooded", "flood.org/d"),
        ("good", "good.org/d"),
    ] {
        give(&mut bench, &wanting(name, resource, "1"));
    }
    give(&mut bench, &pod("plain", &json!({"containers": [{"name": "c"}]})));
    for name in ["good", "plain", "flooded"] {
        bench.until(name, |bench| bench.is_ready(name)).await;
    }
    let why = "no containers return in allocation response";
    bench.until("the fooled one fails", |bench| failed(bench, "fooled", why)).await;
    let asked = plugins[0].asked.clone();
    bench.while_until("the hung one waits", async || !asked.borrow().is_empty()).await;
    assert!(!bench.is_ready("hung"));
    plugins[0].vanish().await;
    bench
        .until("the hung one fails", |bench| failed(bench, "hung", "Allocate failed due to"))
        .await;
    amount(&bench, "hang.org/d", (2, 0)).await;
    assert!(bench.is_ready("good") && bench.is_ready("plain") && bench.is_ready("flooded"));
}

#[tokio::test]
async fn nonsense_does_not_register() {
    let Place { bench, fake: _, _folder } = place(true);
    let socket = root(&bench).join("device-plugins/nobody");
    let refused = async |version: &str, endpoint: &str, resource: &str| {
        register(&socket, version, endpoint, resource).await.unwrap_err().message
    };
    assert!(refused("v1alpha", "nobody", "x.org/d").await.contains("\"v1alpha\" is not supported"));
    for resource in ["cpu", "kubernetes.io/d", ""] {
        assert!(refused(VERSION, "nobody", resource).await.contains("is invalid"), "{resource}");
    }
    for endpoint in ["../x", "", "kubelet.sock", "/etc/passwd"] {
        assert!(refused(VERSION, endpoint, "x.org/d").await.contains("is no name of a socket"));
    }
    let absent = refused(VERSION, "nobody", "x.org/d").await;
    assert!(absent.contains("cannot connect to"), "{absent}");
    assert!(!bench.host.devices.amounts().borrow().contains_key("x.org/d"));
}

#[tokio::test]
async fn a_damaged_checkpoint_is_no_obstacle_and_kubelets_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let of = |text: &str| {
        let plugins = folder.path().join("device-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        std::fs::write(plugins.join("kubelet_internal_checkpoint"), text).unwrap();
        crate::devices::Devices::begin(folder.path())
    };
    for damaged in ["", "{", "[]", r#"{"Data":{"PodDeviceEntries":[{"AllocResp":"%"}]}}"#] {
        assert!(of(damaged).held().await.held.is_empty(), "{damaged}");
    }
    let kubelets = r#"{"Data":{"PodDeviceEntries":[{"PodUID":"u","ContainerName":"c","ResourceName":"x.org/d",
        "DeviceIDs":{"-1":["one"]},"AllocResp":"CgYKAUESAUI="}],"RegisteredDevices":{"x.org/d":["one"],"y.org/d":null}},
        "Checksum":3471000485}"#;
    // Whole to look at, and not what was written.
    let another = of(&kubelets.replace("\"one\"", "\"two\"")).held().await;
    assert!(another.held.is_empty() && another.resources.is_empty());
    let core = of(kubelets).held().await;
    let held: Vec<_> = core.of("u", "c").collect();
    assert_eq!(held.len(), 1);
    let answer = held[0].answer.as_ref().unwrap();
    assert_eq!(answer.envs.get("A").map(String::as_str), Some("B"));
    assert_eq!(core.resources.keys().collect::<Vec<_>>(), ["x.org/d", "y.org/d"]);
}
