//! Lives of pods with a real containerd: init containers, sidecars, deadlines, ends, environment.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bench::{Bench, give, page_at, pod};
use super::containerd::{IMAGE, containerd, until};

fn begin(bench: &mut Bench, pods: &[Value]) {
    bench.pods.set(&serde_json::to_vec(pods).unwrap().into());
}

fn shell(script: &str) -> Value {
    json!(["sh", "-c", script])
}

/// A container that writes what it is called when it begins and when it is told to end.
fn writer(name: &str) -> Value {
    json!({
        "name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": shell(&format!(
            "trap 'echo {name} ends >> /v/log; exit 0' TERM; echo {name} begins >> /v/log; \
             while true; do sleep 0.1; done"
        )),
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    })
}

#[tokio::test]
async fn containers_begin_and_end_in_order() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let folder = containerd.path().join("kept");
    std::fs::create_dir(&folder).unwrap();
    let mut init = writer("init");
    init["command"] = shell("echo init >> /v/log");
    let sidecar = |name: &str| {
        let mut sidecar = writer(name);
        sidecar["restartPolicy"] = "Always".into();
        sidecar
    };
    let mut web = pod(
        "web",
        &json!({
            "volumes": [{"name": "v", "hostPath": {"path": folder, "type": "Directory"}}],
            "initContainers": [sidecar("side1"), init, sidecar("side2")],
            "containers": [writer("main")],
        }),
    );
    web["spec"]["terminationGracePeriodSeconds"] = 30.into();
    begin(&mut bench, std::slice::from_ref(&web));
    bench.until("web is ready", |bench| bench.is_ready("web")).await;
    let begun = || std::fs::read_to_string(folder.join("log")).unwrap().contains("main begins");
    bench.while_until("main has begun", async || begun()).await;
    let sides = &bench.statuses["web"]["initContainerStatuses"];
    assert_eq!((&sides[0]["ready"], &sides[2]["ready"]), (&true.into(), &true.into()));
    web["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    web["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    give(&mut bench, &web);
    bench.until("web ends", |bench| bench.deleted == ["web"]).await;
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    let expected =
        "side1 begins\ninit\nside2 begins\nmain begins\nmain ends\nside2 ends\nside1 ends\n";
    assert_eq!(log, expected);
    containerd.end().await;
}

fn plain(script: &str) -> Value {
    json!({"containers": [{"name": "c", "command": shell(script)}]})
}

fn named(name: &str, spec: &Value, more: &Value) -> Value {
    let mut pod = pod(name, spec);
    pod["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    pod
}

#[tokio::test]
async fn pods_end_as_they_are_to_and_say_how() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let never = json!({"restartPolicy": "Never"});
    let mut logs = plain("echo first; echo last; exit 7");
    logs["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError".into();
    let mut init = plain("sleep 1000");
    init["initContainers"] = json!([{"name": "i", "image": IMAGE, "command": ["false"]}]);
    begin(
        &mut bench,
        &[
            named("late", &plain("sleep 1000"), &json!({"activeDeadlineSeconds": 1})),
            named("logs", &logs, &never),
            named("init", &init, &never),
            named("fails", &plain("exit 1"), &json!({"restartPolicy": "OnFailure"})),
            named("well", &plain("exit 0"), &json!({"restartPolicy": "OnFailure"})),
        ],
    );
    let status = |bench: &Bench, pod: &str| bench.statuses.get(pod).cloned().unwrap_or_default();
    bench
        .until("late is over", |bench| status(bench, "late")["reason"] == "DeadlineExceeded")
        .await;
    assert_eq!(status(&bench, "late")["phase"], "Failed");
    bench.until("logs failed", |bench| status(bench, "logs")["phase"] == "Failed").await;
    let terminated = &bench.container("logs")["state"]["terminated"];
    assert_eq!((&terminated["exitCode"], &terminated["reason"]), (&7.into(), &"Error".into()));
    assert_eq!(terminated["message"], "first\nlast");
    bench.until("init failed", |bench| status(bench, "init")["phase"] == "Failed").await;
    bench.until("well is over", |bench| status(bench, "well")["phase"] == "Succeeded").await;
    bench
        .until("fails waits", |bench| {
            bench.container("fails")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;

    // Who was late stays late for another process, whatever it has seen itself.
    let mut late = named("late", &plain("sleep 1000"), &json!({"activeDeadlineSeconds": 1}));
    late["status"] = status(&bench, "late");
    bench.statuses.clear();
    bench.begin_anew(&[late]);
    bench.until("late is told again", |bench| bench.statuses.contains_key("late")).await;
    assert_eq!(status(&bench, "late")["reason"], "DeadlineExceeded");

    containerd.end().await;
}

/// A pod that says what it sees.
fn curious() -> Value {
    let script = "env > /dev/termination-log; cat /etc/hosts /etc/resolv.conf >> /dev/termination-log; \
        cat /proc/sys/kernel/hostname >> /dev/termination-log; \
        grep -E '^(Uid|Gid|Groups|NoNewPrivs|CapEff|Seccomp):' /proc/self/status >> /dev/termination-log; \
        cd /sys/fs/cgroup; for it in memory/memory.limit_in_bytes memory.max cpu/cpu.cfs_quota_us cpu.max; do \
        if [ -e $it ]; then echo cgroup $(cat $it) >> /dev/termination-log; fi; done";
    let mut seen = pod(
        "seen",
        &json!({
            "restartPolicy": "Never", "hostname": "host", "subdomain": "sub",
            "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["alias.example"]}],
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": ["example.org"], "options": [{"name": "ndots", "value": "3"}]},
            "securityContext": {"runAsUser": 1234, "runAsGroup": 2345, "fsGroup": 3456, "supplementalGroups": [4567]},
            "containers": [{
                "name": "c", "command": ["/bin/sh"], "args": ["-c", format!("echo $(A)$$(A) $(NONE); {script}")],
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
                "env": [
                    {"name": "A", "value": "a"}, {"name": "B", "value": "$(A)b$(C)"}, {"name": "C", "value": "$(B)c"},
                    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "key"}}},
                ],
                "resources": {"limits": {"memory": "64Mi", "cpu": "100m"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
                    "seccompProfile": {"type": "RuntimeDefault"}},
            }],
        }),
    );
    seen["spec"]["containers"][0]["terminationMessagePath"] = "/dev/termination-log".into();
    seen
}

#[tokio::test]
async fn a_container_sees_what_its_pod_says() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.maps.send_modify(|maps| {
        maps.insert("m".to_owned(), json!({"data": {"key": "value", "other": "one"}}));
    });
    begin(&mut bench, &[curious()]);
    bench
        .until("it is over", |bench| !bench.container("seen")["state"]["terminated"].is_null())
        .await;
    let terminated = &bench.container("seen")["state"]["terminated"];
    let text = terminated["message"].as_str().unwrap_or_default();
    for line in [
        "A=a",
        "B=ab$(C)",
        "C=ab$(C)c",
        "NODE=n",
        "MEMORY=64",
        "KEY=value",
        "P_other=one",
        "192.0.2.7\talias.example",
        "nameserver 192.0.2.53",
        "search example.org",
        "options ndots:3",
        "host",
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
        "Seccomp:\t2",
        "cgroup 67108864",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing in:\n{text}");
    }
    let quota = ["cgroup 10000", "cgroup 10000 100000"];
    assert!(
        text.lines().any(|it| quota.contains(&it)),
        "the processor's share is missing in:\n{text}"
    );
    let fields = |name: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    };
    assert_eq!(fields("Uid:")[0], "1234");
    assert_eq!(fields("Gid:")[0], "2345");
    for group in ["3456", "4567"] {
        assert!(fields("Groups:").contains(&group.to_owned()), "{text}");
    }
    let (_, containers) = containerd.runtime().list(BTreeMap::new()).await.unwrap();
    assert_eq!(containers.len(), 1, "it was started again");
    containerd.end().await;
}

#[tokio::test]
async fn a_port_of_the_host_leads_to_its_container() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    // Held until the pod has it, so that nobody else is given it meanwhile.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    let page = json!([
        "sh",
        "-c",
        "mkdir /www; echo -n hello > /www/index.html; exec httpd -f -p 80 -h /www"
    ]);
    begin(
        &mut bench,
        &[pod(
            "web",
            &json!({"containers": [{
                "name": "c", "command": page, "ports": [{"containerPort": 80, "hostPort": port}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
            }]}),
        )],
    );
    bench.until("web is ready", |bench| bench.is_ready("web")).await;
    drop(free);
    let answers = async || page_at("127.0.0.1", port).await == "hello";
    until("the host's port answers", answers).await;
    containerd.end().await;
}

#[tokio::test]
async fn the_time_to_end_can_be_made_shorter() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let folder = containerd.path().join("kept");
    std::fs::create_dir(&folder).unwrap();
    let mut end =
        plain("trap 'echo x > /v/told' TERM; echo x > /v/began; while true; do sleep 0.1; done");
    end["volumes"] = json!([{"name": "v", "hostPath": {"path": folder}}]);
    end["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let mut end = pod("end", &end);
    end["spec"]["terminationGracePeriodSeconds"] = 600.into();
    begin(&mut bench, std::slice::from_ref(&end));
    bench.until("end is ready", |bench| bench.is_ready("end")).await;
    bench.while_until("it listens", async || folder.join("began").exists()).await;
    end["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    end["metadata"]["deletionGracePeriodSeconds"] = 600.into();
    give(&mut bench, &end);
    bench.while_until("it was told", async || folder.join("told").exists()).await;
    end["metadata"]["deletionGracePeriodSeconds"] = 1.into();
    give(&mut bench, &end);
    bench.until("it has ended", |bench| bench.deleted == ["end"]).await;
    containerd.end().await;
}

#[tokio::test]
async fn namespaces_are_shared_as_the_pod_says() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let seen = "cat /proc/[0-9]*/cmdline > /dev/termination-log; cat /proc/sys/kernel/hostname >> /dev/termination-log";
    let spec = |more: Value| {
        let mut spec = json!({"restartPolicy": "Never", "initContainers": [{
            "name": "side", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "restartPolicy": "Always",
            "command": ["sleep", "4321"],
        }], "containers": [{"name": "c", "command": shell(seen)}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let host = json!({"hostNetwork": true, "hostPID": true, "hostIPC": true});
    begin(
        &mut bench,
        &[
            pod("alone", &spec(json!({}))),
            pod("shared", &spec(json!({"shareProcessNamespace": true}))),
            pod("host", &spec(host)),
        ],
    );
    let message = |bench: &Bench, pod: &str| {
        let message = &bench.container(pod)["state"]["terminated"]["message"];
        message.as_str().unwrap_or_default().replace('\0', " ")
    };
    for pod in ["alone", "shared", "host"] {
        bench.until(pod, |bench| !message(bench, pod).is_empty()).await;
    }
    assert!(!message(&bench, "alone").contains("sleep 4321"), "{}", message(&bench, "alone"));
    assert!(message(&bench, "shared").contains("sleep 4321"), "{}", message(&bench, "shared"));
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(message(&bench, "host").ends_with(&own), "{}", message(&bench, "host"));
    assert_eq!(bench.statuses["host"]["podIP"], "192.0.2.1");
    containerd.end().await;
}

#[tokio::test]
async fn a_pod_of_the_same_name_is_another() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let old = pod("p", &plain("sleep 1000"));
    let mut new = old.clone();
    new["metadata"]["uid"] = "uid-new".into();
    begin(&mut bench, &[old]);
    bench.until("the old one is ready", |bench| bench.is_ready("p")).await;
    let first = bench.container("p")["containerID"].clone();
    give(&mut bench, &new);
    let is_new = |bench: &Bench| bench.uids["p"] == "uid-new" && bench.is_ready("p");
    bench.until("the new one is ready", is_new).await;
    let second = bench.container("p")["containerID"].clone();
    assert_ne!(first, second);
    bench.pods.remove("ns", "p", br#"{"metadata":{"name":"p","namespace":"ns","uid":"uid-p"}}"#);
    bench.until("the old one is gone", |bench| bench.pods.count() == 1).await;
    let (_, containers) = containerd.runtime().list(BTreeMap::new()).await.unwrap();
    let ids: Vec<_> = containers.iter().map(|it| format!("containerd://{}", it.id)).collect();
    assert_eq!(ids, [second.as_str().unwrap()]);
    containerd.end().await;
}
