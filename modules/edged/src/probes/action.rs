//! What probes and hooks do: run a command, ask over HTTP, open a connection, ask over gRPC, wait.

use std::time::Duration;

use prost::Message;
use tokio::net::TcpStream;

use super::http::{self, Failure, Target};
use crate::cri::Runtime;
use crate::env;
use crate::pod::spec::{Container, Handler, HttpGet, PortName};

/// The longest text that is taken from a command, in letters.
const MAX_SAID: usize = 1024;

/// How often a probe that could not be made is tried again at once.
const TRIES: u32 = 3;

/// The port of a hook that names none.
const HTTP_PORT: u16 = 80;

/// Where an action takes place.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) container: &'a Container,
    pub(crate) id: &'a str,
    /// The pod's address.
    pub(crate) ip: &'a str,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Well,
    /// All is well, but for what the text says.
    Odd(String),
    /// It is not.
    Unwell(String),
    /// It could not be found out; that says nothing about the container.
    Unknown(String),
}

/// Makes a probe, within a time.
pub(crate) async fn probe(handler: &Handler, place: &Place<'_>, timeout: Duration) -> Outcome {
    let mut outcome = Outcome::Well;
    for _ in 0..TRIES {
        outcome = try_probe(handler, place, timeout).await;
        if !matches!(outcome, Outcome::Unknown(_)) {
            break;
        }
    }
    outcome
}

async fn try_probe(handler: &Handler, place: &Place<'_>, timeout: Duration) -> Outcome {
    if let Some(exec) = &handler.exec {
        return exec_probe(&exec.command, place, timeout).await;
    }
    let late = || Outcome::Unwell(format!("no answer within {} s", timeout.as_secs()));
    let asked = async {
        if let Some(get) = &handler.http_get {
            return match target(get, place, None) {
                Ok(target) => match http::probe(target, &get.http_headers).await {
                    Ok(None) => Outcome::Well,
                    Ok(Some(odd)) => Outcome::Odd(odd),
                    Err(said) => Outcome::Unwell(said),
                },
                Err(why) => Outcome::Unknown(why),
            };
        }
        if let Some(tcp) = &handler.tcp_socket {
            let (host, port) = match address(&tcp.host, &tcp.port, place) {
                Ok(address) => address,
                Err(why) => return Outcome::Unknown(why),
            };
            let connected = TcpStream::connect((http::bare(&host), port)).await;
            let failed = |error| Outcome::Unwell(format!("dial tcp {host}:{port}: {error}"));
            return connected.map_or_else(failed, |_| Outcome::Well);
        }
        if let Some(grpc) = &handler.grpc {
            let service = grpc.service.clone().unwrap_or_default();
            let asked = ask_health(place.ip, grpc.port, service).await;
            return asked.map_or_else(Outcome::Unwell, |()| Outcome::Well);
        }
        Outcome::Unknown("it names no action that is known".to_owned())
    };
    tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| late())
}

async fn exec_probe(command: &[String], place: &Place<'_>, timeout: Duration) -> Outcome {
    let known = &place.container.env;
    let lookup = |name: &str| {
        let plain = known.iter().find(|env| env.name == name && env.value_from.is_none());
        plain.map(|env| env.value.clone())
    };
    let command = command.iter().map(|word| env::expand(word, lookup)).collect();
    match place.runtime.exec(place.id, command, Some(timeout)).await {
        Ok(done) if done.exit_code == 0 => Outcome::Well,
        Ok(done) => Outcome::Unwell(said(&done.stdout, &done.stderr)),
        Err(trouble) if trouble.is_command_late() => {
            Outcome::Unwell(format!("command timed out after {} s", timeout.as_secs()))
        }
        Err(trouble) => Outcome::Unknown(trouble.to_string()),
    }
}

fn said(out: &[u8], err: &[u8]) -> String {
    String::from_utf8_lossy(&[out, err].concat()).chars().take(MAX_SAID).collect()
}

/// Runs a hook. A command may take as long as it wants; whoever waits may stop to.
///
/// # Errors
/// What failed, as kubelet says it.
pub(crate) async fn hook(handler: &Handler, place: &Place<'_>) -> Result<(), String> {
    let name = &place.container.name;
    if let Some(exec) = &handler.exec {
        let command = &exec.command;
        let failed = |error: &dyn std::fmt::Display, said: &str| {
            format!(
                "Exec lifecycle hook ([{}]) for Container \"{name}\" failed - error: {error}, message: {said:?}",
                command.join(" ")
            )
        };
        let done = place.runtime.exec(place.id, command.clone(), None).await;
        let done = done.map_err(|trouble| failed(&trouble, ""))?;
        if done.exit_code != 0 {
            let code = format!("command exited with {}", done.exit_code);
            return Err(failed(&code, &said(&done.stdout, &done.stderr)));
        }
        return Ok(());
    }
    if let Some(get) = &handler.http_get {
        let failed = |why: String| {
            let path = &get.path;
            format!("HTTP lifecycle hook ({path}) for Container \"{name}\" failed - error: {why}")
        };
        let mut target = target(get, place, Some(HTTP_PORT)).map_err(failed)?;
        // Any answer will do.
        return match http::ask(&target, &get.http_headers, "lifecycle").await {
            Ok(_) => Ok(()),
            Err(Failure::NoTls(_)) => {
                target.https = false;
                let asked = http::ask(&target, &get.http_headers, "lifecycle").await;
                asked.map(drop).map_err(|failure| failed(failure.to_string()))
            }
            Err(failure) => Err(failed(failure.to_string())),
        };
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds)).await;
        return Ok(());
    }
    Err(format!(
        "Cannot run handler of Container \"{name}\": it is neither exec, httpGet nor sleep"
    ))
}

fn target(get: &HttpGet, place: &Place<'_>, default: Option<u16>) -> Result<Target, String> {
    let unset = matches!(&get.port, PortName::Name(name) if name.is_empty());
    let (host, port) = match default.filter(|_| unset) {
        Some(port) => (host(&get.host, place), port),
        None => address(&get.host, &get.port, place)?,
    };
    let https = get.scheme.eq_ignore_ascii_case("https");
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    Ok(Target { https, host, port, path })
}

fn host(host: &str, place: &Place<'_>) -> String {
    let host = if host.is_empty() { place.ip } else { host };
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn address(at: &str, port: &PortName, place: &Place<'_>) -> Result<(String, u16), String> {
    let number = match port {
        PortName::Number(number) => *number,
        PortName::Name(name) => match name.parse() {
            Ok(number) => number,
            Err(_) => {
                let named = place.container.ports.iter().find(|port| port.name == *name);
                let named = named.ok_or_else(|| {
                    format!(
                        "couldn't find port \"{name}\" in container \"{}\"",
                        place.container.name
                    )
                })?;
                i64::from(named.container_port)
            }
        },
    };
    let valid = u16::try_from(number).ok().filter(|number| *number > 0);
    let valid = valid.ok_or_else(|| format!("invalid port number: {number}"))?;
    Ok((host(at, place), valid))
}

/// The question of the gRPC health protocol.
#[derive(Clone, PartialEq, Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// Its answer; 1 is `SERVING`.
#[derive(Clone, PartialEq, Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

async fn ask_health(ip: &str, port: u16, service: String) -> Result<(), String> {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let request = HealthRequest { service };
    let path = "/grpc.health.v1.Health/Check";
    let answer: HealthResponse = crate::cri::ask_over_tcp(&host, port, path, request).await?;
    let word = match answer.status {
        1 => return Ok(()),
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "none that is known",
    };
    Err(format!("service unhealthy (responded with \"{word}\")"))
}
