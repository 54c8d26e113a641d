//! A node that runs short, with figures that the test makes up and a runtime that is made up of lists:
//! what it tells, whom it lets go, whom it does not let in, and what its next life knows of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::bench::{Bench, give, pod};
use super::fake::Mood;
use super::may_use_the_kernel;
use super::runtimes::{Place, place_with};
use super::small_disk::SmallDisk;
use crate::gc::Gc;
use crate::pressure::Guard;
use crate::pressure::threshold::Pressure;

/// Nothing but what the test adds is watched.
fn calm(more: &Value) -> Value {
    let mut hard = json!({
        "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
        "imagefs.available": "0%", "imagefs.inodesFree": "0%",
    });
    let mut config = more.clone();
    hard.as_object_mut().unwrap().extend(more["evictionHard"].as_object().unwrap().clone());
    config["evictionHard"] = hard;
    config["imageMinimumGCAge"] = "0s".into();
    config
}

/// Says how much memory the node has free, of 1000 KiB.
fn free(folder: &Path, kibibytes: u32) {
    fs::create_dir_all(folder.join("proc")).unwrap();
    fs::create_dir_all(folder.join("groups")).unwrap();
    let text = format!("MemTotal: 1000 kB\nMemFree: {kibibytes} kB\nInactive(file): 0 kB\n");
    fs::write(folder.join("proc/meminfo"), text).unwrap();
}

fn guard(bench: &Bench, folder: &Path) -> Guard {
    bench.guard().reading(folder.join("proc"), folder.join("groups"))
}

/// Lets the guard look once while the engine works.
async fn look(bench: &mut Bench, mut guard: Guard) -> Guard {
    let task = tokio::spawn(async move {
        guard.look().await;
        guard
    });
    bench.while_until("the guard has looked", async || task.is_finished()).await;
    task.await.unwrap()
}

fn sized(name: &str, priority: i32) -> Value {
    let mut pod = pod(name, &json!({"containers": [{"name": "c"}]}));
    pod["spec"]["priority"] = priority.into();
    pod
}

fn evicted(bench: &Bench, pod: &str) -> bool {
    let status = &bench.statuses[pod];
    let ended = status["containerStatuses"][0]["state"]["terminated"].is_object();
    status["phase"] == "Failed" && status["reason"] == "Evicted" && ended
}

#[tokio::test]
async fn a_node_without_memory_lets_the_least_important_go_first_and_nobody_in() {
    let config = calm(&json!({
        "evictionHard": {"memory.available": "100Ki"}, "evictionPressureTransitionPeriod": "1s",
    }));
    let Place { mut bench, mut fake, _folder: folder } = place_with(true, &config);
    fake.begin();
    free(folder.path(), 500);
    let mut watch = guard(&bench, folder.path());
    for (name, priority) in [("important", 9), ("plain", 1), ("critical", 2_000_000_000)] {
        give(&mut bench, &sized(name, priority));
        bench.until("it runs", |bench| bench.is_ready(name)).await;
    }
    watch = look(&mut bench, watch).await;
    assert!(bench.host.pressures.borrow().is_empty());

    free(folder.path(), 50);
    watch = look(&mut bench, watch).await;
    bench.until("two are told", |it| evicted(it, "plain") && evicted(it, "important")).await;
    let gone = bench.notes.iter().filter(|(_, reason, _)| *reason == "Evicted");
    let gone: Vec<_> = gone.map(|(name, ..)| name.as_str()).collect();
    assert_eq!(gone, ["plain", "important"]);
    assert!(bench.said("n", "EvictionThresholdMet", "Attempting to reclaim memory"));
    let low = "The node was low on resource: memory. Threshold quantity: 100Ki, available: 50Ki. ";
    // What the kernel counts is of no container here.
    assert!(bench.statuses["plain"]["message"].as_str().unwrap().starts_with(low));
    let conditions = bench.statuses["plain"]["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|it| it["type"] == "DisruptionTarget").unwrap();
    assert_eq!(
        (&target["status"], &target["reason"]),
        (&json!("True"), &json!("TerminationByKubelet"))
    );
    assert_eq!(fake.look().await.running, ["critical"]);

    let mut asking = sized("asking", 0);
    asking["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "1Ki"}});
    give(&mut bench, &asking);
    give(&mut bench, &sized("best", 0));
    bench.until("who asked for memory may come", |bench| bench.is_ready("asking")).await;
    let refused = |bench: &Bench| {
        bench.statuses.get("best").is_some_and(|status| {
            status["reason"] == "Evicted"
                && status["message"]
                    == "Pod was rejected: The node had condition: [MemoryPressure]. "
        })
    };
    bench.until("who did not may not", refused).await;

    free(folder.path(), 500);
    for _ in 0..100 {
        watch = look(&mut bench, watch).await;
        if bench.host.pressures.borrow().is_empty() {
            break;
        }
    }
    assert!(bench.host.pressures.borrow().is_empty(), "the pressure has to pass");
    give(&mut bench, &sized("later", 0));
    bench.until("there is room again", |bench| bench.is_ready("later")).await;
}

#[tokio::test]
async fn the_next_life_knows_what_was_let_go_and_what_the_node_was_short_of() {
    let config = calm(&json!({"evictionHard": {"memory.available": "100Ki"}}));
    let Place { mut bench, mut fake, _folder: folder } = place_with(true, &config);
    fake.begin();
    free(folder.path(), 50);
    let watch = guard(&bench, folder.path());
    let pod = sized("p", 0);
    give(&mut bench, &pod);
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    drop(look(&mut bench, watch).await);
    bench.until("it is let go", |bench| evicted(bench, "p")).await;
    // The cloud is away: the store has the pod as it was.
    let mut before = pod.clone();
    before["status"] = json!({"phase": "Running"});
    bench.statuses.clear();
    bench.begin_anew(&[before]);
    bench.until("it is told again", |bench| bench.statuses.contains_key("p")).await;
    bench.until("it is told again", |bench| evicted(bench, "p")).await;
    assert_eq!(fake.look().await.running, [""; 0]);
    assert_eq!(fake.look().await.calls["RunPodSandbox"], 1);
    // Memory is free again, but the transition is not over.
    free(folder.path(), 500);
    let _next = guard(&bench, folder.path());
    assert!(bench.host.pressures.borrow().contains(&Pressure::Memory));
}

#[tokio::test]
async fn volumes_and_pods_over_their_limits_go_alone() {
    let config = calm(&json!({"evictionHard": {}}));
    let Place { mut bench, mut fake, _folder: folder } = place_with(true, &config);
    fake.begin();
    free(folder.path(), 500);
    let with = |name: &str, limits: Value| {
        let container = json!({"name": "c", "resources": {"limits": limits}});
        let volume = json!({"name": "v", "emptyDir": {"sizeLimit": "64Ki"}});
        pod(name, &json!({"volumes": [volume], "containers": [container]}))
    };
    let list = [
        ("volume", json!({}), 100),
        ("pod", json!({"ephemeral-storage": "32Ki"}), 48),
        ("within", json!({"ephemeral-storage": "64Ki"}), 4),
    ];
    for (name, limits, _) in &list {
        give(&mut bench, &with(name, limits.clone()));
        bench.until("it runs", |bench| bench.is_ready(name)).await;
    }
    for (name, _, kibibytes) in &list {
        let volume = format!("kubelet/pods/uid-{name}/volumes/kubernetes.io~empty-dir/v/file");
        fs::write(folder.path().join(volume), vec![1; kibibytes * 1024]).unwrap();
    }
    let watch = guard(&bench, folder.path());
    drop(look(&mut bench, watch).await);
    bench.until("both go", |it| evicted(it, "volume") && evicted(it, "pod")).await;
    let message = |name: &str| bench.statuses[name]["message"].as_str().unwrap_or_default();
    assert_eq!(message("volume"), "Usage of EmptyDir volume \"v\" exceeds the limit \"64Ki\". ");
    assert_eq!(
        message("pod"),
        "Pod ephemeral local storage usage exceeds the total limit of containers 32Ki. "
    );
    assert_eq!(fake.look().await.running, ["within"]);
    assert!(bench.host.pressures.borrow().is_empty());
    let volume = folder.path().join("kubelet/pods/uid-volume/volumes/kubernetes.io~empty-dir");
    bench.while_until("its volume goes, too", async || !volume.exists()).await;
}

#[tokio::test]
async fn a_disk_that_is_short_is_cleared_before_a_pod_goes() {
    if !may_use_the_kernel() {
        return;
    }
    let config = calm(&json!({"evictionHard": {"imagefs.available": "50%"}}));
    let Place { mut bench, mut fake, _folder: folder } = place_with(true, &config);
    fake.begin();
    free(folder.path(), 500);
    let disk = SmallDisk::new(1024);
    fake.images(&[("spare", 10)], disk.path()).await;
    give(&mut bench, &sized("p", 0));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    fs::write(disk.path().join("spare"), vec![1; 800 * 1024]).unwrap();
    let watch = guard(&bench, folder.path());
    drop(look(&mut bench, watch).await);
    assert_eq!(fake.look().await.images, [""; 0]);
    assert_eq!(fake.look().await.running, ["p"], "there is room again");
    assert!(bench.host.pressures.borrow().contains(&Pressure::Disk));
    let met = |it: &Bench| it.said("n", "EvictionThresholdMet", "reclaim ephemeral-storage");
    bench.until("it is said", met).await;
}

#[tokio::test]
async fn images_go_when_the_disk_fills_and_what_fails_is_said() {
    let config = calm(&json!({"evictionHard": {}}));
    let Place { mut bench, mut fake, _folder: folder } = place_with(true, &config);
    fake.begin();
    let mut gc = Gc::new(bench.host.clone(), "n");
    fake.images(&[("sha256:1", 30), ("spare", 10)], folder.path()).await;
    give(&mut bench, &sized("p", 0));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    gc.look_at_images(async { Some((50, 100)) }).await;
    assert_eq!(fake.look().await.images, ["sha256:1", "spare"], "there is room");
    fake.mood(Mood::ReadOnly).await;
    gc.look_at_images(async { Some((10, 100)) }).await;
    gc.look_at_images(async { Some((10, 100)) }).await;
    bench.until("it is said", |it| it.said("n", "ImageGCFailed", "read-only file system")).await;
    fake.mood(Mood::Good).await;
    gc.look_at_images(async { Some((10, 100)) }).await;
    assert_eq!(fake.look().await.images, ["sha256:1"], "what is in use stays");
    gc.look_at_images(async { Some((10, 100)) }).await;
    let short =
        "(90% of 100 B used). Failed to free sufficient space by deleting unused images (freed 0";
    bench.until("it is said", |it| it.said("n", "FreeDiskSpaceFailed", short)).await;
    gc.look_at_images(async { None }).await;
    bench.until("it is said", |it| it.said("n", "InvalidDiskCapacity", "invalid capacity 0")).await;
    assert!(bench.is_ready("p"));
}
