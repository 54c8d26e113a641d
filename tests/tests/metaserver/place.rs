//! A node with its local API, and a cloud.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::{Rig, SOON, Setup, filled, wait_for, wait_until};
use ipc_proto::Module;
use minicloud::Config;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The modules that take part.
const PRESENT: [Module; 3] = [Module::Metamanager, Module::Edgehub, Module::Metaserver];

/// The node, and its cloud.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) rig: Rig,
    pub(crate) cloud: Cloud,
    pub(crate) api: Api,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        Self::with_pods(0)
    }

    /// Starts a node whose store has so many pods already.
    pub(crate) fn with_pods(pods: u32) -> Result<Self> {
        let cloud = Cloud::start(Config::default())?;
        let (setup, api) = node(&cloud)?;
        if pods > 0 {
            filled::with_pods(&setup, pods)?;
        }
        let rig = setup.start()?;
        wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
        wait_until("the API is ready and knows of the cloud", SOON, || {
            api.get("/readyz").is_ok_and(|reply| reply.body == "ok")
                && api.get("/api/v1/namespaces").is_ok_and(|reply| reply.code == 200)
        })?;
        // The cloud tells a node of itself when it changes.
        cloud.apply(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": NODE,
                "labels": {"node-role.kubernetes.io/edge": "", "rack": "7"}},
        }))?;
        wait_until("the API shows the node", SOON, || {
            let list = api.json("/api/v1/nodes?labelSelector=rack%3D7").unwrap_or_default();
            list["items"][0]["metadata"]["name"] == NODE
        })?;
        Ok(Self { rig, cloud, api })
    }

    /// Has the cloud make a pod for the node, and waits until the API shows it as it is there.
    pub(crate) fn pod(&self, name: &str, app: &str) -> Result<Value> {
        self.cloud.apply(pod(name, app))?;
        wait_for("the API shows the pod", SOON, || {
            let list = self.api.json("/api/v1/namespaces/default/pods").ok()?;
            let is_it = |pod: &&Value| {
                pod["metadata"]["name"] == name && pod["metadata"]["labels"]["app"] == app
            };
            list["items"].as_array()?.iter().find(is_it).cloned()
        })
    }

    /// Kills a module, and waits until it is back.
    pub(crate) fn kill(&self, module: Module) -> Result<()> {
        let old = self.rig.pid_of(module)?;
        self.rig.signal(module, Signal::KILL)?;
        self.rig.wait_until_back(module, old).map(drop)
    }
}

/// Prepares a node of the cloud that has its local API.
pub(crate) fn node(cloud: &Cloud) -> Result<(Setup, Api)> {
    let mut setup = Setup::new()?;
    cloud.lead(&mut setup);
    for module in Module::ALL {
        let enabled = PRESENT.contains(&module);
        setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
    }
    let api = Api::enable(&mut setup)?;
    Ok((setup, api))
}

/// Makes a pod for the node.
pub(crate) fn pod(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "i"}]}
    })
}

/// A client of the API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api {
    pub(crate) port: u16,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {}", self.body))
    }
}

impl Api {
    /// Has a node serve its API, and returns a client of it.
    pub(crate) fn enable(setup: &mut Setup) -> Result<Self> {
        let server = &mut setup.edgecore["modules"]["metaManager"]["metaServer"];
        server["enable"] = true.into();
        let address = server["server"].as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        Ok(Self { port: address.context("an address")?.port() })
    }

    pub(crate) fn get(self, path: &str) -> Result<Reply> {
        self.ask("GET", path, "", "")
    }

    /// Gets an object, which has to be there.
    pub(crate) fn json(self, path: &str) -> Result<Value> {
        let reply = self.get(path)?;
        ensure!(reply.code == 200, "{path}: {} {}", reply.code, reply.body);
        reply.json()
    }

    /// Sends a request; further headers have their line's end.
    pub(crate) fn ask(self, method: &str, path: &str, headers: &str, body: &str) -> Result<Reply> {
        let (code, mut reader) = self.open(method, path, headers, body)?;
        let mut body = String::new();
        reader.read_to_string(&mut body)?;
        Ok(Reply { code, body })
    }

    /// Sends a request and reads the head of the answer. The body ends with the connection.
    fn open(
        self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Result<(u16, BufReader<TcpStream>)> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(SOON))?;
        send(stream, method, path, headers, body)
    }

    /// Gets something as it comes.
    pub(crate) fn stream(self, path: &str) -> Result<BufReader<TcpStream>> {
        let (code, reader) = self.open("GET", path, "", "")?;
        ensure!(code == 200, "{path}: {code}");
        Ok(reader)
    }

    /// Begins a watch.
    pub(crate) fn watch(self, path: &str) -> Result<Watch> {
        let (code, mut reader) = self.open("GET", path, "", "")?;
        if code != 200 {
            let mut body = String::new();
            reader.read_to_string(&mut body)?;
            bail!("no watch of {path}: {code} {body}");
        }
        Ok(Watch(reader))
    }
}

/// Sends a request over a connection, and reads the head of the answer, whose body ends with it.
pub(crate) fn send<S: io::Read + io::Write>(
    mut stream: S,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<(u16, BufReader<S>)> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.with_context(|| format!("no answer but '{line}'"))?;
    while line.trim() != "" {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "the answer ends in its head");
    }
    Ok((code, reader))
}

/// A watch of a client.
#[derive(Debug)]
pub(crate) struct Watch(BufReader<TcpStream>);

impl Watch {
    /// Returns the next event's type and object; nothing when the watch has ended.
    pub(crate) fn next(&mut self) -> Result<Option<(String, Value)>> {
        let mut line = String::new();
        if self.0.read_line(&mut line).context("no event came")? == 0 {
            return Ok(None);
        }
        let mut event: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let kind = event["type"].as_str().context("an event without type")?.to_owned();
        Ok(Some((kind, event["object"].take())))
    }

    /// Returns the next event as `TYPE name`.
    pub(crate) fn word(&mut self) -> Result<String> {
        let (kind, object) = self.next()?.context("the watch has ended")?;
        Ok(format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or_default()))
    }

    /// Waits for an event, passing over others.
    pub(crate) fn wait(&mut self, wanted: &str) -> Result<()> {
        while self.word().with_context(|| format!("waiting for {wanted}"))? != wanted {}
        Ok(())
    }
}

/// A cache as informers keep it: lists, watches from there, and lists again when it is told to.
#[derive(Debug)]
pub(crate) struct Informer {
    api: Api,
    path: String,
    version: String,
    watch: Option<Watch>,
    pub(crate) objects: BTreeMap<String, Value>,
    /// How often it had to list.
    pub(crate) lists: usize,
}

impl Informer {
    pub(crate) fn new(api: Api, path: &str) -> Self {
        let (path, version, objects) = (path.to_owned(), String::new(), BTreeMap::new());
        Self { api, path, version, watch: None, objects, lists: 0 }
    }

    /// Goes on until the cache is as wanted.
    pub(crate) fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&BTreeMap<String, Value>) -> bool,
    ) -> Result<()> {
        let deadline = std::time::Instant::now() + SOON;
        while !wanted(&self.objects) {
            ensure!(
                std::time::Instant::now() < deadline,
                "{what}: the cache has {:?}",
                self.objects.keys()
            );
            // A connection that fails is made again, as client-go does.
            if self.step().is_err() {
                self.watch = None;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        if self.version.is_empty() {
            let list = self.api.json(&self.path)?;
            let name = |object: &Value| object["metadata"]["name"].as_str().map(str::to_owned);
            let items = list["items"].as_array().context("no items")?;
            self.objects =
                items.iter().filter_map(|item| Some((name(item)?, item.clone()))).collect();
            self.version = version(&list)?;
            self.lists += 1;
            return Ok(());
        }
        if self.watch.is_none() {
            let query = "watch=true&allowWatchBookmarks=true&resourceVersion";
            self.watch = Some(self.api.watch(&format!("{}?{query}={}", self.path, self.version))?);
        }
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let Some((kind, object)) = watch.next()? else {
            self.watch = None;
            return Ok(());
        };
        if kind == "ERROR" {
            self.watch = None;
            self.version.clear();
            return Ok(());
        }
        self.version = version(&object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "ADDED" | "MODIFIED" => drop(self.objects.insert(name, object)),
            "DELETED" => drop(self.objects.remove(&name)),
            _ => {}
        }
        Ok(())
    }
}

/// Returns an object's version.
pub(crate) fn version(object: &Value) -> Result<String> {
    let version = object["metadata"]["resourceVersion"].as_str();
    version.map(str::to_owned).with_context(|| format!("no version in {object}"))
}
