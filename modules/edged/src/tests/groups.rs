//! Runtimes that make control groups in the node's way and in another, and what the runtime is told
//! of a pod's resources.

use serde_json::json;
use tokio::sync::watch;

use super::bench::{give, pod};
use super::runtimes::{Place, place};
use crate::cgroup::Driver;
use crate::cri::Runtime;
use crate::cri::words as w;
use crate::runtime::{self, State};

#[tokio::test]
async fn a_runtime_with_another_driver_is_refused_in_a_sentence_until_it_has_the_same() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.driver(w::CgroupDriver::Systemd).await;
    fake.begin();
    let (sender, mut states) = watch::channel(State::default());
    let runtime = Runtime::new(fake.socket().to_owned());
    tokio::spawn(runtime::watch(runtime, Some(Driver::Cgroupfs), sender));
    let sentence = "cgroupDriver is cgroupfs, but the container runtime uses systemd: no pod can \
                    run until both use the same";
    let state = states.wait_for(|state| state.looked).await.unwrap().clone();
    assert_eq!(state.trouble, sentence);
    bench.facts.send_modify(|facts| facts.clash = state.clash);
    give(&mut bench, &pod("p", &json!({"containers": [{"name": "c"}]})));
    bench.until("it is said", |it| it.said("p", "FailedCreatePodSandBox", sentence)).await;
    bench
        .until("the pod waits", |bench| {
            bench.container("p")["state"]["waiting"]["message"] == sentence
        })
        .await;
    assert!(!fake.look().await.calls.contains_key("RunPodSandbox"));

    fake.driver(w::CgroupDriver::Cgroupfs).await;
    let state = states.wait_for(|state| state.trouble.is_empty()).await.unwrap().clone();
    bench.facts.send_modify(|facts| facts.clash = state.clash);
    bench.until("it runs", |bench| bench.is_ready("p")).await;
}

#[tokio::test]
async fn the_runtime_is_told_what_a_pod_takes_with_and_by_itself() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    let resources =
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "64Mi"}});
    let spec = json!({
        "overhead": {"cpu": "250m", "memory": "16Mi"},
        "containers": [{"name": "c", "resources": resources}, {"name": "d", "resources": resources}],
    });
    give(&mut bench, &pod("p", &spec));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let linux = fake.look().await.sandboxes.remove(0).linux.unwrap();
    let of = |it: &w::LinuxContainerResources| {
        (it.cpu_shares, it.cpu_quota, it.cpu_period, it.memory_limit_in_bytes)
    };
    assert_eq!(linux.resources.as_ref().map(of), Some((204, 40_000, 100_000, 128 << 20)));
    assert_eq!(linux.overhead.as_ref().map(of), Some((256, 25_000, 100_000, 16 << 20)));
}

#[tokio::test]
async fn other_resources_of_a_running_pod_hold_from_its_next_container_on() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    let with = |cpu: &str| {
        let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        let policy = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
        let container = json!({"name": "c", "resources": resources, "resizePolicy": policy});
        pod("p", &json!({"containers": [container]}))
    };
    let quota = |config: &w::ContainerConfig| {
        config.linux.as_ref().and_then(|it| it.resources.as_ref()).map(|it| it.cpu_quota)
    };
    give(&mut bench, &with("100m"));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    give(&mut bench, &with("200m"));
    // Another pod comes and goes through all that this one would have to.
    give(&mut bench, &pod("q", &json!({"containers": [{"name": "c"}]})));
    bench.until("the other runs", |bench| bench.is_ready("q")).await;
    let sight = fake.look().await;
    assert_eq!(quota(&sight.configs[0]), Some(10_000));
    assert!(!sight.calls.contains_key("StopContainer"));
    assert!(!sight.calls.contains_key("UpdateContainerResources"));
    assert!(bench.container("p")["resources"].is_null(), "it is told as if it were in force");
    fake.exit("p", 1).await;
    bench.until("it was restarted", |bench| bench.container("p")["restartCount"] == 1).await;
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let configs = fake.look().await.configs;
    assert!(configs.iter().any(|config| quota(config) == Some(20_000)));
}
