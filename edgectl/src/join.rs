//! `edgectl join`: makes this machine a node of a cloud, as `keadm join` does.
//!
//! All that it writes is `edgecore.yaml`, in one rename, after everything that can be checked has
//! been: killed at any instant, it leaves either nothing or a node that joins when it is started.
//! The certificates are edgehub's business, which asks for them with the token.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use ipc_proto::control::Status;
use serde_json::{Value, json};

use crate::cli::JoinArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::program;
use crate::report::{Cloud, LinkState};
use crate::screen::{Screen, pause};
use crate::service;
use crate::tree;
use crate::whole_file::Staged;

/// The first line of a file that may be written over as long as the node has not joined.
const HEAD: &str = "# Written by 'edgectl join'; all other keys have KubeEdge's defaults \
                    ('edgectl config show --effective').\n";

/// Where CloudCore takes nodes, and streams of logs and shells.
const HUB_PORT: u16 = 10_000;
const STREAM_PORT: u16 = 10_004;

/// The greatest token that is read, in bytes.
const MAX_TOKEN: u64 = 16 * 1024;

/// Between two looks at the cloud link.
const LOOK: Duration = Duration::from_millis(200);

/// Joins.
pub(crate) fn run(
    arguments: &JoinArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let place = &arguments.file.config;
    let configuration = configuration(arguments, &token(arguments)?).map_err(Failure::Usage)?;
    let text = format!("{HEAD}{}", tree::yaml(&configuration));
    refuse_a_second_time(place, client)?;
    let cannot = |error| Failure::Failed(format!("cannot write {}: {error}", place.display()));
    let staged = Staged::write(place, &text).map_err(cannot)?;
    check(&staged, place)?;
    refuse_a_foreign_certificate(staged.path())?;
    if !arguments.no_check {
        check_cloud(&staged)?;
    }
    staged.publish().map_err(cannot)?;
    writeln!(screen, "wrote {}", place.display())?;
    if arguments.no_start || !service::is_there() {
        writeln!(screen, "start 'edgecore', and see 'edgectl status'")?;
        return Ok(());
    }
    service::start()?;
    wait(client, Duration::from_secs(arguments.timeout.into()))?;
    writeln!(screen, "the cloud hears this node")?;
    Ok(())
}

/// Reads the token, and looks whether it has a token's form.
fn token(arguments: &JoinArguments) -> Result<String, Failure> {
    let mut text = String::new();
    match (&arguments.token, &arguments.token_file) {
        (Some(token), _) => text.clone_from(token),
        (None, Some(file)) => {
            let stdin = file.as_os_str() == "-";
            let read = if stdin {
                std::io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text)
            } else {
                fs::File::open(file).and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text))
            };
            let name = if stdin { "the standard input".into() } else { file.display().to_string() };
            read.map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
        }
        (None, None) => {}
    }
    let token = text.trim();
    if is_token(token) {
        return Ok(token.to_owned());
    }
    let expected = "four parts with dots between them, the first of 64 hexadecimal digits, as \
                    'keadm gettoken' prints it in the cloud";
    Err(Failure::Usage(format!("this is no token: expected {expected}")))
}

fn is_token(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let hash = |part: &str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let word = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    parts.len() == 4 && hash(parts[0]) && parts.iter().all(word)
}

/// Returns the content of `edgecore.yaml`.
fn configuration(arguments: &JoinArguments, token: &str) -> Result<Value, String> {
    let (host, port) = host_and_port(&arguments.cloud)?;
    let labels = arguments.labels.iter().map(|label| pair("label", label));
    let labels = labels.map(|pair| pair.map(|(key, value)| (key.to_owned(), json!(value))));
    let labels = labels.collect::<Result<serde_json::Map<_, _>, _>>()?;
    let endpoint = &arguments.runtime_endpoint;
    let mut tree = json!({
        "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
        "kind": "EdgeCore",
        "modules": {
            "edgeHub": {
                "httpServer": format!("https://{host}:{}", arguments.cert_port),
                "token": token,
                "websocket": { "enable": true, "server": format!("{host}:{port}") },
            },
            "edgeStream": { "server": format!("{host}:{STREAM_PORT}") },
            "edged": {
                "tailoredKubeletConfig": {
                    "cgroupDriver": arguments.cgroup_driver,
                    "containerRuntimeEndpoint": endpoint,
                    "imageServiceEndpoint": endpoint,
                },
            },
        },
    });
    if let Some(name) = &arguments.node_name {
        tree["modules"]["edged"]["hostnameOverride"] = json!(name);
    }
    if !labels.is_empty() {
        tree["modules"]["edged"]["nodeLabels"] = Value::Object(labels);
    }
    for setting in &arguments.set {
        let (place, value) = pair("setting", setting)?;
        tree::put(&mut tree, place, tree::typed(value))?;
    }
    Ok(tree)
}

/// Takes a host and a port apart; an IPv6 address keeps its brackets.
fn host_and_port(text: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("cloud '{text}', expected HOST or HOST:PORT");
    let at = text.rfind(':').filter(|at| !text[*at..].contains(']'));
    let (host, port) = match at {
        None => (text, HUB_PORT),
        Some(at) => (&text[..at], text[at + 1..].parse().map_err(|_| wrong())?),
    };
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let right = match name {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
            !host.is_empty() && host.bytes().all(letter)
        }
    };
    if right && port != 0 { Ok((host, port)) } else { Err(wrong()) }
}

fn pair<'a>(what: &str, text: &'a str) -> Result<(&'a str, &'a str), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.ok_or_else(|| format!("{what} '{text}', expected KEY=VALUE"))
}

/// A configuration that somebody else wrote is not written over, nor one that an agent runs on.
fn refuse_a_second_time(place: &Path, client: &Client) -> Result<(), Failure> {
    let advice = "'edgectl reset' makes it no node";
    if client.status().is_ok() {
        let reason = format!("edgecore runs on this machine already; {advice}");
        return Err(Failure::Failed(reason));
    }
    match fs::read_to_string(place) {
        Ok(text) if text.starts_with(HEAD) => Ok(()),
        Ok(_) => {
            let place = place.display();
            Err(Failure::Failed(format!("this machine has {place} already; {advice}")))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::Failed(format!("cannot read {}: {error}", place.display()))),
    }
}

/// A certificate is a sign that the node has joined already.
fn refuse_a_foreign_certificate(config: &Path) -> Result<(), Failure> {
    let effective = effective(config)?;
    let files = ["tlsCertFile", "tlsPrivateKeyFile"];
    let files = files.map(|key| effective["modules"]["edgeHub"][key].as_str().unwrap_or_default());
    match files.into_iter().find(|file| Path::new(file).exists()) {
        None => Ok(()),
        Some(file) => Err(Failure::Failed(format!(
            "this machine has {file} already, so it has joined a cloud; 'edgectl reset' makes it no \
             node"
        ))),
    }
}

/// Returns what a file comes to with KubeEdge's defaults.
pub(crate) fn effective(config: &Path) -> Result<Value, Failure> {
    let mut both = crate::configuration::both(config)?;
    Ok(both["effective"].take())
}

/// Has the agent's program look at the file. A key that it does not know is a mistyped `--set` here.
fn check(staged: &Staged, place: &Path) -> Result<(), Failure> {
    let words = ["config", "--config", &staged.path().to_string_lossy()].map(str::to_owned);
    let output = program::run(words).map_err(Failure::Failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let shown = said.replace(&*staged.path().to_string_lossy(), &place.to_string_lossy());
    let wrong: Vec<&str> = shown
        .lines()
        .filter(|line| line.starts_with("error: ") || line.ends_with("is unknown and passed over"))
        .collect();
    if output.status.success() && wrong.is_empty() {
        return Ok(());
    }
    let wrong = if wrong.is_empty() { shown.trim().to_owned() } else { wrong.join("\n") };
    Err(Failure::Failed(format!("nothing was written:\n{wrong}")))
}

fn check_cloud(staged: &Staged) -> Result<(), Failure> {
    let words = ["config", "--check-cloud", "--config", &staged.path().to_string_lossy()];
    match program::ask(words) {
        Ok(_) => Ok(()),
        Err(reason) => Err(Failure::Failed(format!("nothing was written: {reason}"))),
    }
}

/// Waits until the cloud hears the node.
fn wait(client: &Client, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let cloud = client.status().ok().map(|Status { modules, .. }| Cloud::of(&modules));
        let reason = match cloud {
            Some(cloud) if cloud.state == LinkState::Connected => return Ok(()),
            Some(cloud) => cloud.reason,
            None => Some("edgecore does not answer yet".to_owned()),
        };
        if Instant::now() >= deadline {
            let reason = reason.unwrap_or_else(|| "no answer yet".to_owned());
            return Err(Failure::Failed(format!(
                "the cloud does not hear this node within {} s: {reason}; it goes on trying, see \
                 'edgectl status'; to join anew: 'edgectl reset'",
                patience.as_secs()
            )));
        }
        pause(LOOK)?;
    }
}

#[cfg(test)]
mod tests;
