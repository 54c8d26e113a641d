//! What probes and hooks do: run a command, ask over HTTP, open a connection, ask over gRPC, wait.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;

use crate::cri::Runtime;
use crate::pod::spec::{Container, Handler, HttpGet, PortName};

/// The longest text that is taken from a command or a server, in letters: as kubelet's events.
const MAX_SAID: usize = 256;

/// Where an action takes place.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) container: &'a Container,
    pub(crate) id: &'a str,
    /// The pod's address.
    pub(crate) ip: &'a str,
}

/// Takes an action, within a time.
///
/// # Errors
/// What failed, for people.
pub(crate) async fn take(
    handler: &Handler,
    place: &Place<'_>,
    timeout: Duration,
) -> Result<(), String> {
    match tokio::time::timeout(timeout + GRACE, act(handler, place, timeout)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {} s", timeout.as_secs())),
    }
}

/// How much longer than its own time an action may take to say that it failed.
const GRACE: Duration = Duration::from_secs(2);

async fn act(handler: &Handler, place: &Place<'_>, timeout: Duration) -> Result<(), String> {
    let within =
        |what: &'static str| move |_| format!("{what}: no answer within {} s", timeout.as_secs());
    if let Some(exec) = &handler.exec {
        let done = place.runtime.exec(place.id, exec.command.clone(), timeout).await;
        let done = done.map_err(|trouble| trouble.to_string())?;
        if done.exit_code == 0 {
            return Ok(());
        }
        let said = [done.stdout, done.stderr].concat();
        let said: String = String::from_utf8_lossy(&said).chars().take(MAX_SAID).collect();
        return Err(format!("command exited with {}: {said}", done.exit_code));
    }
    if let Some(get) = &handler.http_get {
        return tokio::time::timeout(timeout, http(get, place)).await.map_err(within("HTTP"))?;
    }
    if let Some(tcp) = &handler.tcp_socket {
        let address = address(&tcp.host, &tcp.port, place)?;
        let connect = TcpStream::connect((address.0.as_str(), address.1));
        let connected = tokio::time::timeout(timeout, connect).await.map_err(within("TCP"))?;
        return connected
            .map(drop)
            .map_err(|error| format!("dial tcp {}:{}: {error}", address.0, address.1));
    }
    if let Some(grpc) = &handler.grpc {
        let service = grpc.service.clone().unwrap_or_default();
        let asked = ask_health(place.ip, grpc.port, service);
        return tokio::time::timeout(timeout, asked).await.map_err(within("gRPC"))?;
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds)).await;
        return Ok(());
    }
    Err("it names no action that is known".to_owned())
}

fn address(host: &str, port: &PortName, place: &Place<'_>) -> Result<(String, u16), String> {
    let host = if host.is_empty() { place.ip } else { host };
    let number = match port {
        PortName::Number(number) => *number,
        PortName::Name(name) => {
            let named = place.container.ports.iter().find(|port| port.name == *name);
            i64::from(named.ok_or_else(|| format!("no port is named '{name}'"))?.container_port)
        }
    };
    let number = u16::try_from(number).ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| "its port is no number from 1 to 65535".to_owned())?;
    Ok((host.to_owned(), number))
}

async fn http(get: &HttpGet, place: &Place<'_>) -> Result<(), String> {
    if get.scheme.eq_ignore_ascii_case("https") {
        return Err("HTTPS probes are not supported on this node yet".to_owned());
    }
    let (host, port) = address(&get.host, &get.port, place)?;
    let failed = |error: &dyn std::fmt::Display| {
        format!("Get \"http://{host}:{port}{}\": {error}", get.path)
    };
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| failed(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    let mut request = Request::get(path);
    let named =
        |name: &str| get.http_headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    for header in &get.http_headers {
        request = request.header(&header.name, &header.value);
    }
    for (name, value) in
        [("host", format!("{host}:{port}")), ("user-agent", "kube-probe/1.32".to_owned())]
    {
        if !named(name) {
            request = request.header(name, value);
        }
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let mut asked = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut asked => response,
        // A server that closes at once may have answered before.
        _ended = connection => asked.await,
    };
    let response = response.map_err(|error| failed(&error))?;
    let status = response.status();
    if status.as_u16() >= 200 && status.as_u16() < 400 {
        return Ok(());
    }
    Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
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
    if answer.status == 1 {
        Ok(())
    } else {
        Err(format!("gRPC health status is {}", answer.status))
    }
}
