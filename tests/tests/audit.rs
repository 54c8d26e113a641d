//! What audits of KubeEdge and its advisories found in its node agent, tried with this one: contents of
//! another type than expected, and bodies, answers and packets without an end. `docs/security.md` says
//! which finding is which test.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use edgecore_tests::rig::certs::{Certs, Purpose};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::middle::Middle;
use edgecore_tests::rig::mosquitto::free_port;
use edgecore_tests::rig::{Rig, SOON, Setup, process, wait_for, wait_until};
use ipc_proto::Module;
use minicloud::Config;
use minicloud::core::Push;
use serde_json::{Value, json};

/// More than anybody may make a module keep.
const MUCH: usize = 64 << 20;

/// How much more memory a module may have used at its peak: its own bounds on bodies, twice.
const ROOM: u64 = 24 << 20;

/// How long somebody who writes is kept waiting before he has seen enough.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns the most memory that a module ever had, in bytes.
fn peak(rig: &Rig, module: Module) -> Result<u64> {
    let text = process::status_field(rig.pid_of(module)?, "VmHWM")?;
    let kib: u64 = text.trim_end_matches(" kB").trim().parse().context("a number of kB")?;
    Ok(kib * 1024)
}

/// What cloud or router send that is of each kind, as recorded, without its content.
fn routes() -> Result<Vec<Push>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ipc-proto/tests/fixtures/messages");
    let mut files: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    let down = |file: &fs::DirEntry| file.file_name().to_string_lossy().starts_with("down-");
    files
        .iter()
        .filter(|file| down(file))
        .map(|file| {
            let message: Value = serde_json::from_str(&fs::read_to_string(file.path())?)?;
            let word = |key: &str| message["route"][key].as_str().unwrap_or_default().to_owned();
            Ok(Push {
                source: word("source"),
                group: word("group"),
                operation: word("operation"),
                resource: word("resource"),
                version: message["header"]["resourceversion"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                content: Value::Null,
            })
        })
        .collect()
}

#[test]
fn a_content_of_any_type_from_the_cloud_harms_no_module() -> Result<()> {
    let cloud = Cloud::start(Config::default())?;
    let mut setup = Setup::new()?;
    cloud.lead(&mut setup);
    let rig = setup.start()?;
    wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
    let before = rig.snapshot()?;
    let contents = [
        json!(null),
        json!([]),
        json!({}),
        json!(""),
        json!(-5),
        json!([null, {}, 5]),
        json!({"metadata": null, "spec": null, "status": null, "twin": null}),
        json!({"metadata": [], "spec": "x", "added_devices": {}, "twin": {"t": null}, "Item": 5}),
        json!({"metadata": {"name": {}, "namespace": 5}, "spec": {"containers": [null]}}),
    ];
    for route in routes()? {
        for content in &contents {
            let push = Push { content: content.clone(), ..route.clone() };
            cloud.with(|cloud| async move { cloud.push(NODE, push).await })?;
        }
    }
    // Whatever was done with them: the next good one comes through, so nothing holds the queue.
    cloud.apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}
    }))?;
    wait_until("all is acknowledged", SOON * 2, || cloud.waits_for_nothing().unwrap_or(false))?;
    before.still_holds_but_for(&rig, &[])
}

/// Writes a head and what never ends, until the other side has had enough or `MUCH` is written.
fn pour(port: u16, head: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(head)?;
    let part = [b'x'; 64 * 1024];
    for _ in 0..MUCH / part.len() {
        match stream.write_all(&part) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    Ok(())
}

#[test]
fn bodies_and_packets_without_an_end_take_no_memory() -> Result<()> {
    let cloud = Cloud::start(Config::default())?;
    let mut setup = Setup::new()?;
    cloud.lead(&mut setup);
    let [bus, mqtt] = [free_port()?, free_port()?];
    let modules = &mut setup.edgecore["modules"];
    modules["serviceBus"] = json!({"enable": true, "server": "127.0.0.1", "port": bus});
    modules["eventBus"] = json!({
        "enable": true, "mqttMode": 0, "mqttServerInternal": format!("tcp://127.0.0.1:{mqtt}"),
    });
    let local = modules["metaManager"]["metaServer"]["server"].as_str().context("an address")?;
    let local: u16 = local.rsplit(':').next().unwrap_or_default().parse()?;
    let api = setup.api.port();
    let rig = setup.start()?;
    wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
    let push = Push {
        source: "router_servicebus".into(),
        group: "user".into(),
        operation: "start".into(),
        resource: "http://here/x".into(),
        version: String::new(),
        content: Value::Null,
    };
    cloud.with(|cloud| async move { cloud.push(NODE, push).await })?;
    let post = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\n\
             Content-Length: 1073741824\r\n\r\n"
        )
    };
    let chunked = "POST / HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n4000000\r\n";
    // MQTT: a client that says hello, and a packet of the greatest length that can be written.
    let mut packet = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01z".to_vec();
    packet.extend(b"\x30\xff\xff\xff\x7f\0\x01t");
    let doors = [
        (Module::Servicebus, bus, post("/").into_bytes()),
        (Module::Servicebus, bus, chunked.into()),
        (Module::Metaserver, local, post("/api/v1/namespaces/default/configmaps").into_bytes()),
        (Module::Edged, api, post("/run/default/none/c?cmd=true").into_bytes()),
        (Module::Eventbus, mqtt, packet),
    ];
    let before = rig.snapshot()?;
    for (module, port, head) in doors {
        wait_until("its door is open", SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        let was = peak(&rig, module)?;
        pour(port, &head).with_context(|| format!("{module} does not listen"))?;
        let is = peak(&rig, module)?;
        ensure!(is < was + ROOM, "{module}: {was} bytes became {is}");
    }
    before.still_holds_but_for(&rig, &[])
}

#[test]
fn answers_without_an_end_to_the_upgrade_take_no_memory() -> Result<()> {
    let certs = Certs::new()?;
    certs.issue_node(NODE)?;
    certs.issue("middle", Purpose::Server)?;
    let much = vec![b'x'; MUCH];
    let head = b"HTTP/1.1 403 Forbidden\r\nX-Long: ".as_slice();
    let body = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1073741824\r\n\r\n".as_slice();
    for answer in [head, body] {
        let middle = Middle::start(&certs.path(""), "middle", &[answer, &much].concat())?;
        let mut setup = Setup::new()?;
        for module in Module::ALL {
            let dials =
                matches!(module, Module::Metamanager | Module::Edgehub | Module::Edgestream);
            setup = setup.with(json!({"modules": {module.name(): {"enabled": dials}}}));
        }
        let (ca, certificate, key) =
            (certs.path("ca.crt"), certs.path("server.crt"), certs.path("server.key"));
        let server = format!("127.0.0.1:{}", middle.port());
        let modules = &mut setup.edgecore["modules"];
        modules["edgeHub"] = json!({
            "tlsCaFile": ca, "tlsCertFile": certificate, "tlsPrivateKeyFile": key, "token": "",
            "httpServer": format!("https://{server}"),
            "websocket": {"enable": true, "server": server},
        });
        modules["edgeStream"] = json!({
            "enable": true, "tlsTunnelCAFile": ca, "tlsTunnelCertFile": certificate,
            "tlsTunnelPrivateKeyFile": key, "server": server,
        });
        let rig = setup.start()?;
        let before = rig.snapshot()?;
        for module in [Module::Edgehub, Module::Edgestream] {
            let said = || rig.module(module).ok()?.report?["reason"].as_str().map(str::to_owned);
            let said = wait_for("it says what is wrong", SOON, said)?;
            ensure!(!said.is_empty() && said.len() < 1024, "{module}: {said}");
            let peak = peak(&rig, module)?;
            ensure!(peak < 2 * ROOM, "{module} took {peak} bytes");
        }
        before.still_holds_but_for(&rig, &[])?;
    }
    Ok(())
}
