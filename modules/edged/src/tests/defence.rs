//! The node's defence with a real containerd: a full disk, too little memory, logs that grow, images
//! that nobody uses, and control groups that the kernel refuses.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::bench::{Bench, give, pod};
use super::containerd::{IMAGE, containerd, until};
use super::small_disk::SmallDisk;
use crate::cri::words as w;
use crate::gc::Gc;
use crate::rotate::{self, Policy};

/// What the machine is short of by itself is nothing to these tests.
fn calm(more: &Value) -> Value {
    let mut hard = json!({
        "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
        "imagefs.available": "0%", "imagefs.inodesFree": "0%",
    });
    hard.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"evictionHard": hard, "imageMinimumGCAge": "0s"})
}

fn evicted(bench: &Bench, pod: &str) -> bool {
    bench.statuses.get(pod).is_some_and(|it| it["reason"] == "Evicted" && it["phase"] == "Failed")
}

fn sleeper(name: &str) -> Value {
    pod(name, &json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]}))
}

#[tokio::test]
async fn who_fills_the_disk_goes_and_the_disk_is_free_again() {
    let Some(containerd) = containerd().await else { return };
    let disk = SmallDisk::at(&containerd.path().join("kubelet"), 16 * 1024);
    let config = calm(&json!({"nodefs.available": "30%"}));
    let mut bench = Bench::with(containerd.path(), &containerd.socket(), &config);
    bench.pods.set(&"[]".into());
    give(&mut bench, &sleeper("quiet"));
    let greedy = json!({
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{
            "name": "c", "command": ["sh", "-c", "cat /dev/zero > /v/file; sleep 1000"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }],
    });
    give(&mut bench, &pod("greedy", &greedy));
    bench.until("both run", |it| it.is_ready("quiet") && it.is_ready("greedy")).await;
    let available = || rustix::fs::statvfs(disk.path()).unwrap().f_bavail;
    bench.while_until("not a byte is left", async || available() == 0).await;
    let mut guard = bench.guard();
    let task = tokio::spawn(async move { guard.look().await });
    bench.while_until("the node has done what it can", async || task.is_finished()).await;
    bench.until("the greedy one goes", |bench| evicted(bench, "greedy")).await;
    let message = bench.statuses["greedy"]["message"].as_str().unwrap();
    assert!(message.starts_with("The node was low on resource: ephemeral-storage. "), "{message}");
    bench.while_until("there is room", async || available() > 2 * 1024).await;
    assert!(bench.is_ready("quiet") && !evicted(&bench, "quiet"));
    // Its engine would wait for what is on it.
    drop(bench);
    drop(disk);
    containerd.end().await;
}

#[tokio::test]
async fn who_uses_the_most_memory_goes_first() {
    let Some(containerd) = containerd().await else { return };
    // Nobody has that much, so that every pod has to go.
    let config = calm(&json!({"memory.available": "1Ei"}));
    let mut bench = Bench::with(containerd.path(), &containerd.socket(), &config);
    bench.pods.set(&"[]".into());
    give(&mut bench, &sleeper("small"));
    let large = json!({
        "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}],
        "containers": [{
            "name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "command": ["sh", "-c", "while [ ! -e /v/16 ]; do for i in 1 2 3 4 5 6 7 8 16; do \
                cat /bin/busybox > /v/$i; done; done; touch /v/ready; sleep 1000"],
            "readinessProbe": {"exec": {"command": ["ls", "/v/ready"]}, "periodSeconds": 1},
        }],
    });
    give(&mut bench, &pod("large", &large));
    bench.until("both run", |it| it.is_ready("small") && it.is_ready("large")).await;
    let mut guard = bench.guard();
    let task = tokio::spawn(async move { guard.look().await });
    bench.until("both go", |it| evicted(it, "small") && evicted(it, "large")).await;
    bench.while_until("the node has done what it can", async || task.is_finished()).await;
    let gone = bench.notes.iter().filter(|(_, reason, _)| *reason == "Evicted");
    let gone: Vec<_> = gone.map(|(name, ..)| name.as_str()).collect();
    assert_eq!(gone, ["large", "small"]);
    let message = bench.statuses["large"]["message"].as_str().unwrap();
    assert!(
        message.contains("Container c was using ") && message.contains("request is 0"),
        "{message}"
    );
    containerd.end().await;
}

#[tokio::test]
async fn logs_are_rotated_packed_and_bounded_and_a_rotation_that_broke_off_is_ended() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.pods.set(&"[]".into());
    let writer = json!({"containers": [{
        "name": "c", "command": ["sh", "-c", "while true; do echo 0123456789; sleep 0.01; done"],
    }]});
    give(&mut bench, &pod("p", &writer));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let (runtime, logs) = (containerd.runtime(), containerd.path().join("pods"));
    let folder = logs.join("ns_p_uid-p/c");
    let names = || {
        let entries = fs::read_dir(&folder).unwrap().flatten();
        let mut names: Vec<_> =
            entries.filter_map(|it| it.file_name().into_string().ok()).collect();
        names.sort();
        names
    };
    let grown = async || fs::metadata(folder.join("0.log")).is_ok_and(|it| it.len() > 500);
    let policy = Policy { size: 500, files: 3, interval: 1000 };
    for round in 0..3 {
        bench.while_until("the log has grown", grown).await;
        rotate::sweep(&runtime, &logs, policy).await;
        // Times have seconds: the next one is to have another name.
        let now = names().into_iter().find(|it| it.len() == "0.log.20260101-000000".len()).unwrap();
        fs::rename(folder.join(now), folder.join(format!("0.log.20260101-00000{round}"))).unwrap();
    }
    assert_eq!(names(), ["0.log", "0.log.20260101-000001.gz", "0.log.20260101-000002"]);
    let mut text = String::new();
    let packed = fs::File::open(folder.join("0.log.20260101-000001.gz")).unwrap();
    GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    assert!(text.lines().all(|line| line.ends_with(" stdout F 0123456789")), "{text}");

    // As if this process had died between renaming the log and telling the runtime.
    bench.while_until("the log has grown", grown).await;
    fs::rename(folder.join("0.log"), folder.join("0.log.20260101-000003")).unwrap();
    rotate::sweep(&runtime, &logs, policy).await;
    bench.while_until("the log goes on in a new file", grown).await;
    assert_eq!(bench.container("p")["restartCount"], 0);
    containerd.end().await;
}

/// Makes an image that has nothing but a name of its own; returns its file.
fn empty_image(parts: &Path, name: &str) -> PathBuf {
    let own = parts.join(name);
    fs::create_dir(&own).unwrap();
    fs::copy(parts.join("layer.tar"), own.join("layer.tar")).unwrap();
    let config = fs::read_to_string(parts.join("config.json")).unwrap();
    fs::write(own.join("config.json"), config.replace("1000000", "1000001")).unwrap();
    let manifest = format!(
        r#"[{{"Config":"config.json","RepoTags":["registry.test/{name}:1"],"Layers":["layer.tar"]}}]"#
    );
    fs::write(own.join("manifest.json"), manifest).unwrap();
    let file = parts.join(format!("{name}.tar"));
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&own).arg("-cf").arg(&file);
    assert!(tar.args(["manifest.json", "config.json", "layer.tar"]).status().unwrap().success());
    file
}

#[tokio::test]
async fn an_image_that_nobody_uses_goes_and_the_others_stay() {
    let Some(containerd) = containerd().await else { return };
    let file = empty_image(&containerd.path().join("image"), "spare");
    containerd.import(&file);
    let mut bench = Bench::with(containerd.path(), &containerd.socket(), &calm(&json!({})));
    bench.pods.set(&"[]".into());
    give(&mut bench, &sleeper("p"));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let runtime = containerd.runtime();
    let images = async || {
        let list = runtime.list_images(w::ListImagesRequest {}).await.unwrap().images;
        let mut tags: Vec<_> = list.into_iter().flat_map(|it| it.repo_tags).collect();
        tags.sort();
        tags
    };
    until("both images are known", async || images().await.len() == 3).await;
    let mut gc = Gc::new(bench.host.clone(), "n");
    gc.look_at_images(async { Some((10, 100)) }).await;
    let left = images().await;
    assert!(left.contains(&IMAGE.to_owned()) && left.len() == 2, "{left:?}");
    let place = gc.place().await.unwrap();
    assert!(place.starts_with(containerd.path()), "{}", place.display());
    containerd.end().await;
}

#[tokio::test]
async fn a_pod_s_group_is_bounded_and_one_that_is_refused_says_why() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.pods.set(&"[]".into());
    let root = private_containerd::group(containerd.path());
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let place = |controller: &str, group: &str| {
        let mount = Path::new("/sys/fs/cgroup");
        let mount = if unified { mount.to_owned() } else { mount.join(controller) };
        mount.join(root.trim_start_matches('/')).join(group)
    };
    let limited = |name: &str, cpu: &str| {
        let limits = json!({"cpu": cpu, "memory": "64Mi"});
        let container =
            json!({"name": "c", "command": ["sleep", "1000"], "resources": {"limits": limits}});
        pod(name, &json!({"containers": [container]}))
    };
    give(&mut bench, &limited("sure", "200m"));
    bench.until("it runs", |bench| bench.is_ready("sure")).await;
    let name = if unified { "memory.max" } else { "memory.limit_in_bytes" };
    let bound = fs::read_to_string(place("memory", "kubepods/poduid-sure").join(name)).unwrap();
    assert_eq!(bound.trim(), (64 << 20).to_string());
    let (name, expected) =
        if unified { ("cpu.max", "20000 100000") } else { ("cpu.cfs_quota_us", "20000") };
    let bound = fs::read_to_string(place("cpu", "kubepods/poduid-sure").join(name)).unwrap();
    assert_eq!(bound.trim(), expected);

    // What is no group takes no bounds.
    give(&mut bench, &limited("plain", "100m"));
    bench.until("it runs", |bench| bench.is_ready("plain")).await;
    if !unified {
        // Nobody may have more than the group above has.
        fs::write(place("cpu", "kubepods").join("cpu.cfs_quota_us"), "50000").unwrap();
        give(&mut bench, &limited("refused", "600m"));
        let said = |bench: &Bench| {
            bench.said(
                "refused",
                "FailedCreatePodContainer",
                "unable to ensure pod container exists",
            )
        };
        bench.until("the kernel's refusal is said", said).await;
        let waits = |bench: &Bench| {
            let message = &bench.container("refused")["state"]["waiting"]["message"];
            message.as_str().is_some_and(|it| it.contains("cpu.cfs_quota_us"))
        };
        bench.until("the pod waits", waits).await;
        fs::write(place("cpu", "kubepods").join("cpu.cfs_quota_us"), "-1").unwrap();
        bench.until("it runs when it may", |bench| bench.is_ready("refused")).await;
    }
    assert!(bench.is_ready("sure") && bench.is_ready("plain"));
    containerd.end().await;
}
