//! The cluster's names on the node, as a DNS client sees them: with the cloud and without, while
//! edgemesh is killed, and while the host's name servers are away.

use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::cloud::Cloud;
use edgecore_tests::rig::privilege::had_or_skip;
use edgecore_tests::rig::{Rig, SOON, Setup, wait_until};
use ipc_proto::Module;
use ipc_proto::control::Request;
use minicloud::Config;
use minicloud::fault::Fault;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The modules that take part.
const PRESENT: [Module; 4] =
    [Module::Metamanager, Module::Edgehub, Module::Metaserver, Module::Edgemesh];

const WEB: &str = "web.shop.svc.cluster.local";
const DB: &str = "db.shop.svc.cluster.local";

/// A node whose mesh answers names, its cloud, and the name server that its host asks.
struct Place {
    rig: Rig,
    cloud: Cloud,
    upstream: Upstream,
    port: u16,
}

impl Place {
    /// Starts them; nothing where there is no client.
    fn new() -> Result<Option<Self>> {
        let has_dig = Command::new("dig").arg("-v").output().is_ok();
        if !had_or_skip(has_dig, "dig")? {
            return Ok(None);
        }
        let cloud = Cloud::start(Config::default())?;
        let upstream = Upstream::start()?;
        let mut setup = Setup::new()?;
        cloud.lead(&mut setup);
        for module in Module::ALL {
            let enabled = PRESENT.contains(&module);
            setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
        }
        let upstreams = [format!("127.0.0.1:{}", upstream.port)];
        setup = setup.with(json!({"modules": {"edgemesh": {"dns": {"upstreams": upstreams}}}}));
        let listen = &setup.supervisor["modules"]["edgemesh"]["dns"]["listen"];
        let port =
            listen.as_str().and_then(|it| it.rsplit_once(':')).context("a port")?.1.parse()?;
        let rig = setup.start()?;
        wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
        let place = Self { rig, cloud, upstream, port };
        place.cloud.apply(service("web", &json!({"clusterIP": "10.96.0.7"})))?;
        place.cloud.apply(service("db", &json!({"clusterIP": "None"})))?;
        place.cloud.apply(slice("db-1", &[("10.1.0.1", "db-0"), ("10.1.0.2", "db-1")]))?;
        place.wait(WEB, &["10.96.0.7"])?;
        place.wait(DB, &["10.1.0.1", "10.1.0.2"])?;
        Ok(Some(place))
    }

    /// Asks with dig; returns what it prints.
    fn dig(&self, arguments: &[&str]) -> Result<String> {
        let mut dig = Command::new("dig");
        dig.args(["@127.0.0.1", "-p", &self.port.to_string(), "+tries=1", "+time=5"]);
        let output = dig.args(arguments).output().context("cannot run dig")?;
        String::from_utf8(output.stdout).context("dig prints no text")
    }

    /// Asks for a name; returns the answers in order.
    fn ask(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let printed = self.dig(&[&["+short"], arguments].concat())?;
        let mut answers: Vec<_> = printed.lines().map(ToOwned::to_owned).collect();
        answers.sort();
        Ok(answers)
    }

    fn wait(&self, name: &str, expected: &[&str]) -> Result<()> {
        wait_until(&format!("{name} is {expected:?}"), SOON, || {
            self.ask(&[name]).is_ok_and(|answers| answers == expected)
        })
    }

    /// Returns how a query ends, such as `NOERROR`.
    fn status(&self, arguments: &[&str]) -> Result<String> {
        let printed = self.dig(arguments)?;
        let status = printed.split_once("status: ").and_then(|(_, rest)| rest.split_once(','));
        Ok(status.with_context(|| format!("no reply: {printed}"))?.0.to_owned())
    }
}

fn service(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["ports"] = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

/// Makes a slice of the service `db`.
fn slice(name: &str, endpoints: &[(&str, &str)]) -> Value {
    let endpoint = |(address, hostname): &(&str, &str)| json!({"addresses": [address], "hostname": hostname, "conditions": {"ready": true}});
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]})
}

/// A name server by which every name has the address 192.0.2.7 for one second.
struct Upstream {
    port: u16,
    answers: Arc<AtomicBool>,
}

impl Upstream {
    fn start() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let port = socket.local_addr()?.port();
        let answers = Arc::new(AtomicBool::new(true));
        let answering = Arc::clone(&answers);
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let question = buffer[12..length].windows(4).position(|it| it == [0, 1, 0, 1]);
                let Some(end) = question.filter(|_| answering.load(Ordering::SeqCst)) else {
                    continue;
                };
                let mut reply = buffer[..12 + end + 4].to_vec();
                // The query's EDNS is left out.
                reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
                reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 7]);
                if socket.send_to(&reply, from).is_err() {
                    return;
                }
            }
        });
        Ok(Self { port, answers })
    }
}

#[test]
fn services_are_found_by_name_with_the_cloud_and_without() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    let server = |host: &str| format!("0 100 8080 {host}.{DB}.");
    for linked in [true, false] {
        if !linked {
            place.rig.demand(&Request::Stop { modules: vec![Module::Edgehub] })?;
            place.rig.demand(&Request::Restart { modules: vec![Module::Edgemesh] })?;
            place.wait(WEB, &["10.96.0.7"])?;
        }
        for transport in ["+notcp", "+tcp"] {
            let ask = |arguments: &[&str]| place.ask(&[&[transport], arguments].concat());
            assert_eq!(ask(&[WEB])?, ["10.96.0.7"]);
            assert_eq!(ask(&[DB])?, ["10.1.0.1", "10.1.0.2"]);
            assert_eq!(ask(&[&format!("db-0.{DB}")])?, ["10.1.0.1"]);
            let servers = ask(&["SRV", &format!("_http._tcp.{DB}")])?;
            assert_eq!(servers, [server("db-0"), server("db-1")]);
            assert_eq!(ask(&["-x", "10.1.0.2"])?, [format!("db-1.{DB}.")]);
        }
        let search = ["+search", "+domain=shop.svc.cluster.local", "web"];
        assert_eq!(place.ask(&search)?, ["10.96.0.7"]);
        assert_eq!(place.status(&["none.shop.svc.cluster.local"])?, "NXDOMAIN");
        assert_eq!(place.status(&["AAAA", WEB])?, "NOERROR");
        assert!(place.ask(&["AAAA", WEB])?.is_empty());
    }
    Ok(())
}

#[test]
fn what_changes_is_found_and_what_goes_is_not() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    place.cloud.apply(slice("db-1", &[("10.1.0.3", "db-2")]))?;
    place.wait(DB, &["10.1.0.3"])?;
    place.cloud.apply(slice("db-2", &[("10.1.0.4", "db-3")]))?;
    place.wait(DB, &["10.1.0.3", "10.1.0.4"])?;
    place
        .cloud
        .with(|cloud| async move { cloud.delete("shop/endpointslice/db-1", false).await })?;
    place.wait(DB, &["10.1.0.4"])?;
    // The cloud starts again and has forgotten who watches what.
    place.cloud.fault(Fault::Restart { down_millis: 100 })?;
    place.cloud.apply(slice("db-2", &[("10.1.0.5", "db-3")]))?;
    place.wait(DB, &["10.1.0.5"])?;
    let external = json!({"type": "ExternalName", "externalName": "shop.example.org"});
    place.cloud.apply(service("away", &external))?;
    place.wait("away.shop.svc.cluster.local", &["192.0.2.7", "shop.example.org."])
}

#[test]
fn a_killed_mesh_answers_again_and_rubbish_hurts_nobody() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    let old = place.rig.pid_of(Module::Edgemesh)?;
    place.rig.signal(Module::Edgemesh, Signal::KILL)?;
    place.rig.wait_until_back(Module::Edgemesh, old)?;
    place.wait(WEB, &["10.96.0.7"])?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", place.port))?;
    socket.set_read_timeout(Some(SOON))?;
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x00\x00\x01\x00\x01";
    for length in 0..query.len() {
        // What is too short to have an id gets no answer.
        socket.send(&query[..length])?;
        if length >= 4 {
            let mut reply = [0; 512];
            let read = socket.recv(&mut reply)?;
            ensure!(read >= 12 && reply[..2] == query[..2] && reply[3] & 0xf == 1, "{length}");
        }
    }
    let pid = place.rig.pid_of(Module::Edgemesh)?;
    assert_eq!(place.ask(&[WEB])?, ["10.96.0.7"]);
    assert_eq!(place.rig.pid_of(Module::Edgemesh)?, pid);
    Ok(())
}

#[test]
fn an_operator_sees_services_endpoints_and_what_a_pod_would_find() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    let config = place.rig.setup().folder.path().join("edgecore.yaml");
    let config = config.to_str().context("a path that is text")?;
    let services =
        place.rig.edgectl(&["mesh", "services", "--config", config, "-o", "json"])?.json()?;
    let ids: Vec<_> = services["services"].as_array().context("a list")?.iter().collect();
    assert_eq!((&ids[0]["id"], &ids[1]["id"]), (&json!("shop/db"), &json!("shop/web")));
    assert_eq!(ids[0]["endpoints"][1]["address"], "10.1.0.2");
    let table = place.rig.edgectl(&["mesh", "endpoints", "shop/db", "--config", config])?.out;
    assert!(table.contains("10.1.0.1") && table.contains("http 8080/TCP"), "{table}");
    let resolve = |name: &str| place.rig.edgectl(&["mesh", "resolve", "-n", "shop", name]);
    let found = place.rig.edgectl(&["mesh", "resolve", "web.shop", "-o", "json"])?.json()?;
    assert_eq!(found["name"], format!("{WEB}."));
    assert_eq!(found["answers"][0]["data"], "10.96.0.7");
    assert!(resolve("web")?.out.contains("10.96.0.7"));
    assert!(resolve("10.1.0.1")?.out.contains(&format!("db-0.{DB}.")));
    let missing = resolve("none.shop.svc.cluster.local.")?;
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("NXDOMAIN"), "{}", missing.err);
    place.rig.demand(&Request::Stop { modules: vec![Module::Edgemesh] })?;
    wait_until("it is said that the mesh does not run", SOON, || {
        resolve("web").is_ok_and(|told| told.err.contains("the mesh does not run"))
    })
}

#[test]
fn names_of_others_outlive_the_server_that_knows_them() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    assert_eq!(place.ask(&["example.org"])?, ["192.0.2.7"]);
    place.upstream.answers.store(false, Ordering::SeqCst);
    assert_eq!(place.status(&["example.net"])?, "SERVFAIL", "it was never asked for");
    wait_until("the answer is stale", Duration::from_secs(10), || {
        place.dig(&["example.org"]).is_ok_and(|printed| {
            let mut words = printed
                .lines()
                .filter(|line| line.starts_with("example.org."))
                .flat_map(str::split_whitespace);
            words.nth(1) == Some("30") && printed.contains("192.0.2.7")
        })
    })?;
    assert_eq!(place.ask(&[WEB])?, ["10.96.0.7"], "the cluster's names need nobody");
    place.upstream.answers.store(true, Ordering::SeqCst);
    wait_until("others are asked again", SOON, || {
        place.ask(&["example.net"]).is_ok_and(|answers| answers == ["192.0.2.7"])
    })
}

/// Asks for the address of `n<number>.example.org`.
fn question(number: u16) -> Vec<u8> {
    let name = format!("n{number:05}");
    let head = [&number.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6]].concat();
    [&head[..], name.as_bytes(), b"\x07example\x03org\0\0\x01\0\x01"].concat()
}

#[test]
fn floods_of_questions_and_connections_cost_nobody_else_an_answer() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    let pid = place.rig.pid_of(Module::Edgemesh)?;
    place.upstream.answers.store(false, Ordering::SeqCst);
    // more than are served at a time, and who says nothing
    let connect = || TcpStream::connect(("127.0.0.1", place.port));
    let idle = (0..80).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", place.port))?;
    socket.set_read_timeout(Some(SOON))?;
    // more than are asked of other servers at a time
    for number in 0..2000 {
        socket.send(&question(number))?;
        if number % 100 == 99 {
            place.wait(WEB, &["10.96.0.7"])?;
        }
    }
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply)?;
    ensure!(length >= 12 && reply[3] & 0xf == 2, "what is too much fails, as DNS says it");
    drop(idle);
    wait_until("connections are served", SOON, || {
        place.ask(&["+tcp", WEB]).is_ok_and(|answers| answers == ["10.96.0.7"])
    })?;
    assert_eq!(place.rig.pid_of(Module::Edgemesh)?, pid);
    Ok(())
}
