//! Tables of pods and nodes, and what each comes to.

use serde_json::{Value, json};

use super::*;

fn pod(spec: &Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

fn asking(requests: &Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests}})
}

const ROOM: Room = Room { cpu: 2000, memory: 1 << 30, storage: 1 << 33, pods: 3 };

fn reason(pod: &Pod, others: &[Pod]) -> &'static str {
    fits(pod, others.iter(), &ROOM).err().map_or("", |verdict| verdict.reason)
}

#[test]
fn pods_get_what_the_others_leave() {
    let half = pod(&json!({"containers": [asking(&json!({"cpu": "1", "memory": "512Mi"}))]}));
    assert_eq!(reason(&half, std::slice::from_ref(&half)), "");
    let more = |what: Value| pod(&json!({"containers": [asking(&what)]}));
    let others = std::slice::from_ref(&half);
    assert_eq!(reason(&more(json!({"cpu": "1001m"})), others), "OutOfcpu");
    assert_eq!(reason(&more(json!({"memory": "513Mi"})), others), "OutOfmemory");
    assert_eq!(reason(&more(json!({"ephemeral-storage": "9Gi"})), &[]), "OutOfephemeral-storage");
    assert_eq!(reason(&more(json!({"example.com/gpu": "9"})), &[]), "", "unknown to the node");
    let small = pod(&json!({"containers": [{"name": "c"}]}));
    let full = [half.clone(), half.clone()];
    assert_eq!(reason(&small, &full), "", "asks for nothing");
    let full = vec![small.clone(); 3];
    let told = fits(&small, full.iter(), &ROOM).unwrap_err();
    assert_eq!(told.reason, "OutOfpods");
    let words = "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3";
    assert_eq!(told.message, words);
}

#[test]
fn init_containers_count_as_long_as_they_run() {
    let cpu = |name: &str, amount: &str, policy: Value| json!({"name": name, "restartPolicy": policy, "resources": {"requests": {"cpu": amount}}});
    let asks = |inits: Value, main: &str| {
        request(
            &pod(&json!({"initContainers": inits, "containers": [cpu("c", main, Value::Null)]})),
            "cpu",
        )
    };
    assert_eq!(asks(json!([cpu("i", "3", Value::Null)]), "1"), 3000);
    assert_eq!(asks(json!([cpu("i", "1", Value::Null)]), "2"), 2000);
    let side = cpu("s", "500m", "Always".into());
    assert_eq!(asks(json!([side, cpu("i", "1", Value::Null)]), "1"), 1500);
    assert_eq!(asks(json!([cpu("i", "2", Value::Null), side]), "1"), 2000);
    assert_eq!(asks(json!([side, cpu("i", "2", Value::Null)]), "1"), 2500);
}

#[test]
fn a_port_of_the_node_has_one_pod() {
    let at = |port: i32, protocol: &str, ip: &str| {
        pod(&json!({"containers": [{"name": "c", "ports": [
            {"containerPort": 1, "hostPort": port, "protocol": protocol, "hostIP": ip}]}]}))
    };
    let web = [at(80, "TCP", "")];
    assert_eq!(reason(&at(80, "", "127.0.0.1"), &web), "NodePorts");
    assert_eq!(reason(&at(80, "UDP", ""), &web), "");
    assert_eq!(reason(&at(81, "TCP", ""), &web), "");
    assert_eq!(reason(&at(0, "TCP", ""), &[at(0, "TCP", "")]), "");
    let one = [at(80, "TCP", "192.0.2.1")];
    assert_eq!(reason(&at(80, "TCP", "192.0.2.2"), &one), "");
    assert_eq!(reason(&at(80, "TCP", "192.0.2.1"), &one), "NodePorts");
}

#[test]
fn pods_of_other_systems_are_refused() {
    assert_eq!(reason(&pod(&json!({"os": {"name": "windows"}})), &[]), "PodOSNotSupported");
    assert_eq!(reason(&pod(&json!({"os": {"name": "linux"}})), &[]), "");
    let mut labelled = pod(&json!({}));
    labelled.metadata.labels = Some([(OS.to_owned(), "windows".to_owned())].into());
    assert_eq!(reason(&labelled, &[]), "PodOSSelectorNodeLabelDoesNotMatch");
}

#[test]
fn what_a_pod_takes_by_itself_counts() {
    let mut heavy = pod(&json!({"containers": [asking(&json!({"cpu": "1"}))]}));
    heavy.spec.overhead = serde_json::from_value(json!({"cpu": "250m", "memory": "2Gi"})).unwrap();
    assert_eq!(request(&heavy, "cpu"), 1250);
    assert_eq!(reason(&heavy, &[]), "OutOfmemory");
}

#[test]
fn a_profile_needs_a_kernel_that_keeps_it() {
    let with = |profile: Value| {
        pod(
            &json!({"containers": [{"name": "c", "securityContext": {"appArmorProfile": profile}}]}),
        )
    };
    let said = |pod: &Pod, armor: bool| may(pod, &[], armor).err().map(|it| it.message);
    let runtimes = with(json!({"type": "RuntimeDefault"}));
    assert_eq!(said(&runtimes, true), None);
    let cannot = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
    assert_eq!(said(&runtimes, false).as_deref(), Some(cannot));
    assert_eq!(said(&with(json!({"type": "Unconfined"})), false), None);
    assert_eq!(said(&with(json!({"type": "Localhost", "localhostProfile": "p"})), true), None);
    assert!(said(&with(json!({"type": "Localhost"})), true).is_some());
    let mut annotated = pod(&json!({"containers": [{"name": "c"}]}));
    let key = "container.apparmor.security.beta.kubernetes.io/c".to_owned();
    annotated.metadata.annotations = Some([(key, "localhost/p".to_owned())].into());
    assert_eq!(said(&annotated, false).as_deref(), Some(cannot));
    assert_eq!(may(&annotated, &[], false).unwrap_err().reason, "AppArmor");
}

fn node() -> Terms {
    Terms::of(&json!({
        "metadata": {"labels": {"disk": "ssd", "cores": "4"}},
        "spec": {"taints": [{"key": "site", "value": "far", "effect": "NoExecute"},
                            {"key": "x", "effect": "NoSchedule"}]},
    }))
}

fn suited(spec: &Value) -> bool {
    suits(&pod(spec), true, "n", &node()).is_ok()
}

#[test]
fn a_pod_runs_where_its_node_is_labelled_as_it_wants() {
    assert!(suited(&json!({"nodeSelector": {"disk": "ssd"}})));
    assert!(!suited(&json!({"nodeSelector": {"disk": "ssd", "rack": "1"}})));
    let wants = |terms: Value| {
        let required = json!({"nodeSelectorTerms": terms});
        suited(&json!({"affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": required}}}))
    };
    let wish = |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
    for (wish, holds) in [
        (wish("disk", "In", &["hdd", "ssd"]), true),
        (wish("disk", "In", &["hdd"]), false),
        (wish("disk", "NotIn", &["hdd"]), true),
        (wish("rack", "NotIn", &["1"]), true),
        (wish("disk", "Exists", &[]), true),
        (wish("rack", "Exists", &[]), false),
        (wish("rack", "DoesNotExist", &[]), true),
        (wish("cores", "Gt", &["3"]), true),
        (wish("cores", "Lt", &["4"]), false),
        (wish("disk", "Gt", &["3"]), false),
        (wish("disk", "Like", &["ssd"]), false),
    ] {
        assert_eq!(wants(json!([{"matchExpressions": [wish]}])), holds, "{wish}");
        assert!(
            wants(json!([{"matchExpressions": [wish]}, {"matchExpressions": [
            {"key": "disk", "operator": "Exists"}]}])),
            "any term will do"
        );
    }
    let name = |name: &str| json!([{"matchFields": [wish("metadata.name", "In", &[name])]}]);
    assert!(wants(name("n")) && !wants(name("m")));
    assert!(!wants(json!([{}])) && !wants(json!([])));
    let prefers = json!({"affinity": {"nodeAffinity": {}, "podAffinity": {}}});
    assert!(suited(&prefers));
}

#[test]
fn a_pod_bears_the_taints_that_drive_pods_off() {
    let tolerates = |toleration: Value| {
        suits(&pod(&json!({"tolerations": [toleration]})), false, "n", &node())
            .err()
            .map_or("", |verdict| verdict.reason)
    };
    let no = "TaintToleration";
    assert_eq!(tolerates(json!({"key": "site", "value": "far", "effect": "NoExecute"})), "");
    assert_eq!(tolerates(json!({"key": "site", "operator": "Exists"})), "");
    assert_eq!(tolerates(json!({"operator": "Exists"})), "");
    assert_eq!(tolerates(json!({"key": "site", "value": "near"})), no);
    assert_eq!(tolerates(json!({"key": "site", "operator": "Exists", "effect": "NoSchedule"})), no);
    assert!(suited(&json!({})), "a static pod stays");
}
