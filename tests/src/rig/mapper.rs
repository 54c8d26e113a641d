//! A mapper of the test's own: serves the edge on a socket and calls the edge, over real gRPC.

mod words;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::SOON;

/// How long it may take until the edge asks for a device: twice its pause between two questions.
const NOW_AND_THEN: Duration = Duration::from_secs(60);

/// How the mapper answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It does what it is asked.
    Good,
    /// It does not answer.
    Hung,
    /// It answers that it will not, with this code of gRPC's.
    Refusing(u16),
}

/// A call of the edge: the method and what it says.
pub type Call = (String, Value);

/// A refusal of the edge: gRPC's code and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// gRPC's number of the code.
    pub code: u16,
    /// The reason, for people.
    pub reason: String,
}

/// A mapper; it ends when dropped, and its socket stays as those of killed processes do.
#[derive(Debug)]
pub struct Mapper {
    socket: PathBuf,
    edge: PathBuf,
    calls: Receiver<Call>,
    manner: watch::Sender<Manner>,
    runtime: Handle,
    _ends_with_this: oneshot::Sender<()>,
}

impl Mapper {
    /// Starts a mapper that listens on `socket`; the edge listens on `edge`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(socket: &Path, edge: &Path) -> Result<Self> {
        if socket.exists() {
            std::fs::remove_file(socket)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let listener = {
            let _inside = handle.enter();
            UnixListener::bind(socket)?
        };
        // The edge is another user.
        std::fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let (manner, seen) = watch::channel(Manner::Good);
        let (sender, calls) = sync_channel(4096);
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new().name("mapper".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = serve(listener, sender, seen) => {}
                    _ = stopped => {}
                }
            });
        })?;
        let (socket, edge) = (socket.to_owned(), edge.to_owned());
        Ok(Self { socket, edge, calls, manner, runtime: handle, _ends_with_this: stop })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Changes how it answers.
    pub fn behave(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// Calls the edge.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub fn ask(&self, method: &str, request: &Value) -> Result<Result<Value, Refusal>> {
        self.runtime.block_on(async {
            let mut edge = Edge::dial(&self.edge).await?;
            edge.ask(method, request).await
        })
    }

    /// Calls the edge until it answers that it is done: it may be starting.
    ///
    /// # Errors
    /// When it never does.
    pub fn insist(&self, method: &str, request: &Value) -> Result<Value> {
        let mut last = None;
        let done = super::wait_for("the edge takes a call", SOON, || {
            let answer = self.ask(method, request);
            let done = answer.as_ref().ok().and_then(|answer| answer.clone().ok());
            last = Some(answer);
            done
        });
        done.with_context(|| format!("{method}: {last:?}"))
    }

    /// Says to the edge that it is there.
    ///
    /// # Errors
    /// When the edge does not take it.
    pub fn register(&self, name: &str, protocol: &str, with_data: bool) -> Result<Value> {
        let address = data_encoding::BASE64.encode(self.socket.as_os_str().as_encoded_bytes());
        let mapper = json!({"name": name, "version": "v1", "apiVersion": "v1beta1",
            "protocol": protocol, "address": address, "state": "ok"});
        self.insist("MapperRegister", &json!({"withData": with_data, "mapper": mapper}))
    }

    /// Makes calls on one connection, `width` of them at a time, and returns how long each took.
    ///
    /// # Errors
    /// When one of them is refused.
    pub fn burst(&self, method: &str, requests: Vec<Value>, width: usize) -> Result<Vec<Duration>> {
        let call = |mut edge: Edge, request: Value| async move {
            let begin = Instant::now();
            let answer = edge.ask(method, &request).await?;
            answer.map_err(|refusal| anyhow!("{method} is refused: {refusal:?}"))?;
            Ok(begin.elapsed())
        };
        self.runtime.block_on(async {
            let edge = Edge::dial(&self.edge).await?;
            let calls = requests.into_iter().map(|request| call(edge.clone(), request));
            futures_util::stream::iter(calls).buffered(width).try_collect().await
        })
    }

    /// Waits for the edge's next call.
    ///
    /// # Errors
    /// When none comes soon.
    pub fn next(&self) -> Result<Call> {
        self.calls.recv_timeout(SOON).context("the edge did not call")
    }

    /// Waits for the edge's next call of a method, passing over others.
    ///
    /// # Errors
    /// When none comes soon.
    pub fn wait_call(&self, method: &str) -> Result<Value> {
        loop {
            let (called, request) = self.next().with_context(|| format!("until {method}"))?;
            if called == method {
                return Ok(request);
            }
        }
    }

    /// Waits until the edge asks for a device, which it does now and then, passing over other calls.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_question(&self) -> Result<Value> {
        loop {
            let call = self.calls.recv_timeout(NOW_AND_THEN);
            let (called, request) = call.context("the edge did not ask for a device")?;
            if called == "GetDevice" {
                return Ok(request);
            }
        }
    }

    /// Returns a call that has come already.
    #[must_use]
    pub fn look(&self) -> Option<Call> {
        self.calls.try_recv().ok()
    }
}

/// Keeps on calling the edge on as many connections as this, for ever. For a process of its own: the
/// edge tells mappers apart by their processes.
///
/// # Errors
/// When the system has no room for it.
pub fn flood(edge: &Path, connections: usize, method: &str, request: &Value) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let call = || async {
        loop {
            if let Ok(mut edge) = Edge::dial(edge).await {
                while edge.ask(method, request).await.is_ok() {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let calls: Vec<_> = (0..connections).map(|_| call()).collect();
    runtime.block_on(futures_util::future::join_all(calls).map(drop));
    Ok(())
}

async fn serve(listener: UnixListener, calls: SyncSender<Call>, manner: watch::Receiver<Manner>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (calls, manner) = (calls.clone(), manner.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, calls.clone(), *manner.borrow()));
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // The edge hangs up after each call.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

type Answer = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    calls: SyncSender<Call>,
    manner: Manner,
) -> Result<Response<Answer>> {
    let path = request.uri().path().to_owned();
    let method = path.strip_prefix("/v1beta1.DeviceMapperService/").context("another service")?;
    let body = request.into_body().collect().await?.to_bytes();
    let said = words::decode(&format!("{method}Request"), message(&body)?)?;
    let reply = match method {
        "RegisterDevice" => {
            json!({"deviceName": said["device"]["name"], "deviceNamespace": said["device"]["namespace"]})
        }
        "CreateDeviceModel" => {
            json!({"deviceModelName": said["model"]["name"], "deviceModelNamespace": said["model"]["namespace"]})
        }
        _ => json!({}),
    };
    calls.try_send((method.to_owned(), said))?;
    let (status, data) = match manner {
        Manner::Good => (0, framed(&words::encode(&format!("{method}Response"), &reply)?)),
        Manner::Hung => std::future::pending().await,
        Manner::Refusing(code) => (code, Bytes::new()),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    let body = Full::new(data).with_trailers(async move { Some(Ok(trailers)) });
    Ok(Response::builder().header("content-type", "application/grpc").body(body.boxed())?)
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put(message);
    frame.freeze()
}

fn message(body: &[u8]) -> Result<&[u8]> {
    body.get(5..).context("a message of gRPC has a head of five bytes")
}

/// A connection to the edge.
#[derive(Clone)]
struct Edge(hyper::client::conn::http2::SendRequest<Full<Bytes>>);

impl Edge {
    async fn dial(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let io = TokioIo::new(stream);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    async fn ask(&mut self, method: &str, request: &Value) -> Result<Result<Value, Refusal>> {
        let body = framed(&words::encode(&format!("{method}Request"), request)?);
        let request = Request::post(format!("http://edge/v1beta1.DeviceManagerService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body))?;
        self.0.ready().await?;
        let answer = tokio::time::timeout(SOON, self.0.send_request(request)).await;
        let answer = answer.map_err(|_| anyhow!("{method} is not answered"))??;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let word = |name| {
            let value = trailers.get(name).or_else(|| head.headers.get(name));
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let code = word("grpc-status").parse().context("the answer has no status")?;
        if code != 0 {
            let reason = word("grpc-message").replace("%20", " ");
            return Ok(Err(Refusal { code, reason }));
        }
        let bytes = body.to_bytes();
        Ok(Ok(words::decode(&format!("{method}Response"), message(&bytes)?)?))
    }
}
