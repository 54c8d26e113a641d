//! A node with three pods and a neighbour, each in a network of its own, and the cloud.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ipc_proto::Module;
use minicloud::Config;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::network::Network;
use super::privilege::{had_or_skip, is_root};
use super::{Rig, SOON, Setup, wait_until};

/// The modules that take part.
const PRESENT: [Module; 4] =
    [Module::Metamanager, Module::Edgehub, Module::Metaserver, Module::Edgemesh];

/// The service's address in the cluster.
pub const CLUSTER: &str = "10.96.0.7:80";

/// The node's on its outer link, with the service's port there.
pub const NODE_PORT: &str = "192.0.2.1:30080";

/// The addresses of the pods, the client's first.
pub const PODS: [&str; 3] = ["10.244.1.10", "10.244.1.11", "10.244.1.12"];

/// The service's address of IPv6, where the kernel has that.
pub const CLUSTER6: &str = "[fd00:96::7]:80";

/// The node's of IPv6.
pub const NODE_PORT6: &str = "[2001:db8::1]:30080";

/// The pods' of IPv6.
pub const PODS6: [&str; 3] = ["fd00:244::10", "fd00:244::11", "fd00:244::12"];

/// The port of the pods that serve.
pub const SERVED: u16 = 8080;

/// How many connections have to go one way until a test believes that all do.
pub const MANY: usize = 24;

/// How long a connection may take; longer means that it is not answered.
const PATIENCE: Duration = Duration::from_secs(3);

/// All of it.
#[derive(Debug)]
pub struct Place {
    /// The node's agent.
    pub rig: Rig,
    /// Its cloud.
    pub cloud: Cloud,
    /// The node's network.
    pub node: Network,
    /// The client, and two that serve.
    pub pods: [Network; 3],
    /// Another host.
    pub neighbour: Network,
}

impl Place {
    /// Makes it; nothing where the host cannot. The calling thread is in the node's network then.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn new() -> Result<Option<Self>> {
        Self::with(&json!({}))
    }

    /// Makes it with more in the supervisor's configuration.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn with(more: &Value) -> Result<Option<Self>> {
        let able = is_root() && Path::new("/usr/sbin/nft").exists();
        if !had_or_skip(able, "root and nftables")? {
            return Ok(None);
        }
        let node = Network::new()?;
        let neighbour = Network::new()?;
        let pods = [Network::new()?, Network::new()?, Network::new()?];
        wire(&node, &pods, &neighbour)?;
        for (pod, address) in pods.iter().zip(PODS).skip(1) {
            serve(pod, address)?;
        }
        node.enter()?;
        let cloud = Cloud::start(Config::default())?;
        let mut setup = Setup::new()?;
        cloud.lead(&mut setup);
        for module in Module::ALL {
            let enabled = PRESENT.contains(&module);
            setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
        }
        setup = setup.with(json!({"modules": {"edgemesh": {"traffic": {"enabled": true}}}}));
        let rig = setup.with(more.clone()).start()?;
        wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
        Ok(Some(Self { rig, cloud, node, pods, neighbour }))
    }

    /// Has the cloud make the service, which adds `more` to what it is, and its endpoints; waits
    /// until a pod reaches it.
    ///
    /// # Errors
    /// When the pod does not reach it soon.
    pub fn service(&self, annotations: &Value, more: &[(&str, Value)]) -> Result<()> {
        let ports = json!([
            {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080},
            {"name": "udp", "port": 80, "protocol": "UDP", "nodePort": 30080},
        ]);
        let mut spec = json!({"type": "NodePort", "clusterIP": "10.96.0.7", "ports": ports});
        for (key, value) in more {
            spec[*key] = value.clone();
        }
        let metadata = json!({"name": "web", "namespace": "shop", "annotations": annotations});
        let mut service = json!({"apiVersion": "v1", "kind": "Service"});
        (service["metadata"], service["spec"]) = (metadata, spec);
        self.cloud.apply(service)?;
        self.endpoints(&PODS[1..])?;
        // who speaks first is served at once by any policy
        let greet = || self.connect(&self.pods[0], CLUSTER)?.finish(b"hello");
        wait_until("the service is reached", SOON, || greet().is_ok())
    }

    /// Has the cloud say which pods serve.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn endpoints(&self, addresses: &[&str]) -> Result<()> {
        self.slice("IPv4", addresses)
    }

    /// Has the cloud say at which addresses of a family pods serve.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn slice(&self, family: &str, addresses: &[&str]) -> Result<()> {
        let endpoint = |address: &&str| {
            json!({"addresses": [address], "nodeName": "edge1",
            "conditions": {"ready": true}})
        };
        let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": format!("web-{}", family.to_lowercase()), "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": SERVED, "protocol": "TCP"},
                {"name": "udp", "port": SERVED, "protocol": "UDP"}],
        });
        self.cloud.apply(slice).map(drop)
    }

    /// Connects from a network.
    ///
    /// # Errors
    /// When nobody accepts.
    pub fn connect(&self, from: &Network, to: &str) -> Result<Talk> {
        let to: SocketAddr = to.parse()?;
        let stream = from.run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)?))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Talk(BufReader::new(stream)))
    }

    /// Connects and returns who serves.
    ///
    /// # Errors
    /// When nobody serves.
    pub fn ask(&self, from: &Network, to: &str) -> Result<String> {
        self.connect(from, to)?.line()
    }

    /// Connects many times and returns who serves.
    ///
    /// # Errors
    /// When one of them is not served.
    pub fn ask_often(&self, from: &Network, to: &str) -> Result<BTreeSet<String>> {
        (0..MANY).map(|_| self.ask(from, to)).collect()
    }

    /// Sends datagrams from many ports and returns who answers.
    ///
    /// # Errors
    /// When one of them is not answered.
    pub fn ask_udp(&self, from: &Network, to: &str) -> Result<BTreeSet<String>> {
        let ask = || -> Result<String> {
            let to: SocketAddr = to.parse()?;
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send(b"who?")?;
            let mut answer = [0; 64];
            let length = socket.recv(&mut answer)?;
            Ok(String::from_utf8(answer[..length].to_vec())?)
        };
        from.run(|| (0..MANY).map(|_| ask()).collect())
    }
}

/// Pods have links of their own to the node, which forwards; the neighbour reaches the node alone.
fn wire(node: &Network, pods: &[Network; 3], neighbour: &Network) -> Result<()> {
    for (number, (pod, address)) in pods.iter().zip(PODS).enumerate() {
        let link = format!("pod{number}");
        node.link(&link, pod)?;
        node.does(&format!("ip addr add 10.244.1.1/32 dev {link}"))?;
        node.does(&format!("ip route add {address}/32 dev {link}"))?;
        pod.does(&format!("ip addr add {address}/32 dev eth0"))?;
        pod.does("ip route add 10.244.1.1/32 dev eth0")?;
        pod.does("ip route add default via 10.244.1.1 dev eth0")?;
    }
    node.link("out", neighbour)?;
    node.does("ip addr add 192.0.2.1/24 dev out")?;
    neighbour.does("ip addr add 192.0.2.2/24 dev eth0")?;
    node.does("ip route add default via 192.0.2.2")?;
    node.run(|| Ok(fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
    if has_ipv6() { wire6(node, pods, neighbour) } else { Ok(()) }
}

/// Tells whether the kernel has IPv6.
#[must_use]
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// The same once more. No address is looked for before it is used: there can be none that is the same.
fn wire6(node: &Network, pods: &[Network; 3], neighbour: &Network) -> Result<()> {
    for (number, (pod, address)) in pods.iter().zip(PODS6).enumerate() {
        let link = format!("pod{number}");
        node.does(&format!("ip addr add fd00:244::1/128 dev {link} nodad"))?;
        node.does(&format!("ip -6 route add {address}/128 dev {link}"))?;
        pod.does(&format!("ip addr add {address}/128 dev eth0 nodad"))?;
        pod.does("ip -6 route add fd00:244::1/128 dev eth0")?;
        pod.does("ip -6 route add default via fd00:244::1 dev eth0")?;
    }
    node.does("ip addr add 2001:db8::1/64 dev out nodad")?;
    neighbour.does("ip addr add 2001:db8::2/64 dev eth0 nodad")?;
    node.does("ip -6 route add default via 2001:db8::2 dev out")?;
    node.run(|| Ok(fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?))
}

/// Serves in a pod until the test's process ends: greets with the pod's address, then sends back
/// what comes.
fn serve(pod: &Network, address: &'static str) -> Result<()> {
    let (listener, socket) = pod.run(|| {
        let all = (if has_ipv6() { "::" } else { "0.0.0.0" }, SERVED);
        Ok((TcpListener::bind(all)?, UdpSocket::bind(all)?))
    })?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || talk_back(stream, address));
        }
    });
    std::thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((_, client)) = socket.recv_from(&mut datagram) {
            if socket.send_to(address.as_bytes(), client).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn talk_back(mut stream: TcpStream, address: &str) -> Result<()> {
    writeln!(stream, "{address}")?;
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            length => stream.write_all(&part[..length])?,
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Talk(BufReader<TcpStream>);

impl Talk {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// When there is none.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("no line")?;
        line.pop().context("the connection has ended")?;
        Ok(line)
    }

    /// Sends a line and expects it back.
    ///
    /// # Errors
    /// When another comes.
    pub fn echo(&mut self, line: &str) -> Result<()> {
        writeln!(self.0.get_mut(), "{line}")?;
        anyhow::ensure!(self.line()? == line, "another line came back");
        Ok(())
    }

    /// Sends all that it has, finishes, and returns what comes after that.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn finish(mut self, last: &[u8]) -> Result<Vec<u8>> {
        self.0.get_mut().write_all(last)?;
        self.0.get_mut().shutdown(Shutdown::Write)?;
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }
}
