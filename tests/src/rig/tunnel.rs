//! Two nodes that do not reach each other and relays that both reach, each in a network of its own;
//! a pod that asks on the one, a pod that serves on the other.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipc_proto::Module;
use minicloud::pki::Authority;
use serde_json::{Value, json};

use super::certs::identity;
use super::network::Network;
use super::operator::Said;
use super::privilege::{had_or_skip, is_root};
use super::{Rig, SOON, Setup, filled};

/// The modules that take part: there is no cloud.
const PRESENT: [Module; 2] = [Module::Metamanager, Module::Edgemesh];

/// The service's address in the cluster.
pub const CLUSTER: &str = "10.96.0.7:80";

/// The pods: two nodes that know nothing of each other give the same addresses.
const ASKS: &str = "10.88.0.2";
const SERVES: &str = "10.88.0.2";

/// The port of the pod that serves; the next one is the load's, and behind the service's.
pub const SERVED: u16 = 8080;

/// Where the addresses come from that stand for pods of the other node.
pub const STAND_INS: &str = "198.18.0.0/16";

/// How long the client of a test waits; longer means that it is not answered.
const PATIENCE: Duration = SOON;

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its agent.
    pub rig: Rig,
    /// The network that it is in.
    pub network: Network,
}

/// All of it.
#[derive(Debug)]
pub struct Place {
    /// Those that relay.
    pub relays: Vec<Node>,
    /// With the pod that asks.
    pub near: Node,
    /// With the pod that serves.
    pub far: Node,
    /// The pod that asks.
    pub client: Network,
    /// The pod that serves.
    pub server: Network,
    _outside: Network,
    /// The cluster's.
    pub authority: Authority,
}

impl Place {
    /// Makes it with one relay; nothing where the host cannot.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn new() -> Result<Option<Self>> {
        Self::with(1, false)
    }

    /// Makes it with some relays. A stranger as `near` has a certificate of another cluster.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn with(relays: usize, with_stranger: bool) -> Result<Option<Self>> {
        let able = is_root() && Path::new("/usr/sbin/nft").exists();
        if !had_or_skip(able, "root and nftables")? {
            return Ok(None);
        }
        let [outside, near, far] = [Network::new()?, Network::new()?, Network::new()?];
        let [client, server] = [Network::new()?, Network::new()?];
        outside.run(|| Ok(fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
        for (link, node, net) in [("near", &near, "192.0.2"), ("far", &far, "198.51.100")] {
            connect(&outside, link, node, net)?;
        }
        for (from, to) in [("192.0.2.0", "198.51.100.0"), ("198.51.100.0", "192.0.2.0")] {
            outside.does(&format!("ip rule add from {from}/24 to {to}/24 blackhole"))?;
        }
        join(&near, &client, ASKS)?;
        join(&far, &server, SERVES)?;
        serve(&server)?;
        let authority = Authority::create()?;
        let listen = json!({"listen": "0.0.0.0:20006", "relay": true});
        let hub = |number: usize| {
            let network = Network::new()?;
            connect(&outside, &format!("hub{number}"), &network, &format!("10.99.{number}"))?;
            start(network, &format!("hub{number}"), &authority, &authority, listen.clone())
        };
        let hubs = (0..relays).map(hub).collect::<Result<Vec<_>>>()?;
        let all: Vec<_> = (0..relays).map(|number| format!("10.99.{number}.2:20006")).collect();
        let dials = json!({"relays": all, "standIns": STAND_INS});
        let stranger = Authority::create()?;
        let issuer = if with_stranger { &stranger } else { &authority };
        let near = start(near, "edge1", &authority, issuer, dials.clone())?;
        let far = start(far, "edge2", &authority, &authority, dials)?;
        let _outside = outside;
        Ok(Some(Self { relays: hubs, near, far, client, server, _outside, authority }))
    }

    /// Asks the service by HTTP for a path, which is what it answers.
    ///
    /// # Errors
    /// When it is not answered.
    pub fn http(&self) -> Result<String> {
        self.http_at(CLUSTER)
    }

    /// Asks an address by HTTP.
    ///
    /// # Errors
    /// When it is not answered.
    pub fn http_at(&self, to: &str) -> Result<String> {
        let Talk(mut stream) = self.connect_to(to)?;
        let request = "GET /hello HTTP/1.1\r\nHost: web.shop\r\nConnection: close\r\n\r\n";
        stream.get_mut().write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Ok(body.to_owned())
    }

    /// Connects to the service, or to another address, from a network.
    ///
    /// # Errors
    /// When nobody accepts.
    pub fn connect_from(from: &Network, to: &str) -> Result<Talk> {
        let to = to.parse()?;
        let stream = from.run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)?))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Talk(BufReader::new(stream)))
    }

    /// Connects to the service.
    ///
    /// # Errors
    /// When nobody accepts.
    pub fn connect(&self) -> Result<Talk> {
        self.connect_to(CLUSTER)
    }

    fn connect_to(&self, to: &str) -> Result<Talk> {
        Self::connect_from(&self.client, to)
    }

    /// Sends datagrams of these sizes and expects each back.
    ///
    /// # Errors
    /// When one does not come back.
    pub fn datagrams(&self, sizes: &[usize]) -> Result<()> {
        self.datagrams_at(CLUSTER, sizes)
    }

    /// Sends datagrams to an address.
    ///
    /// # Errors
    /// When one does not come back.
    pub fn datagrams_at(&self, to: &str, sizes: &[usize]) -> Result<()> {
        self.client.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let mut answer = vec![0; 65_536];
            for size in sizes {
                socket.send(&vec![7; *size])?;
                let length = socket.recv(&mut answer)?;
                ensure!(length == *size, "{length} bytes came back for {size}");
            }
            Ok(())
        })
    }
}

impl Node {
    /// Returns what the mesh reports of its tunnel.
    ///
    /// # Errors
    /// When there is no report.
    pub fn tunnel(&self) -> Result<Value> {
        let report = self.rig.module(Module::Edgemesh)?.report.context("no report")?;
        Ok(report["tunnel"].clone())
    }

    /// Runs `edgectl mesh` in the node's network.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn mesh(&self, arguments: &[&str]) -> Result<Said> {
        self.network.run(|| self.rig.edgectl(&[&["mesh"], arguments].concat()))
    }

    /// Follows a connection from the node.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn trace(&self, more: &[&str]) -> Result<Said> {
        let config = self.rig.setup().folder.path().join("edgecore.yaml");
        let config = config.to_str().context("a path that is text")?;
        self.mesh(&[&["trace", "-n", "shop", "--config", config], more].concat())
    }

    /// Gives the node a certificate.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn issue(&self, name: &str, authority: &Authority) -> Result<()> {
        identity(&self.rig.setup().folder.path().join("certs"), name, authority)
    }
}

/// Lays a link to a node, by which that reaches all that is outside.
fn connect(outside: &Network, link: &str, node: &Network, net: &str) -> Result<()> {
    outside.link(link, node)?;
    outside.does(&format!("ip addr add {net}.1/24 dev {link}"))?;
    node.does(&format!("ip addr add {net}.2/24 dev eth0"))?;
    node.does(&format!("ip route add default via {net}.1")).map(drop)
}

/// Lays a link from a node to a pod, which has nothing but that.
fn join(node: &Network, pod: &Network, address: &str) -> Result<()> {
    node.link("pod0", pod)?;
    node.does("ip addr add 10.88.0.1/24 dev pod0")?;
    pod.does(&format!("ip addr add {address}/24 dev eth0"))?;
    pod.does("ip route add default via 10.88.0.1").map(drop)
}

/// A service and where it is served, and one without an address, of which each node has a pod.
fn objects() -> [Value; 4] {
    let ports = |port: u16| {
        json!([{"name": "http", "port": port, "protocol": "TCP"},
            {"name": "load", "port": port + 1, "protocol": "TCP"},
            {"name": "udp", "port": port, "protocol": "UDP"}])
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.7", "ports": ports(80)},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": [SERVES], "nodeName": "edge2", "conditions": {"ready": true}}],
        "ports": ports(SERVED),
    });
    let mut pods = service.clone();
    pods["metadata"]["name"] = "db".into();
    pods["spec"] = json!({"clusterIP": "None", "ports": ports(SERVED)});
    let mut all = slice.clone();
    all["metadata"] = json!({"name": "db-1", "namespace": "shop",
        "labels": {"kubernetes.io/service-name": "db"}});
    let pod = |address: &str, node: &str, name: &str| {
        json!({"addresses": [address], "nodeName": node, "hostname": name,
            "conditions": {"ready": true}})
    };
    all["endpoints"] = json!([pod(ASKS, "edge1", "db-0"), pod(SERVES, "edge2", "db-1")]);
    [service, slice, pods, all]
}

/// Starts a node in its network. Its certificate is of `issuer`, what it trusts of `authority`.
fn start(
    network: Network,
    name: &str,
    authority: &Authority,
    issuer: &Authority,
    mut tunnel: Value,
) -> Result<Node> {
    tunnel["enabled"] = true.into();
    tunnel["keepAlive"] = "1s".into();
    let rig = network.run(move || {
        let mut setup = Setup::new()?;
        for module in Module::ALL {
            let enabled = PRESENT.contains(&module);
            setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
        }
        // a module that is killed again starts again at once
        setup = setup.with(json!({"restart": {"stableAfter": "1ms"}}));
        let mesh = json!({"traffic": {"enabled": true}, "tunnel": tunnel});
        setup = setup.with(json!({"modules": {"edgemesh": mesh}}));
        setup.edgecore["modules"]["edged"]["hostnameOverride"] = name.into();
        let certs = setup.folder.path().join("certs");
        fs::create_dir(&certs)?;
        fs::write(certs.join("rootCA.crt"), authority.pem())?;
        identity(&certs, name, issuer)?;
        filled::with_objects(&setup, &objects())?;
        setup.start()
    })?;
    Ok(Node { rig, network })
}

/// Serves HTTP, lines and datagrams in a network until the test's process ends.
///
/// # Errors
/// When the port is taken.
pub fn serve(pod: &Network) -> Result<()> {
    let (listener, socket) = pod.run(|| {
        let all = ("0.0.0.0", SERVED);
        Ok((TcpListener::bind(all)?, UdpSocket::bind(all)?))
    })?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    std::thread::spawn(move || {
        let mut datagram = vec![0; 65_536];
        while let Ok((length, client)) = socket.recv_from(&mut datagram) {
            if socket.send_to(&datagram[..length], client).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Answers one request by HTTP; who sends something else gets that back.
fn answer(stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    if !first.starts_with("GET ") {
        reader.get_mut().write_all(first.as_bytes())?;
        return std::io::copy(&mut reader.get_ref().try_clone()?, reader.get_mut())
            .map(drop)
            .context("the client is gone");
    }
    let mut line = String::from("more");
    while !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length";
    write!(reader.get_mut(), "{head}: {}\r\n\r\n{path}", path.len())?;
    Ok(())
}

/// A client's connection.
#[derive(Debug)]
pub struct Talk(BufReader<TcpStream>);

impl Talk {
    /// Sends a line and expects it back.
    ///
    /// # Errors
    /// When another comes.
    pub fn echo(&mut self, line: &str) -> Result<()> {
        writeln!(self.0.get_mut(), "{line}")?;
        let mut back = String::new();
        self.0.read_line(&mut back)?;
        ensure!(back.trim_end() == line, "{back:?} came back for {line:?}");
        Ok(())
    }

    /// Sends much after a line, and returns how much comes back until both have finished.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn pour(mut self, amount: usize) -> Result<usize> {
        self.echo("much")?;
        let mut stream = self.0.into_inner();
        let mut writer = stream.try_clone()?;
        let sender = std::thread::spawn(move || {
            writer.write_all(&vec![b'x'; amount])?;
            writer.shutdown(std::net::Shutdown::Write)
        });
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        sender.join().map_err(|_| anyhow::anyhow!("the sender has panicked"))??;
        Ok(all.len())
    }
}
