//! Nodes and pods with addresses of both families, and addresses that change.

use serde_json::{Value, json};

use super::bench::{Bench, give, pod};
use super::runtimes::{Place, place};

fn list(ips: &[&str]) -> Vec<String> {
    ips.iter().map(|ip| (*ip).to_owned()).collect()
}

/// Returns the addresses of a kind that a pod tells, without those that it takes back.
fn told(bench: &Bench, pod: &str, kind: &str) -> Vec<String> {
    let ips = bench.statuses.get(pod).and_then(|status| status[kind].as_array());
    let ips = ips.into_iter().flatten().filter(|ip| ip["$patch"].is_null());
    ips.filter_map(|ip| Some(ip["ip"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn a_pod_has_an_address_of_each_family_and_the_nodes_first_family_is_first() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    fake.addresses(&["10.0.0.5", "10.0.0.6", "fd00::5"]).await;
    let both = list(&["2001:db8::1", "192.0.2.1"]);
    bench.facts.send_modify(|facts| facts.addresses.clone_from(&both));
    let env = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let env = json!([
        env("HOST", "status.hostIP"),
        env("HOSTS", "status.hostIPs"),
        env("POD", "status.podIP"),
        env("PODS", "status.podIPs"),
    ]);
    give(&mut bench, &pod("own", &json!({"containers": [{"name": "c", "env": env}]})));
    let of_host = json!({"hostNetwork": true, "containers": [{"name": "c"}]});
    give(&mut bench, &pod("host", &of_host));
    bench.until("both run", |it| it.is_ready("own") && it.is_ready("host")).await;
    assert_eq!(told(&bench, "own", "hostIPs"), both);
    assert_eq!(told(&bench, "own", "podIPs"), ["fd00::5", "10.0.0.5"]);
    assert_eq!(bench.statuses["own"]["podIP"], "fd00::5");
    assert_eq!(told(&bench, "host", "podIPs"), both);
    let configs = fake.look().await.configs;
    let own = configs.iter().find(|it| !it.envs.is_empty()).unwrap();
    let value = |key: &str| own.envs.iter().find(|it| it.key == key).map(|it| it.value.as_str());
    assert_eq!((value("HOST"), value("POD")), (Some("2001:db8::1"), Some("fd00::5")));
    assert_eq!(value("HOSTS"), Some("2001:db8::1,192.0.2.1"));
    assert_eq!(value("PODS"), Some("fd00::5,10.0.0.5"));
}

#[tokio::test]
async fn an_address_of_the_node_that_changes_is_told_by_pods_and_restarts_none() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    let spec = |host: bool| json!({"hostNetwork": host, "containers": [{"name": "c"}]});
    let mut host = pod("host", &spec(true));
    give(&mut bench, &host);
    give(&mut bench, &pod("own", &spec(false)));
    bench.until("both run", |it| it.is_ready("own") && it.is_ready("host")).await;
    host["status"] = bench.statuses["host"].clone();
    bench.facts.send_modify(|facts| facts.addresses = list(&["192.0.2.9"]));
    let news = |bench: &Bench, pod: &str| bench.statuses[pod]["hostIP"] == "192.0.2.9";
    bench.until("both tell it", |it| news(it, "own") && news(it, "host")).await;
    assert_eq!(bench.statuses["host"]["podIP"], "192.0.2.9");
    assert_eq!(told(&bench, "own", "podIPs"), ["127.0.0.1"]);
    // What a patch does not take back stays in the cloud's list; what is there it says itself.
    give(&mut bench, &host);
    let taken_back = |bench: &Bench, kind: &str| {
        let ips = bench.statuses["host"][kind].as_array().cloned().unwrap_or_default();
        ips.contains(&json!({"ip": "192.0.2.1", "$patch": "delete"}))
    };
    let both = |it: &Bench| taken_back(it, "hostIPs") && taken_back(it, "podIPs");
    bench.until("the old one is taken back", both).await;
    assert_eq!(bench.container("host")["restartCount"], Value::from(0));
    assert_eq!(fake.look().await.calls["CreateContainer"], 2);
}
