//! The router's REST interface, and its calls of REST endpoints.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use ipc_proto::{Message, MessageId, Operation};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::core::Cloud;
use crate::core::router::{Call, Taken, post};
use crate::shared::Shared;

/// The largest body, in bytes.
const MAX_BODY: usize = 12 << 20;

/// How long a caller waits for a node.
const PATIENCE: Duration = Duration::from_secs(60);

/// A reply of a service on a node.
#[derive(Debug, Deserialize)]
struct Reply {
    #[serde(default)]
    header: BTreeMap<String, Vec<String>>,
    status_code: u16,
    #[serde(default)]
    body: String,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(stream: TcpStream, shared: Shared, turns: watch::Receiver<u64>) {
    let service = service_fn(|request| {
        let (shared, turns) = (shared.clone(), turns.clone());
        async move {
            let answer = answer(request, &shared, turns).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|error| {
                plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}").into_bytes())
            }))
        }
    });
    // How a connection ends is the client's affair.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

fn plain(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    turns: watch::Receiver<u64>,
) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("cannot read the body: {error}"))?;
    let mut headers = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.to_string()).or_default().push(value);
    }
    let call = Call {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        headers,
        body: body.to_bytes().into(),
    };
    match shared.act(move |cloud, now, out| cloud.call(now, &call, out)).await? {
        Taken::NoRule => Ok(plain(StatusCode::NOT_FOUND, b"Request error".to_vec())),
        Taken::NotConnected => anyhow::bail!("no session of the node"),
        Taken::Delivered => Ok(plain(StatusCode::OK, b"message delivered".to_vec())),
        Taken::Asked(id) => match timeout(PATIENCE, reply(shared, turns, id)).await {
            Ok(reply) => reply,
            Err(_) => {
                Ok(plain(StatusCode::REQUEST_TIMEOUT, b"wait to get response time out".to_vec()))
            }
        },
    }
}

/// Waits for a node's reply.
async fn reply(
    shared: &Shared,
    mut turns: watch::Receiver<u64>,
    id: MessageId,
) -> Result<Response<Full<Bytes>>> {
    let content = loop {
        turns.mark_unchanged();
        let wanted = id.clone();
        let found = move |cloud: &Cloud, _| {
            let mut all = cloud.received().since(0);
            let is_reply = |message: &Message| {
                message.header.parent.as_ref() == Some(&wanted)
                    && message.route.operation == Operation::Upload
            };
            all.find(|it| is_reply(&it.message)).map(|it| it.message.content.clone())
        };
        if let Some(content) = shared.look(found).await? {
            break content;
        }
        turns.changed().await.context("the cloud has ended")?;
    };
    let reply: Reply = content.decode().context("the reply of the node is no HTTPResponse")?;
    let body = data_encoding::BASE64.decode(reply.body.as_bytes())?;
    let mut response = plain(StatusCode::from_u16(reply.status_code)?, body);
    for (name, values) in reply.header {
        for value in values.iter().filter(|_| !name.eq_ignore_ascii_case("content-length")) {
            response
                .headers_mut()
                .append(hyper::header::HeaderName::from_bytes(name.as_bytes())?, value.parse()?);
        }
    }
    Ok(response)
}

/// Takes uploads to the REST endpoints of their rules, one after the other, for ever.
pub(crate) async fn forward(shared: Shared, mut turns: watch::Receiver<u64>) {
    let mut last = 0;
    loop {
        turns.mark_unchanged();
        let since = last;
        let found = move |cloud: &Cloud, _| {
            let uploads = cloud.received().since(since).filter(|it| {
                it.message.route.operation == Operation::Upload && !it.message.is_answer()
            });
            let posts: Vec<_> = uploads
                .filter_map(|it| Some((it.clone(), post(cloud.cluster(), &it.node, &it.message)?)))
                .collect();
            (cloud.received().since(since).last().map_or(since, |it| it.sequence), posts)
        };
        let Ok((seen, posts)) = shared.look(found).await else { return };
        last = seen;
        for (upload, post) in posts {
            let answer = send(&shared, &post.url, post.body).await;
            // An endpoint that fails is the endpoint's affair: CloudCore only logs it.
            if let Some(body) = answer.ok().filter(|_| post.answered) {
                let answer = move |cloud: &mut Cloud, now, out: &mut Vec<_>| {
                    cloud.answer_upload(now, &upload.node, &upload.message, &body, out);
                };
                shared.act(answer).await.ok();
            }
        }
        if turns.changed().await.is_err() {
            return;
        }
    }
}

/// Sends one body to a REST endpoint, by HTTP or HTTPS; returns what it answers.
async fn send(shared: &Shared, url: &str, body: Vec<u8>) -> Result<String> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().context("no host")?;
    let stream = TcpStream::connect(authority.as_str()).await?;
    if uri.scheme_str() == Some("https") {
        let connector = TlsConnector::from(shared.authority.client()?);
        let name = ServerName::try_from(authority.host().to_owned())?;
        exchange(connector.connect(name, stream).await?, &uri, body).await
    } else {
        exchange(stream, &uri, body).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    uri: &Uri,
    body: Vec<u8>,
) -> Result<String> {
    let host = uri.authority().context("no host")?.as_str();
    let (mut sender, connection) = Builder::new().handshake(TokioIo::new(stream)).await?;
    let request =
        Request::post(uri.path()).header("host", host).body(Full::new(Bytes::from(body)))?;
    let work = async {
        let response = sender.send_request(request).await?;
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        anyhow::Ok(String::from_utf8_lossy(&body).into_owned())
    };
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => done,
        _ = connection => work.await,
    }
}
