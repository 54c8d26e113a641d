//! The pod engine with a real containerd, and a store that the test plays: pods run, are told, heal,
//! follow their config maps, survive the engine and go.

mod containerd;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ipc_proto::lifeline::QueueBounds;
use ipc_proto::{Content, Kind, Module, Operation, Resource};
use module_runtime::{Event, Inbox, Seat, WINDOW};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::config::{Config, Sections};
use crate::cri::words::ContainerState;
use crate::pods::Pods;
use crate::runtime::{self, Listing};
use crate::store::Store;
use crate::worker::{Host, NodeFacts};
use containerd::{Containerd, IMAGE, SOON, containerd};

/// What the engine told the store.
#[derive(Debug)]
enum Told {
    Status(String, Value),
    Deleted(String),
}

/// The engine and what it is surrounded by.
struct Bench {
    pods: Pods,
    listings: mpsc::Receiver<Listing>,
    told: mpsc::Receiver<Told>,
    maps: watch::Sender<BTreeMap<String, Value>>,
    statuses: BTreeMap<String, Value>,
    deleted: Vec<String>,
    host: Arc<Host>,
    store: tokio::task::JoinHandle<()>,
    _facts: watch::Sender<NodeFacts>,
    _wanted: watch::Sender<usize>,
}

fn seat(module: Module, folder: &Path) -> Seat {
    Seat {
        module,
        instance: module_runtime::instance(),
        runtime_dir: folder.into(),
        users: [rustix::process::getuid().as_raw(); Module::COUNT],
        enabled: Module::ALL.into_iter().collect(),
        queue: QueueBounds::default(),
        window: WINDOW,
    }
}

fn config(containerd: &Containerd) -> Config {
    let path = containerd.path().display();
    let text = json!({"edged": {"rootDirectory": format!("{path}/kubelet"), "tailoredKubeletConfig": {
        "podLogsDir": format!("{path}/pods"),
        "containerRuntimeEndpoint": format!("unix://{}", containerd.socket().display()),
    }}});
    serde_json::from_value::<Sections>(text).unwrap().check().unwrap()
}

/// Plays the store.
async fn serve(
    mut inbox: Inbox,
    maps: watch::Receiver<BTreeMap<String, Value>>,
    told: mpsc::Sender<Told>,
) {
    loop {
        let Event::Message(delivery) = inbox.next().await else { continue };
        let Resource::Object { kind, name: Some(name), .. } = &delivery.message.route.resource
        else {
            delivery.unsupported();
            continue;
        };
        let (kind, name) = (kind.clone(), name.to_string());
        match (&delivery.message.route.operation, kind) {
            (Operation::Query, Kind::ConfigMap | Kind::Secret) => {
                let missing = json!({"ErrStatus": {"status": "Failure", "reason": "NotFound"}});
                let answer = maps.borrow().get(&name).cloned().unwrap_or(missing);
                delivery.respond(Content::encode(&answer).unwrap()).unwrap();
            }
            (Operation::Patch, Kind::PodPatch) => {
                let patch: String = delivery.message.content.decode().unwrap();
                let patch = serde_json::from_str(&patch).unwrap();
                told.send(Told::Status(name, patch)).await.unwrap();
                delivery.settle();
            }
            (Operation::Delete, Kind::Pod) => {
                told.send(Told::Deleted(name)).await.unwrap();
                delivery.settle();
            }
            _ => delivery.unsupported(),
        }
    }
}

impl Bench {
    fn new(containerd: &Containerd) -> Self {
        let folder = containerd.path();
        let socket = folder.join(Module::Metamanager.socket_name());
        let listener = OwnedFd::from(UnixListener::bind(socket).unwrap());
        let (_, inbox) = seat(Module::Metamanager, folder).take(Some(listener)).unwrap();
        let (sender, told) = mpsc::channel(1024);
        let (maps, watched) = watch::channel(BTreeMap::new());
        let store = tokio::spawn(serve(inbox, watched, sender));
        let (peers, mut inbox) = seat(Module::Edged, folder).take(None).unwrap();
        tokio::spawn(async move {
            loop {
                drop(inbox.next().await);
            }
        });
        let facts = NodeFacts {
            name: "n".to_owned(),
            address: "192.0.2.1".to_owned(),
            cpu: 1000,
            memory: 1 << 30,
            runtime: "containerd".to_owned(),
        };
        let (facts_sender, facts) = watch::channel(facts);
        let runtime = containerd.runtime();
        let host = Host {
            runtime: runtime.clone(),
            store: Store::new(peers),
            config: config(containerd),
            facts,
        };
        let host = Arc::new(host);
        let (wanted, receiver) = watch::channel(1);
        let (listing, listings) = mpsc::channel(1);
        tokio::spawn(runtime::list(runtime, receiver, listing));
        let pods = Pods::new("n", Arc::clone(&host));
        let (statuses, deleted) = (BTreeMap::new(), Vec::new());
        Self {
            pods,
            listings,
            told,
            maps,
            statuses,
            deleted,
            host,
            store,
            _facts: facts_sender,
            _wanted: wanted,
        }
    }

    /// Lets the engine work until something holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < SOON, "not in time: {what}\n{:#?}", self.statuses);
            tokio::select! {
                Some(listing) = self.listings.recv() => self.pods.listed(listing),
                Some(()) = self.pods.next_ended() => {}
                Some(told) = self.told.recv() => match told {
                    Told::Status(name, patch) => drop(self.statuses.insert(name, patch["status"].clone())),
                    Told::Deleted(name) => self.deleted.push(name),
                },
                () = tokio::time::sleep(SOON / 10) => {}
            }
        }
    }

    fn container<'a>(&'a self, pod: &str) -> &'a Value {
        self.statuses.get(pod).map_or(&Value::Null, |status| &status["containerStatuses"][0])
    }

    fn is_ready(&self, pod: &str) -> bool {
        self.container(pod)["ready"] == true
    }

    /// Ends the engine as a kill would, and begins it anew with the same pods.
    fn begin_anew(&mut self, pods: &[Value]) {
        self.pods = Pods::new("n", Arc::clone(&self.host));
        self.pods.set(&serde_json::to_vec(pods).unwrap().into());
    }
}

fn pod(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["nodeName"] = "n".into();
    spec["terminationGracePeriodSeconds"] = 1.into();
    for container in spec["containers"].as_array_mut().unwrap() {
        container["image"] = IMAGE.into();
        container["imagePullPolicy"] = "IfNotPresent".into();
    }
    json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")}, "spec": spec})
}

fn give(bench: &mut Bench, pod: &Value) {
    bench.pods.apply(&serde_json::to_vec(pod).unwrap());
}

#[tokio::test]
async fn a_pod_runs_follows_its_config_map_survives_the_engine_and_goes() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    bench.maps.send_modify(|maps| {
        maps.insert("m".to_owned(), json!({"data": {"index.html": "one"}}));
    });
    let mut web = pod(
        "web",
        &json!({
            "volumes": [{"name": "v", "configMap": {"name": "m"}}, {"name": "w", "emptyDir": {"medium": "Memory"}}],
            "containers": [{
                "name": "c", "command": ["httpd", "-f", "-p", "80", "-h", "/www"],
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "index.html"}}}],
                "volumeMounts": [{"name": "v", "mountPath": "/www"}, {"name": "w", "mountPath": "/w"},
                {"name": "w", "mountPath": "/part", "subPathExpr": "a/$(A)"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
                "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
            }],
        }),
    );
    bench.pods.set(&"[]".into());
    give(&mut bench, &web);
    bench.until("web is ready", |bench| bench.is_ready("web")).await;
    let id = bench.container("web")["containerID"].clone();
    let ip = bench.statuses["web"]["podIP"].as_str().unwrap().to_owned();
    assert_eq!(page(&ip).await, "one");
    let part = "kubelet/pods/uid-web/volumes/kubernetes.io~empty-dir/w/a/one";
    assert!(containerd.path().join(part).is_dir());

    bench.maps.send_modify(|maps| {
        maps.insert("m".to_owned(), json!({"data": {"index.html": "two"}}));
    });
    bench.pods.refresh("ns");
    containerd::until("the page changes", async || page(&ip).await == "two").await;

    web["status"]["conditions"] = bench.statuses["web"]["conditions"].clone();
    for _ in 0..5 {
        bench.begin_anew(std::slice::from_ref(&web));
        bench.statuses.clear();
        bench.until("web is told again", |bench| bench.is_ready("web")).await;
        assert_eq!(bench.container("web")["containerID"], id, "it was started again");
    }

    web["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    web["metadata"]["deletionGracePeriodSeconds"] = 1.into();
    give(&mut bench, &web);
    bench.until("the cloud is asked to delete it", |bench| bench.deleted == ["web"]).await;
    bench.pods.remove("ns", "web", br#"{"metadata":{"uid":"uid-web"}}"#);
    bench.until("nothing is left", |bench| bench.pods.count() == 0).await;
    let (sandboxes, containers) = containerd.runtime().list(BTreeMap::new()).await.unwrap();
    assert_eq!((sandboxes.len(), containers.len()), (0, 0));
    let left = std::fs::read_dir(containerd.path().join("kubelet/pods")).unwrap().count();
    assert_eq!(left, 0);
    containerd.end().await;
}

async fn page(ip: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let Ok(mut stream) = tokio::net::TcpStream::connect((ip, 80)).await else {
        return String::new();
    };
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn containers_that_fail_say_why_and_the_others_never_notice() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let container = |more: Value| {
        let mut container = json!({"name": "c", "command": ["sleep", "1000"]});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let mut absent = pod("absent", &container(json!({})));
    absent["spec"]["containers"][0]["image"] = "127.0.0.1:1/none:1".into();
    let mut once = pod(
        "once",
        &container(json!({"command": ["sh", "-c", "echo done > /dev/termination-log"]})),
    );
    once["spec"]["restartPolicy"] = "Never".into();
    let lacks = json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]});
    let list = [
        pod("good", &container(json!({}))),
        pod("crash", &container(json!({"command": ["sh", "-c", "exit 3"]}))),
        pod("lacks", &container(lacks)),
        pod("quantity", &container(json!({"resources": {"limits": {"cpu": "lots"}}}))),
        pod("command", &container(json!({"command": ["/nothing/there"]}))),
        absent,
        once,
    ];
    bench.pods.set(&serde_json::to_vec(&list).unwrap().into());
    let waits = |bench: &Bench, pod: &str, reason: &str| {
        bench.container(pod)["state"]["waiting"]["reason"] == reason
    };
    bench.until("good is ready", |bench| bench.is_ready("good")).await;
    bench.until("crash pauses", |bench| waits(bench, "crash", "CrashLoopBackOff")).await;
    assert_eq!(bench.container("crash")["lastState"]["terminated"]["exitCode"], 3);
    bench.until("an image is missing", |bench| waits(bench, "absent", "ImagePullBackOff")).await;
    bench
        .until("a config map is missing", |bench| {
            waits(bench, "lacks", "CreateContainerConfigError")
        })
        .await;
    bench.until("a command is missing", |bench| waits(bench, "command", "RunContainerError")).await;
    bench
        .until("a quantity is none", |bench| {
            bench.statuses.get("quantity").is_some_and(|it| it["reason"] == "InvalidPod")
        })
        .await;
    bench
        .until("once is done", |bench| {
            bench.statuses.get("once").is_some_and(|it| it["phase"] == "Succeeded")
        })
        .await;
    assert_eq!(bench.container("once")["state"]["terminated"]["message"], "done\n");

    bench.maps.send_modify(|maps| drop(maps.insert("m".to_owned(), json!({"data": {"k": "v"}}))));
    bench.pods.refresh("ns");
    bench.until("lacks runs when it comes", |bench| bench.is_ready("lacks")).await;
    assert_eq!(bench.container("good")["restartCount"], 0);

    bench.pods.set(&"[]".into());
    bench.until("nothing is left", |bench| bench.pods.count() == 0).await;
    containerd.end().await;
}

#[tokio::test]
async fn what_the_runtime_has_of_no_pod_is_removed() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    let list = [pod("kept", &spec), pod("gone", &spec)];
    bench.pods.set(&serde_json::to_vec(&list).unwrap().into());
    bench.until("both run", |bench| bench.is_ready("kept") && bench.is_ready("gone")).await;
    bench.begin_anew(&list[..1]);
    bench.until("one is found", |bench| bench.pods.count() == 2).await;
    bench.until("one is left", |bench| bench.pods.count() == 1).await;
    let (sandboxes, _) = containerd.runtime().list(BTreeMap::new()).await.unwrap();
    let names: Vec<_> = sandboxes.into_iter().filter_map(|it| Some(it.metadata?.name)).collect();
    assert_eq!(names, ["kept"]);
    containerd.end().await;
}

#[tokio::test]
async fn a_pod_heals_while_the_store_takes_nothing() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    bench.pods.set(&serde_json::to_vec(&[pod("p", &spec)]).unwrap().into());
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let id = bench.container("p")["containerID"].as_str().unwrap_or_default().to_owned();
    let id = id.trim_start_matches("containerd://");
    bench.store.abort();
    let runtime = containerd.runtime();
    for _ in 0..2 {
        runtime.stop_container(id, std::time::Duration::ZERO).await.unwrap();
    }
    let again = async || {
        let (_, containers) = runtime.list(BTreeMap::new()).await.unwrap();
        containers.iter().any(|it| it.id != id && it.state() == ContainerState::Running)
    };
    tokio::select! {
        () = bench.until("never", |_| false) => {}
        () = containerd::until("it runs again", again) => {}
    }
    containerd.end().await;
}
