//! Fields of pods that few use: with a real containerd where it has them, else with the made-up
//! runtime.

use serde_json::{Value, json};

use super::bench::{Bench, give, pod};
use super::containerd::{IMAGE, containerd};
use super::runtimes::{Place, place};

/// Returns a pod with one container of this kind.
fn one(name: &str, container: &Value, more: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    let only = spec["containers"][0].as_object_mut().unwrap();
    only.extend(container.as_object().unwrap().clone());
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    pod(name, &spec)
}

fn guest(bench: &Bench, pod: &str) -> Value {
    bench.statuses[pod]["ephemeralContainerStatuses"][0].clone()
}

#[tokio::test]
async fn an_ephemeral_container_joins_a_living_pod_and_runs_once() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.pods.set(&"[]".into());
    let mut web = one("web", &json!({"command": ["sleep", "4321"]}), &json!({}));
    give(&mut bench, &web);
    bench.until("web is ready", |bench| bench.is_ready("web")).await;
    let id = bench.container("web")["containerID"].clone();
    let look = "cat /proc/[0-9]*/cmdline > /dev/termination-log; exit 3";
    web["spec"]["ephemeralContainers"] = json!([{
        "name": "debugger", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", look], "targetContainerName": "c",
    }]);
    give(&mut bench, &web);
    let is_over = |bench: &Bench| !guest(bench, "web")["state"]["terminated"].is_null();
    bench.until("the guest is over", is_over).await;
    let end = guest(&bench, "web")["state"]["terminated"].clone();
    assert_eq!(end["exitCode"], 3);
    let seen = end["message"].as_str().unwrap_or_default().replace('\0', " ");
    assert!(seen.contains("sleep 4321"), "it does not see its target's processes: {seen}");
    assert_eq!(bench.container("web")["containerID"], id, "the pod was restarted");
    assert_eq!(bench.statuses["web"]["phase"], "Running");
    assert!(bench.is_ready("web"));

    web["status"] = bench.statuses["web"].clone();
    bench.begin_anew(std::slice::from_ref(&web));
    bench.statuses.clear();
    bench.until("web is told again", |bench| bench.is_ready("web")).await;
    assert_eq!(guest(&bench, "web")["state"]["terminated"], end, "it ran twice");
    web["spec"]["ephemeralContainers"].as_array_mut().unwrap().push(json!({
        "name": "lost", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["true"], "targetContainerName": "nobody",
    }));
    give(&mut bench, &web);
    let said = "unable to find target container \"nobody\"";
    bench.until("the other has no target", |bench| bench.said("web", "Failed", said)).await;
    assert_eq!(bench.container("web")["containerID"], id);
    containerd.end().await;
}

#[tokio::test]
async fn a_pod_has_the_settings_of_the_kernel_that_are_its_own() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.pods.set(&"[]".into());
    let with = |name: &str, setting: &str| {
        let command = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start > /dev/termination-log";
        let sysctls = json!([{"name": setting, "value": "81"}]);
        let more = json!({"restartPolicy": "Never", "securityContext": {"sysctls": sysctls}});
        one(name, &json!({"command": ["sh", "-c", command]}), &more)
    };
    give(&mut bench, &with("safe", "net/ipv4/ip_unprivileged_port_start"));
    give(&mut bench, &with("unsafe", "net.core.somaxconn"));
    let over = |bench: &Bench| !bench.container("safe")["state"]["terminated"].is_null();
    bench.until("the safe one has it", over).await;
    assert_eq!(bench.container("safe")["state"]["terminated"]["message"], "81\n");
    let status = bench.statuses["unsafe"].clone();
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&"Failed".into(), &"SysctlForbidden".into())
    );
    let said = "forbidden sysctl: \"net.core.somaxconn\" not allowlisted";
    assert!(bench.said("unsafe", "SysctlForbidden", said));
    containerd.end().await;
}

#[tokio::test]
async fn a_pod_runs_under_the_handler_of_its_class() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.pods.set(&"[]".into());
    bench.maps.send_modify(|maps| {
        maps.insert("special".to_owned(), json!({"handler": "runc"}));
        maps.insert("broken".to_owned(), json!({"handler": "not-there"}));
    });
    let of = |class: &str| one(class, &json!({}), &json!({"runtimeClassName": class}));
    for class in ["runc", "special", "broken", "unknown"] {
        give(&mut bench, &of(class));
    }
    bench.until("the runtime knows the name", |bench| bench.is_ready("runc")).await;
    bench.until("the store knows the class", |bench| bench.is_ready("special")).await;
    for (pod, handler) in [("broken", "not-there"), ("unknown", "unknown")] {
        let why = format!("\"{handler}\" is configured");
        bench.until(pod, |bench| bench.said(pod, "FailedCreatePodSandBox", &why)).await;
    }
    containerd.end().await;
}

#[tokio::test]
async fn what_is_mounted_below_is_read_only_where_the_runtime_can() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.pods.set(&"[]".into());
    let with = |name: &str, mode: &str, read_only: bool| {
        let mount = json!({"name": "v", "mountPath": "/v", "readOnly": read_only, "recursiveReadOnly": mode});
        let volume = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
        one(name, &json!({"volumeMounts": [mount]}), &volume)
    };
    give(&mut bench, &with("if-possible", "IfPossible", true));
    give(&mut bench, &with("enabled", "Enabled", true));
    give(&mut bench, &with("writable", "Enabled", false));
    bench.until("it runs without", |bench| bench.is_ready("if-possible")).await;
    let message = |bench: &Bench, pod: &str| bench.container(pod)["state"]["waiting"].clone();
    for (pod, why) in [("enabled", "not supported by the runtime"), ("writable", "not read-only")] {
        let holds = |bench: &Bench| {
            let waiting = message(bench, pod);
            waiting["reason"] == "CreateContainerConfigError"
                && waiting["message"].as_str().is_some_and(|text| text.contains(why))
        };
        // A runtime of later days can do it.
        bench.until(pod, |bench| holds(bench) || pod == "enabled" && bench.is_ready(pod)).await;
    }
    containerd.end().await;
}

#[tokio::test]
async fn a_volume_stays_as_it_is_where_its_folder_is_the_groups_already() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.pods.set(&"[]".into());
    let pv = |path: &std::path::Path| json!({"spec": {"local": {"path": path}}});
    let group = |path: &std::path::Path| std::fs::metadata(path).unwrap().gid();
    let mut pods = Vec::new();
    for policy in ["OnRootMismatch", "Always"] {
        let disk = containerd.path().join(policy);
        std::fs::create_dir(&disk).unwrap();
        std::fs::write(disk.join("file"), "").unwrap();
        chown(&disk, None, Some(4321)).unwrap();
        std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o2775)).unwrap();
        let name = policy.to_lowercase();
        let claim =
            json!({"spec": {"volumeName": format!("pv-{name}")}, "status": {"phase": "Bound"}});
        bench.maps.send_modify(|maps| {
            maps.insert(name.clone(), claim);
            maps.insert(format!("pv-{name}"), pv(&disk));
        });
        let volume = json!([{"name": "v", "persistentVolumeClaim": {"claimName": name}}]);
        let security = json!({"fsGroup": 4321, "fsGroupChangePolicy": policy});
        pods.push(one(&name, &json!({}), &json!({"volumes": volume, "securityContext": security})));
    }
    pods.iter().for_each(|pod| give(&mut bench, pod));
    bench
        .until("both run", |bench| bench.is_ready("onrootmismatch") && bench.is_ready("always"))
        .await;
    let file = |policy: &str| group(&containerd.path().join(policy).join("file"));
    assert_eq!(file("Always"), 4321);
    assert_ne!(file("OnRootMismatch"), 4321);
    containerd.end().await;
}

#[tokio::test]
async fn images_are_volumes_and_signals_are_told_where_the_runtime_has_them() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    let container = json!({
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "part"}],
        "lifecycle": {"stopSignal": "SIGUSR1"},
    });
    let volume =
        json!({"volumes": [{"name": "v", "image": {"reference": "registry.test/data:1"}}]});
    give(&mut bench, &one("p", &container, &volume));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let config = fake.look().await.configs.remove(0);
    assert_eq!(config.stop_signal, 29);
    let mount = config.mounts.iter().find(|mount| mount.container_path == "/v").unwrap();
    assert_eq!(mount.image.as_ref().map(|it| it.image.as_str()), Some("sha256:1"));
    assert_eq!((mount.image_sub_path.as_str(), mount.host_path.as_str()), ("part", ""));
    assert!(mount.readonly);
    assert!(bench.said("p", "Pulled", "registry.test/data:1"));
}
