//! Streams into containers: the runtime serves them, and what it says passes through here byte for
//! byte, whichever protocol the client and the runtime agree on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;

use super::Site;
use super::logs::too_many;
use super::pods::{Found, containers};
use super::reply::{self, Refusal, Reply};
use super::route::{Query, Target};
use crate::cri::{Trouble, words as w};
use crate::pods::Shown;

/// How much of a stream is under way in each direction, in bytes.
const PART: usize = 64 * 1024;

/// How long a command without streams may take.
const RUN: Duration = Duration::from_secs(600);

/// How long the runtime may take to begin a stream.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Streams {
    pub(super) fn read(query: &Query) -> Result<Self, Refusal> {
        let has = |key: &str| query.first(key) == Some("1");
        let (stdin, stdout, tty) = (has("input"), has("output"), has("tty"));
        // A terminal has one output.
        let stderr = has("error") && !tty;
        if !stdin && !stdout && !stderr {
            let text = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
        }
        Ok(Self { stdin, stdout, stderr, tty })
    }
}

/// Answers as kubelet answers to what the runtime says.
fn refused(trouble: &Trouble) -> Refusal {
    let status = if trouble.is_not_found() {
        StatusCode::NOT_FOUND
    } else if trouble.is_exhausted() {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    Refusal::new(status, trouble.to_string())
}

/// Finds a container that runs.
async fn running(site: &Arc<Site>, target: &Target) -> Result<(Shown, Found), Refusal> {
    let shown = site.pod(&target.namespace, &target.pod, "pod does not exist").await?;
    let uid = &shown.pod.metadata.uid;
    let mut found = Vec::new();
    if target.uid.is_empty() || target.uid == *uid {
        found = containers(site, uid).await?;
    }
    found.retain(|it| it.name == target.container && it.state == w::ContainerState::Running);
    let none = || Refusal::broken(format!("container not found ({:?})", target.container));
    Ok((shown, found.into_iter().next().ok_or_else(none)?))
}

/// Runs a command with streams.
pub(crate) async fn exec(
    site: &Arc<Site>,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Reply {
    let Streams { stdin, stdout, stderr, tty } = Streams::read(query)?;
    let (_, container) = running(site, target).await?;
    let cmd = query.all("command");
    let container_id = container.id;
    let asked = w::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
    let answer = site.runtime.exec_url(asked).await.map_err(|trouble| refused(&trouble))?;
    pass(site, request, &answer.url).await
}

/// Joins the streams of a container's own command.
pub(crate) async fn attach(
    site: &Arc<Site>,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Reply {
    let Streams { stdin, stdout, stderr, .. } = Streams::read(query)?;
    let (shown, container) = running(site, target).await?;
    // It has a terminal or not from its beginning.
    let tty = shown.pod.spec.container(&target.container).is_some_and(|it| it.tty);
    let container_id = container.id;
    let stderr = stderr && !tty;
    let asked = w::AttachRequest { container_id, stdin, tty, stdout, stderr };
    let answer = site.runtime.attach_url(asked).await.map_err(|trouble| refused(&trouble))?;
    pass(site, request, &answer.url).await
}

/// Joins ports of a pod.
pub(crate) async fn port_forward(
    site: &Arc<Site>,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Reply {
    let upgrade = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    let over_websocket = upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let port = if over_websocket { ports(query)? } else { Vec::new() };
    let shown = site.pod(&target.namespace, &target.pod, "pod does not exist").await?;
    let uid = &shown.pod.metadata.uid;
    if !target.uid.is_empty() && target.uid != *uid {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "pod not found"));
    }
    let labels = crate::pod::names::selector(uid);
    let (sandboxes, _) = site.runtime.list(labels).await.map_err(|it| refused(&it))?;
    let ready = sandboxes.into_iter().find(|it| it.state() == w::PodSandboxState::Ready);
    let none = || Refusal::broken(format!("failed to find sandbox for pod {:?}", target.pod));
    let pod_sandbox_id = ready.ok_or_else(none)?.id;
    let asked = w::PortForwardRequest { pod_sandbox_id, port };
    let answer = site.runtime.port_forward_url(asked).await.map_err(|it| refused(&it))?;
    pass(site, request, &answer.url).await
}

/// Reads the ports that a WebSocket asks for; others ask later, in the stream.
pub(super) fn ports(query: &Query) -> Result<Vec<i32>, Refusal> {
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let all = query.all("port");
    if all.is_empty() {
        return Err(bad("query parameter \"port\" is required".to_owned()));
    }
    let read = |text: &str| {
        let wrong = || bad(format!("unable to parse {text:?} as a port"));
        let port = text.parse::<u16>().map_err(|_| wrong())?;
        if port == 0 { Err(bad("port \"0\" must be > 0".to_owned())) } else { Ok(i32::from(port)) }
    };
    all.iter().flat_map(|list| list.split(',')).map(read).collect()
}

/// Runs a command without streams and answers with what it said.
pub(crate) async fn run(site: &Arc<Site>, target: &Target, query: &Query) -> Reply {
    let (_, container) = running(site, target).await?;
    let command = query.first("cmd").unwrap_or_default();
    let command = command.split(' ').map(ToOwned::to_owned).collect();
    let ran = site.runtime.exec(&container.id, command, Some(RUN)).await;
    let ran = ran.map_err(|trouble| Refusal::broken(trouble.to_string()))?;
    let mut said = ran.stdout;
    said.extend(ran.stderr);
    if ran.exit_code != 0 {
        let said = String::from_utf8_lossy(&said);
        let text = format!("command terminated with exit code {}: {said}", ran.exit_code);
        return Err(Refusal::broken(text));
    }
    let mut answer = reply::json(&Value::Null);
    *answer.body_mut() = reply::full(said);
    Ok(answer)
}

/// Hands a request on to the runtime's own server, and joins the two when that agrees.
async fn pass(site: &Arc<Site>, mut request: Request<Incoming>, url: &str) -> Reply {
    if !request.headers().contains_key(UPGRADE) {
        return Err(Refusal::broken("Upgrade request required"));
    }
    let permit = Arc::clone(&site.streams).try_acquire_owned().map_err(|_| too_many())?;
    let begun = tokio::time::timeout(PATIENCE, begin(&request, url)).await;
    let late = || Refusal::broken("error dialing backend: it takes too long");
    let failed = |error: anyhow::Error| Refusal::broken(format!("error dialing backend: {error}"));
    let mut answer = begun.map_err(|_| late())?.map_err(failed)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer.map(http_body_util::BodyExt::boxed_unsync));
    }
    let mut joined = Response::new(reply::full(Bytes::new()));
    *joined.status_mut() = answer.status();
    *joined.headers_mut() = answer.headers().clone();
    let (client, runtime) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut answer));
    tokio::spawn(async move {
        if let Ok((client, runtime)) = tokio::try_join!(client, runtime) {
            let (mut client, mut runtime) = (TokioIo::new(client), TokioIo::new(runtime));
            // However it ends, it ends for both.
            drop(copy_bidirectional_with_sizes(&mut client, &mut runtime, PART, PART).await);
        }
        drop(permit);
    });
    Ok(joined)
}

/// Asks the runtime's server for what the client asked for.
async fn begin(request: &Request<Incoming>, url: &str) -> anyhow::Result<Response<Incoming>> {
    let url = url.parse::<Uri>()?;
    let host = url.authority().map(ToString::to_string).unwrap_or_default();
    let stream = TcpStream::connect(&host).await?;
    stream.set_nodelay(true)?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let (mut sender, connection) = handshake;
    tokio::spawn(connection.with_upgrades());
    let mut asked = Request::new(Empty::<Bytes>::new());
    *asked.method_mut() = request.method().clone();
    *asked.headers_mut() = request.headers().clone();
    asked.headers_mut().insert(HOST, HeaderValue::try_from(host)?);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    *asked.uri_mut() = path.parse()?;
    Ok(sender.send_request(asked.map(|body| body.boxed())).await?)
}
