//! The way to an external broker that is secured: by certificates on both sides, by user and
//! password. Modules are confined as on a real node, and the files are where nothing may be read
//! that the configuration does not name.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::bus::{Mode, Place};
use edgecore_tests::rig::certs::{Certs, Purpose};
use edgecore_tests::rig::mosquitto::{publish, subscribe};
use serde_json::{Value, json};

/// Changes `eventBus` so that the broker is dialled over TLS.
fn dial_securely(bus: &mut Value) {
    let url = bus["mqttServerExternal"].as_str().unwrap_or_default();
    bus["mqttServerExternal"] = json!(url.replace("tcp://", "ssl://"));
}

fn restart_broker(place: &mut Place) -> Result<()> {
    let mosquitto = place.mosquitto.as_mut().context("a broker")?;
    mosquitto.end()?;
    mosquitto.start_again()
}

/// Restarts the broker and waits until the node says what is wrong with it.
fn is_refused(place: &mut Place, why: &str) -> Result<()> {
    restart_broker(place)?;
    place
        .wait_for_report(why, |it| {
            it["external"]["reason"].as_str().is_some_and(|reason| reason.contains(why))
        })
        .map(drop)
}

/// Restarts the broker and shows that messages pass both ways.
fn works(place: &mut Place, arguments: &[&str], body: &'static str) -> Result<()> {
    restart_broker(place)?;
    place.wait_until_open()?;
    let port = place.port();
    publish(port, "default/user/up", body, arguments)?;
    place.wait_for_upload("default/user/up", body)?;
    let mut client = subscribe(port, "down", arguments)?;
    place.push("publish", "down", json!(body))?;
    client.wait_line("it comes down", |line| line.trim() == format!("got down {body}"))?;
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of letters")
}

#[test]
fn both_sides_show_their_certificates_and_what_is_wrong_with_one_is_said() -> Result<()> {
    let certs = Certs::new()?;
    certs.issue("broker", Purpose::Server)?;
    certs.issue("node", Purpose::Client)?;
    certs.issue("client", Purpose::Client)?;
    let path = |name: &str| certs.path(name);
    let settings = format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true",
        path("ca.crt").display(),
        path("broker.crt").display(),
        path("broker.key").display()
    );
    let tls = json!({"eventBusTLS": {
        "enable": true, "tlsMqttCAFile": path("ca.crt"),
        "tlsMqttCertFile": path("node.crt"), "tlsMqttPrivateKeyFile": path("node.key"),
    }});
    let mut place = Place::by(Mode::External, &settings, tls, |setup| {
        dial_securely(&mut setup.edgecore["modules"]["eventBus"]);
        Ok(())
    })?;
    let (ca, certificate, key) = (path("ca.crt"), path("client.crt"), path("client.key"));
    let client =
        [["--cafile", text(&ca)?], ["--cert", text(&certificate)?], ["--key", text(&key)?]]
            .concat();
    works(&mut place, &client, "at first")?;
    certs.issue_expired("broker", Purpose::Server)?;
    is_refused(&mut place, "its certificate has expired")?;
    certs.issue_unknown("broker", Purpose::Server)?;
    is_refused(&mut place, "its certificate is not of the authority in")?;
    certs.issue("broker", Purpose::Elsewhere)?;
    is_refused(&mut place, "its certificate is not for '127.0.0.1'")?;
    // A renewed certificate is all that it takes.
    certs.issue("broker", Purpose::Server)?;
    works(&mut place, &client, "after the broker's certificate was renewed")?;
    certs.issue_expired("node", Purpose::Client)?;
    is_refused(&mut place, "it does not take this node's certificate")?;
    certs.issue_unknown("node", Purpose::Client)?;
    is_refused(&mut place, "it does not take this node's certificate")?;
    fs::remove_file(path("node.key"))?;
    is_refused(&mut place, "cannot read")?;
    certs.issue("node", Purpose::Client)?;
    works(&mut place, &client, "after the node's certificate was renewed")
}

#[test]
fn without_a_certificate_of_its_own_the_node_still_checks_the_brokers() -> Result<()> {
    let certs = Certs::new()?;
    certs.issue("broker", Purpose::Server)?;
    let settings = format!(
        "cafile {0}/ca.crt\ncertfile {0}/broker.crt\nkeyfile {0}/broker.key",
        certs.path("").display()
    );
    let tls = json!({"eventBusTLS": {"enable": false, "tlsMqttCAFile": certs.path("ca.crt")}});
    let mut place = Place::by(Mode::External, &settings, tls, |setup| {
        dial_securely(&mut setup.edgecore["modules"]["eventBus"]);
        Ok(())
    })?;
    let ca = certs.path("ca.crt");
    works(&mut place, &["--cafile", text(&ca)?], "without")?;
    certs.issue_unknown("broker", Purpose::Server)?;
    is_refused(&mut place, "its certificate is not of the authority in")
}

#[test]
fn a_password_that_is_refused_is_said_and_tried_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("passwords");
    let set = |password: &str| -> Result<()> {
        let mut command = Command::new("mosquitto_passwd");
        command.args(["-b", "-c"]).arg(&file).args(["node", password]);
        ensure!(command.status()?.success(), "mosquitto_passwd failed");
        Ok(())
    };
    set("right")?;
    let settings = format!("allow_anonymous false\npassword_file {}", file.display());
    let user = json!({"mqttUsername": "node", "mqttPassword": "right"});
    let mut place = Place::by(Mode::External, &settings, user, |_| Ok(()))?;
    let client = ["-u", "node", "-P", "right"];
    works(&mut place, &client, "at first")?;
    set("another")?;
    is_refused(&mut place, "see eventBus.mqttUsername and mqttPassword")?;
    set("right")?;
    works(&mut place, &client, "after it was set right")
}
