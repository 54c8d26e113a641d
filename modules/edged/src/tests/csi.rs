//! Volumes of a storage driver: they come into pods and go, and a driver that is not there or hangs
//! holds up its own pods only.

use std::os::unix::fs::FileTypeExt as _;

use serde_json::{Value, json};

use super::bench::{Bench, give, pod};
use super::containerd::{containerd, may_use_the_kernel};
use super::runtimes::{Place, place};
use fake_plugins::storage::{Driver, NAME};

/// A volume and its claim, attached to the node or not yet.
fn tell(bench: &Bench, attached: bool) {
    let source = json!({"driver": NAME, "volumeHandle": "vol", "nodeStageSecretRef": {"name": "s", "namespace": "ns"}});
    let attachment = "csi-".to_owned() + &crate::csi::sum(&format!("vol{NAME}n"));
    let status = json!({"attached": attached, "attachmentMetadata": {"device": "/dev/x"}});
    let objects = json!({
        "claim": {"metadata": {"uid": "u"}, "spec": {"volumeName": "pv"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Mi"}}},
        "pv": {"spec": {"csi": source, "claimRef": {"uid": "u"}, "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Mi"}}},
        "s": {"data": {"key": "d29yZA=="}},
        "n": {"metadata": {"name": "n", "labels": {"a": "b"}}},
        attachment: {"status": status},
    });
    let Value::Object(objects) = objects else { return };
    bench.maps.send_modify(|maps| maps.extend(objects));
}

fn user(name: &str, script: &str, volume: Value) -> Value {
    let mut volume = volume;
    volume["name"] = "v".into();
    let mounts = json!([{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/part", "subPath": "part"}]);
    pod(
        name,
        &json!({"volumes": [volume], "containers": [{
            "name": "c", "command": ["sh", "-c", format!("{script}; sleep 1000")], "volumeMounts": mounts,
        }]}),
    )
}

fn claim() -> Value {
    json!({"persistentVolumeClaim": {"claimName": "claim"}})
}

fn remove(bench: &mut Bench, name: &str) {
    let object = json!({"metadata": {"uid": format!("uid-{name}")}}).to_string();
    bench.pods.remove("ns", name, object.as_bytes());
}

const VOLUMES: &[&str] = &["stage", "unstage", "publish", "unpublish"];

#[tokio::test]
async fn a_drivers_volume_is_staged_once_shared_and_taken_off_with_its_last_pod() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.pods.set(&"[]".into());
    tell(&bench, true);
    let root = bench.host.config.root.clone();
    let mut driver = Driver::new(&root);
    driver.begin().unwrap();
    let told = |bench: &Bench| bench.made.contains_key("n");
    bench.until("the cloud hears of the driver", told).await;
    let metadata = &bench.made["n"]["metadata"];
    let ids = &metadata["annotations"]["csi.volume.kubernetes.io/nodeid"];
    assert_eq!(ids, &json!(json!({NAME: "memory-of-n"}).to_string()));
    assert_eq!(metadata["labels"], json!({"a": "b", "topology.example.org/rack": "7"}));

    give(&mut bench, &user("one", "echo word > /part/file", claim()));
    bench.until("one runs", |bench| bench.is_ready("one")).await;
    let part = root.join("pods/uid-one/volumes/kubernetes.io~csi/pv/mount/part/file");
    bench.while_until("one writes", async || part.exists()).await;
    let read = "cat /v/part/file > /dev/termination-log; exit 0";
    give(&mut bench, &user("two", read, claim()));
    let said =
        |bench: &Bench| bench.container("two")["lastState"]["terminated"]["message"] == "word\n";
    bench.until("two reads it", said).await;
    let inline = json!({"csi": {"driver": NAME, "volumeAttributes": {"size": "1"}}});
    give(&mut bench, &user("three", "true", inline));
    bench.until("three has one of its own", |bench| bench.is_ready("three")).await;
    assert_eq!(
        driver.calls(VOLUMES),
        ["stage vol key=word /dev/x", "publish vol", "publish vol", "publish three"]
    );

    remove(&mut bench, "three");
    bench.until("three is gone", |bench| bench.pods.count() == 2).await;
    remove(&mut bench, "one");
    bench.until("one is gone", |bench| bench.pods.count() == 1).await;
    assert!(driver.calls(&["unstage"]).is_empty(), "two has it still");
    // A driver that is not there is waited for: nothing of the volume is lost meanwhile.
    driver.end().await.unwrap();
    remove(&mut bench, "two");
    let folder = root.join("pods/uid-two/volumes/kubernetes.io~csi/pv");
    let without = async || {
        let torn = bench.host.csi.tear_down("uid-two").await;
        torn.is_err_and(|why| why.contains("not found in the list"))
    };
    super::containerd::until("the driver is missed", without).await;
    assert!(folder.join("mount").exists());
    driver.begin().unwrap();
    bench.until("two is gone", |bench| bench.pods.count() == 0).await;
    let last = driver.calls(VOLUMES).split_off(4);
    assert_eq!(last.len(), 4, "{last:?}");
    assert!(last[0].starts_with("unpublish csi-"), "{last:?}");
    assert_eq!(last[1..], ["unpublish vol", "unpublish vol", "unstage vol"]);
    assert_eq!(
        std::fs::read_dir(root.join("plugins/kubernetes.io/csi").join(NAME)).unwrap().count(),
        0
    );
    containerd.end().await;
}

#[tokio::test]
async fn a_driver_that_is_absent_or_hangs_and_a_volume_that_is_not_attached_hold_up_their_pods_only()
 {
    if !may_use_the_kernel() {
        return;
    }
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    tell(&bench, false);
    let waits = |bench: &Bench, pod: &str, why: &str| {
        let message = &bench.container(pod)["state"]["waiting"]["message"];
        message.as_str().is_some_and(|text| text.contains(why))
    };
    give(&mut bench, &user("user", "true", claim()));
    let absent = format!("driver name {NAME} not found in the list of registered CSI drivers");
    bench.until("the driver is missed", |bench| waits(bench, "user", &absent)).await;
    let mut driver = Driver::new(&bench.host.config.root);
    driver.answers.send_replace(false);
    driver.begin().unwrap();
    bench.until("it is not attached", |bench| waits(bench, "user", "is not attached yet")).await;
    tell(&bench, true);
    bench.pods.refresh("ns");
    give(&mut bench, &pod("plain", &json!({"containers": [{"name": "c"}]})));
    bench.until("the plain one runs", |bench| bench.is_ready("plain")).await;
    assert!(!bench.is_ready("user") && driver.calls(VOLUMES).is_empty());
    driver.answers.send_replace(true);
    bench.until("the user runs", |bench| bench.is_ready("user")).await;
    assert!(bench.said("user", "FailedMount", &absent));
    remove(&mut bench, "user");
    bench.until("it is gone", |bench| bench.pods.count() == 1).await;
    assert_eq!(driver.calls(&["un"]), ["unpublish vol", "unstage vol"]);
}

/// Changes what the volume's object says.
fn change(bench: &Bench, key: &str, value: &Value) {
    bench.maps.send_modify(|maps| {
        if let Some(volume) = maps.get_mut("pv") {
            volume["spec"][key] = value.clone();
        }
    });
}

#[tokio::test]
async fn a_volume_grows_once_while_it_is_in_use_and_tells_how_full_it_is() {
    if !may_use_the_kernel() {
        return;
    }
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    tell(&bench, true);
    let mut driver = Driver::new(&bench.host.config.root);
    driver.begin().unwrap();
    let user = user("user", "true", claim());
    give(&mut bench, &user);
    bench.until("the user runs", |bench| bench.is_ready("user")).await;
    let in_use = format!("kubernetes.io/csi/{NAME}^vol");
    assert_eq!(bench.host.csi.in_use(), [in_use]);
    assert!(driver.calls(&["expand"]).is_empty(), "it is as large as its claim says");
    for (size, all) in [("2Mi", 1), ("3Mi", 2)] {
        change(&bench, "capacity", &json!({"storage": size}));
        bench.begin_anew(std::slice::from_ref(&user));
        bench.pods.refresh("ns");
        let grown = async || driver.calls(&["expand"]).len() == all;
        bench.while_until("it grows", grown).await;
        let noted = |bench: &Bench| {
            let size = format!("\"expandedTo\":\"{}\"", (all + 1) << 20);
            let note = "pods/uid-user/volumes/kubernetes.io~csi/pv/vol_data.json";
            let note = std::fs::read_to_string(bench.host.config.root.join(note));
            note.is_ok_and(|note| note.contains(&size))
        };
        bench.until("that is noted", noted).await;
    }
    assert_eq!(driver.calls(&["expand"]), ["expand vol 2097152", "expand vol 3145728"]);
    let filled = bench.host.csi.filled().await;
    let told: Vec<_> = filled.iter().map(|it| (&*it.kept.claim, it.fill[1])).collect();
    assert_eq!(told, [("claim", 3 << 20)]);
    let said = "MountVolume.NodeExpandVolume succeeded for volume \"pv\" n";
    bench.until("it is said", |bench| bench.said("user", "FileSystemResizeSuccessful", said)).await;
    remove(&mut bench, "user");
    bench.until("it is gone", |bench| bench.pods.count() == 0).await;
    assert!(bench.host.csi.in_use().is_empty() && bench.host.csi.filled().await.is_empty());
}

#[tokio::test]
async fn a_volume_can_be_a_device_and_is_not_taken_for_a_folder() {
    if !may_use_the_kernel() {
        return;
    }
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    tell(&bench, true);
    change(&bench, "volumeMode", &"Block".into());
    let root = bench.host.config.root.clone();
    let mut driver = Driver::new(&root);
    driver.begin().unwrap();
    give(&mut bench, &user("fooled", "true", claim()));
    let why = "volume v has volumeMode Block, but is specified in volumeMounts";
    let waits = |bench: &Bench| {
        let message = &bench.container("fooled")["state"]["waiting"]["message"];
        message.as_str().is_some_and(|text| text.contains(why))
    };
    bench.until("the fooled one says why", waits).await;
    let mut user = user("user", "true", claim());
    let container = &mut user["spec"]["containers"][0];
    container["volumeMounts"] = json!([]);
    container["volumeDevices"] = json!([{"name": "v", "devicePath": "/dev/volume"}]);
    give(&mut bench, &user);
    bench.until("the user runs", |bench| bench.is_ready("user")).await;
    let devices: Vec<_> =
        fake.look().await.configs.into_iter().flat_map(|config| config.devices).collect();
    assert_eq!(devices.len(), 1);
    assert_eq!((&*devices[0].container_path, &*devices[0].permissions), ("/dev/volume", "mrw"));
    let kind = std::fs::metadata(&devices[0].host_path).unwrap().file_type();
    assert!(kind.is_block_device(), "{devices:?}");

    for (name, left) in [("fooled", 1), ("user", 0)] {
        remove(&mut bench, name);
        bench.until("it is gone", |bench| bench.pods.count() == left).await;
    }
    let all = root.join("plugins/kubernetes.io/csi/volumeDevices");
    assert_eq!(driver.calls(&["un"]), ["unpublish vol", "unpublish vol", "unstage vol"]);
    for left in ["pv", "staging/pv", "publish/pv"] {
        assert!(!all.join(left).exists(), "{left}");
    }
}
