//! Volumes with a real containerd.

use serde_json::{Value, json};

use super::bench::{Bench, pod};
use super::containerd::{containerd, until};

fn begin(bench: &mut Bench, pods: &[Value]) {
    bench.pods.set(&serde_json::to_vec(pods).unwrap().into());
}

fn tell(bench: &Bench, objects: Value) {
    let Value::Object(objects) = objects else { return };
    bench.maps.send_modify(|maps| maps.extend(objects));
}

/// Runs a script once in a pod with these volumes and mounts, and returns what it wrote.
async fn said(bench: &mut Bench, name: &str, spec: Value) -> String {
    let mut pod = pod(name, &spec);
    pod["spec"]["restartPolicy"] = "Never".into();
    bench.pods.apply(&serde_json::to_vec(&pod).unwrap());
    let ended = |bench: &Bench| !bench.container(name)["state"]["terminated"].is_null();
    bench.until("it is over", ended).await;
    let terminated = &bench.container(name)["state"]["terminated"];
    terminated["message"].as_str().unwrap_or_default().to_owned()
}

/// Returns a pod with a volume of each kind, which says what it sees of them.
fn everything() -> Value {
    let script = "{ cd /v; cat map/a secret/key projected/one projected/token; echo; cat labels/cpu; echo; \
        wc -c < big/big; grep ' /v/memory ' /proc/mounts; cat sub/file; \
        for it in map secret projected labels big; do echo x > $it/new || echo $it is read-only; done; \
        echo kept > claim/new; echo x > claim-ro/new || echo claim-ro is read-only; \
        ls -ln map/..data/a projected/..data/token; ls -ldn empty claim; } > /dev/termination-log 2>/dev/null";
    let mount = |name: &str| json!({"name": name, "mountPath": format!("/v/{name}")});
    let mut mounts: Vec<Value> =
        ["map", "secret", "projected", "labels", "memory", "empty", "big", "claim", "claim-ro"]
            .map(mount)
            .to_vec();
    mounts.push(json!({"name": "empty", "mountPath": "/v/sub", "subPathExpr": "$(PLACE)/x"}));
    json!({
        "serviceAccountName": "sa",
        "securityContext": {"fsGroup": 4321},
        "volumes": [
            {"name": "map", "configMap": {"name": "m", "defaultMode": 288, "items": [{"key": "one", "path": "a"}]}},
            {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "projected", "projected": {"sources": [
                {"configMap": {"name": "m"}}, {"secret": {"name": "absent", "optional": true}},
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}},
            {"name": "labels", "downwardAPI": {"items": [
                {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}}]}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "empty", "emptyDir": {}},
            {"name": "big", "configMap": {"name": "big"}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "claim-ro", "persistentVolumeClaim": {"claimName": "claim", "readOnly": true}},
        ],
        "initContainers": [{
            "name": "i", "image": super::containerd::IMAGE, "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", "mkdir_() { :; }; echo sub > /e/p/x/file"],
            "volumeMounts": [{"name": "empty", "mountPath": "/e"}, {"name": "empty", "mountPath": "/e2", "subPath": "p/x"}],
        }],
        "containers": [{
            "name": "c", "command": ["sh", "-c", script], "volumeMounts": mounts,
            "env": [{"name": "PLACE", "value": "p"}],
            "resources": {"limits": {"cpu": "250m"}},
        }],
    })
}

/// Gives the store what the volumes of [`everything`] need.
fn fill(bench: &Bench, disk: &std::path::Path) {
    let big = "x".repeat(1 << 20);
    tell(
        bench,
        json!({
            "m": {"data": {"one": "1", "two": "2"}, "immutable": true},
            "big": {"data": {"big": big}},
            "s": {"data": {"key": "c2VjcmV0"}},
            "claim": {"metadata": {"uid": "u-claim"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}},
            "pv": {"spec": {"local": {"path": disk}, "claimRef": {"uid": "u-claim"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "x", "operator": "In", "values": ["y"]}]}]}}}},
            "sa": {"status": {"token": "token", "expirationTimestamp": "2036-01-01T00:00:00Z"}},
        }),
    );
}

#[tokio::test]
async fn volumes_hold_what_they_are_to_and_go_with_the_pod() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let disk = containerd.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    fill(&bench, &disk);
    bench.pods.set(&"[]".into());
    let text = said(&mut bench, "all", everything()).await;
    let expected =
        "1secret1token\n250\n1048576\ntmpfs /v/memory tmpfs rw,nosuid,nodev,relatime,size=1024k";
    assert!(text.starts_with(expected), "{text}");
    for line in [
        "sub",
        "map is read-only",
        "secret is read-only",
        "projected is read-only",
        "labels is read-only",
        "big is read-only",
        "claim-ro is read-only",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing in:\n{text}");
    }
    let mode = |name: &str| {
        let line = text.lines().find(|line| line.ends_with(name)).unwrap_or_default();
        let words: Vec<_> = line.split_whitespace().collect();
        (words[0].to_owned(), words[3].to_owned())
    };
    let pair = |mode: &str| (mode.to_owned(), "4321".to_owned());
    assert_eq!(mode("map/..data/a"), pair("-r--r-----"));
    assert_eq!(mode("projected/..data/token"), pair("-rw-r-----"));
    assert_eq!(mode("empty"), pair("drwxrwsrwx"));
    assert_eq!(std::fs::read_to_string(disk.join("new")).unwrap(), "kept\n");

    let folder = containerd.path().join("kubelet/pods/uid-all");
    assert!(folder.exists());
    begin(&mut bench, &[]);
    bench.until("nothing is left", |bench| bench.pods.count() == 0).await;
    assert!(!folder.exists() && disk.join("new").exists());
    containerd.end().await;
}

#[tokio::test]
async fn what_a_crash_left_behind_is_removed() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let (kubelet, logs) = (containerd.path().join("kubelet/pods"), containerd.path().join("pods"));
    let left = kubelet.join("uid-left/volumes/kubernetes.io~empty-dir/v");
    crate::volumes::tree::empty(&left, Some(1 << 20), None).unwrap();
    std::fs::write(left.join("file"), "x").unwrap();
    for folder in
        [kubelet.join("uid-other"), logs.join("ns_gone_uid-gone"), logs.join("ns_left_uid-left")]
    {
        std::fs::create_dir_all(folder).unwrap();
    }
    let spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    begin(&mut bench, &[pod("kept", &spec)]);
    bench.until("kept is ready", |bench| bench.is_ready("kept")).await;
    bench.until("the others are removed", |bench| bench.pods.count() == 1).await;
    let names = |folder: &std::path::Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(&kubelet), ["uid-kept"]);
    assert_eq!(names(&logs), ["ns_kept_uid-kept"]);
    containerd.end().await;
}

#[tokio::test]
async fn a_volume_that_leads_out_or_lacks_something_stops_its_own_pod_only() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    tell(
        &bench,
        json!({"evil": {"data": {"../../up": "x"}}, "unbound": {"status": {"phase": "Pending"}}}),
    );
    let with = |name: &str, volume: Value, mount: Value| {
        let mut volume = volume;
        volume["name"] = "v".into();
        let mut mount_ = json!({"name": "v", "mountPath": "/v"});
        mount_.as_object_mut().unwrap().extend(mount.as_object().unwrap().clone());
        let container =
            json!({"name": "c", "command": ["sleep", "1000"], "volumeMounts": [mount_]});
        pod(name, &json!({"volumes": [volume], "containers": [container]}))
    };
    let outside = containerd.path().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    let inside = containerd.path().join("inside");
    std::fs::create_dir_all(&inside).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    let host = |kind: &str| json!({"hostPath": {"path": inside, "type": kind}});
    let list = [
        with("good", json!({"emptyDir": {}}), json!({})),
        with("link", host("Directory"), json!({"subPath": "link/new"})),
        with("dots", host(""), json!({"subPath": "a/../../outside"})),
        with("kind", host("File"), json!({})),
        with("evil", json!({"configMap": {"name": "evil"}}), json!({})),
        with("absent", json!({"secret": {"secretName": "absent"}}), json!({})),
        with("unbound", json!({"persistentVolumeClaim": {"claimName": "unbound"}}), json!({})),
        with("strange", json!({"nfs": {"server": "x"}}), json!({})),
        with("medium", json!({"emptyDir": {"medium": "Tape"}}), json!({})),
    ];
    begin(&mut bench, &list);
    bench.until("good is ready", |bench| bench.is_ready("good")).await;
    let message = |bench: &Bench, pod: &str| {
        bench.container(pod)["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned()
    };
    for (pod, text) in [
        ("link", "leads out of its volume"),
        ("dots", "leads out of its volume"),
        ("kind", "is not a file"),
        ("evil", "no path inside a volume"),
        ("absent", "secret \"absent\" not found"),
        ("unbound", "PVC is not bound"),
        ("strange", "'nfs' is not supported"),
        ("medium", "'Tape' is not supported"),
    ] {
        bench.until(text, |bench| message(bench, pod).contains(text)).await;
        let noted =
            |bench: &Bench| bench.said(pod, "FailedMount", text) || bench.said(pod, "Failed", text);
        bench.until(text, noted).await;
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    begin(&mut bench, &[]);
    until("all is gone", async || {
        bench.pods.next_ended().await;
        bench.pods.count() == 0
    })
    .await;
    containerd.end().await;
}
