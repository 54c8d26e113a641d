//! Volumes of a storage driver: they come into pods and go, and a driver that is not there or hangs
//! holds up its own pods only.

use serde_json::{Value, json};

use super::bench::{Bench, give, pod};
use super::containerd::{containerd, may_use_the_kernel};
use super::driver::{Driver, NAME};
use super::runtimes::{Place, place};

/// A volume and its claim, attached to the node or not yet.
fn tell(bench: &Bench, attached: bool) {
    let source = json!({"driver": NAME, "volumeHandle": "vol", "nodeStageSecretRef": {"name": "s", "namespace": "ns"}});
    let attachment = "csi-".to_owned() + &crate::csi::sum(&format!("vol{NAME}n"));
    let status = json!({"attached": attached, "attachmentMetadata": {"device": "/dev/x"}});
    let objects = json!({
        "claim": {"metadata": {"uid": "u"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}},
        "pv": {"spec": {"csi": source, "claimRef": {"uid": "u"}, "accessModes": ["ReadWriteOnce"]}},
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
    driver.begin();
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
    driver.end().await;
    remove(&mut bench, "two");
    let folder = root.join("pods/uid-two/volumes/kubernetes.io~csi/pv");
    let without = async || {
        let torn = bench.host.csi.tear_down("uid-two").await;
        torn.is_err_and(|why| why.contains("not found in the list"))
    };
    super::containerd::until("the driver is missed", without).await;
    assert!(folder.join("mount").exists());
    driver.begin();
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
    driver.begin();
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
