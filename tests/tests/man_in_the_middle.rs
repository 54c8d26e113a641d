//! Somebody else answers where the cloud or the broker should: each connection ends before anything
//! is said on it, and the operator reads why.

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::certs::{Certs, Purpose};
use edgecore_tests::rig::middle::Middle;
use edgecore_tests::rig::{Rig, SOON, Setup, wait_for};
use ipc_proto::Module;
use minicloud::pki::{Authority, pin};
use serde_json::{Value, json};

/// The modules that dial, and the one that they need.
const PRESENT: [Module; 4] =
    [Module::Metamanager, Module::Edgehub, Module::Eventbus, Module::Edgestream];

/// What a token has behind the hash of the CA; nobody but the cloud may see it.
const SECRET: &str = "a.secret.token";

/// Starts a node with those modules alone.
fn start(certs: &Certs, change: impl FnOnce(&mut Value)) -> Result<Rig> {
    let mut setup = Setup::new()?;
    for module in Module::ALL {
        let enabled = PRESENT.contains(&module);
        setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
    }
    let (ca, certificate, key) =
        (certs.path("ca.crt"), certs.path("server.crt"), certs.path("server.key"));
    let modules = &mut setup.edgecore["modules"];
    modules["edgeHub"] =
        json!({"tlsCaFile": ca, "tlsCertFile": certificate, "tlsPrivateKeyFile": key, "token": ""});
    modules["edgeStream"] = json!({
        "enable": true, "tlsTunnelCAFile": ca, "tlsTunnelCertFile": certificate,
        "tlsTunnelPrivateKeyFile": key,
    });
    modules["eventBus"] = json!({
        "enable": true, "mqttMode": 2, "mqttQOS": 1,
        "eventBusTLS": {"enable": true, "tlsMqttCAFile": ca, "tlsMqttCertFile": certificate,
            "tlsMqttPrivateKeyFile": key},
    });
    change(modules);
    setup.start()
}

/// Waits until a module says so.
fn says(rig: &Rig, module: Module, place: &str, wanted: &str) -> Result<()> {
    let mut last = String::new();
    let found = wait_for(wanted, SOON, || {
        let report = rig.module(module).ok()?.report?;
        last = report.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
        last.contains(wanted).then_some(())
    });
    found.with_context(|| format!("{module} says '{last}'\n{}", rig.module_log(module)))
}

/// Puts a man in the middle on the ways to the hub, to the tunnel and to the broker.
fn is_refused(
    issue: impl FnOnce(&Certs) -> Result<()>,
    [hub, tunnel, broker]: [&str; 3],
) -> Result<()> {
    let certs = Certs::new()?;
    certs.issue_node("edge1")?;
    issue(&certs)?;
    let folder = certs.path("");
    let middles = [(); 4].map(|()| Middle::start(&folder, "middle", b""));
    let [http, ws, stream, mqtt] = middles;
    let (http, ws, stream, mqtt) = (http?, ws?, stream?, mqtt?);
    let rig = start(&certs, |modules| {
        modules["edgeHub"]["httpServer"] = json!(format!("https://127.0.0.1:{}", http.port()));
        modules["edgeHub"]["websocket"] =
            json!({"enable": true, "server": format!("127.0.0.1:{}", ws.port())});
        modules["edgeStream"]["server"] = json!(format!("127.0.0.1:{}", stream.port()));
        let broker = format!("ssl://127.0.0.1:{}", mqtt.port());
        modules["eventBus"]["mqttServerExternal"] = json!(broker);
    })?;
    says(&rig, Module::Edgehub, "/reason", hub)?;
    says(&rig, Module::Edgestream, "/reason", tunnel)?;
    says(&rig, Module::Eventbus, "/external/reason", broker)?;
    for (name, middle) in [("the hub", ws), ("the tunnel", stream), ("the broker", mqtt)] {
        let heard = middle.heard();
        ensure!(!heard.is_empty() && heard.iter().all(String::is_empty), "{name}: {heard:?}");
    }
    ensure!(http.heard().iter().all(String::is_empty), "nothing was asked of the service");
    Ok(())
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() -> Result<()> {
    is_refused(
        |certs| certs.issue_unknown("middle", Purpose::Server),
        [
            "wrong CA: the certificate of",
            "invalid peer certificate",
            "its certificate is not of the authority in",
        ],
    )
}

#[test]
fn a_certificate_of_another_server_of_the_cluster_is_refused() -> Result<()> {
    is_refused(
        |certs| certs.issue("middle", Purpose::Elsewhere),
        ["is not made for this name", "not valid for name", "its certificate is not for"],
    )
}

#[test]
fn a_certificate_that_has_expired_is_refused() -> Result<()> {
    is_refused(
        |certs| certs.issue_expired("middle", Purpose::Server),
        ["has expired", "certificate expired", "its certificate has expired"],
    )
}

#[test]
fn a_certificate_of_a_node_is_none_of_a_server() -> Result<()> {
    is_refused(
        |certs| certs.issue("middle", Purpose::Impostor),
        [
            "wrong CA: the certificate of",
            "invalid peer certificate",
            "its certificate cannot be trusted",
        ],
    )
}

/// Lets a blank node join where a man in the middle answers the request for the CA with `ca`.
fn joins(certs: &Certs, ca: &[u8], wanted: &str) -> Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", ca.len());
    let middle = Middle::start(&certs.path(""), "middle", &[head.as_bytes(), ca].concat())?;
    let own = pin(certs.authority.der());
    let rig = start(certs, |modules| {
        let server = format!("127.0.0.1:{}", middle.port());
        modules["edgeHub"]["httpServer"] = json!(format!("https://{server}"));
        modules["edgeHub"]["websocket"] = json!({"enable": true, "server": server});
        modules["edgeHub"]["token"] = json!(format!("{own}.{SECRET}"));
        modules["edgeHub"]["tlsCaFile"] = json!(certs.path("new/ca.crt"));
    })?;
    says(&rig, Module::Edgehub, "/reason", wanted)?;
    let heard = middle.heard();
    ensure!(heard.iter().any(|it| it.starts_with("GET /ca.crt HTTP/1.1\r\n")), "{heard:?}");
    for said in heard {
        let secret = said.contains(SECRET) || said.to_lowercase().contains("authorization");
        ensure!(!secret && !said.contains("/edge.crt"), "{said}");
    }
    ensure!(!certs.path("new/ca.crt").exists(), "nothing was written");
    Ok(())
}

#[test]
fn a_blank_node_tells_its_token_to_nobody_but_the_cloud_that_it_pins() -> Result<()> {
    let certs = Certs::new()?;
    let ca = certs.authority.der();
    certs.issue("middle", Purpose::Server)?;
    joins(&certs, Authority::create()?.der(), "has a CA of another hash than the token says")?;
    joins(&certs, b"rubbish", "has a CA of another hash than the token says")?;
    // Whoever stands in the middle knows the CA, which is no secret, and passes it on.
    certs.issue_unknown("middle", Purpose::Server)?;
    joins(&certs, ca, "wrong CA: the certificate of")?;
    certs.issue_expired("middle", Purpose::Server)?;
    joins(&certs, ca, "has expired")?;
    certs.issue("middle", Purpose::Elsewhere)?;
    joins(&certs, ca, "is not made for this name")
}
