//! Where applications of the node call, as long as the cloud has a rule for them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipc_proto::{Group, Module, Operation, Resource};
use module_runtime::{Peers, RequestError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::status::Note;
use crate::urls::Urls;
use crate::{tls, words};

/// Connections at a time.
const CONNECTIONS: usize = 64;

/// How long the head of a request may take, and its body.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before an address that is taken is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// What a connection needs.
#[derive(Clone)]
struct Desk {
    config: Arc<Config>,
    peers: Peers,
    urls: watch::Receiver<Urls>,
    notes: mpsc::Sender<Note>,
}

/// Takes calls whenever there is a rule, for ever.
pub(crate) async fn keep(
    config: Config,
    peers: Peers,
    urls: watch::Receiver<Urls>,
    notes: mpsc::Sender<Note>,
) {
    let mut desk = Desk { config: Arc::new(config), peers, urls, notes };
    loop {
        if desk.urls.wait_for(|urls| !urls.is_empty()).await.is_err() {
            return;
        }
        match desk.open().await {
            Ok(listener) => {
                desk.note(Note::Door(Ok(true))).await;
                tokio::select! {
                    () = desk.clone().take(listener) => {}
                    _ = desk.urls.wait_for(|urls| urls.is_empty()) => {}
                }
                desk.note(Note::Door(Ok(false))).await;
            }
            Err(why) => {
                desk.note(Note::Door(Err(why))).await;
                sleep(PAUSE).await;
            }
        }
    }
}

impl Desk {
    async fn note(&self, note: Note) {
        // The main loop ends with the process.
        let _ending = self.notes.send(note).await;
    }

    async fn open(&self) -> Result<TcpListener, String> {
        if let Some(files) = &self.config.tls {
            tls::acceptor(files).map_err(|error| format!("{error:#}"))?;
        }
        let (server, port) = (&*self.config.server, self.config.port);
        TcpListener::bind((server, port))
            .await
            .map_err(|error| format!("cannot listen on {server}:{port}: {error}"))
    }

    async fn take(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, or so.
                sleep(PAUSE).await;
                continue;
            };
            let desk = self.clone();
            tokio::spawn(async move {
                desk.secure(stream).await;
                drop(place);
            });
        }
    }

    async fn secure(self, stream: TcpStream) {
        let Some(files) = &self.config.tls else { return self.serve(stream).await };
        // Read for each connection, so that a renewed certificate counts at once.
        let acceptor = match tls::acceptor(files) {
            Ok(acceptor) => acceptor,
            Err(error) => return tracing::warn!("a call was not taken: {error:#}"),
        };
        if let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(stream)).await {
            self.serve(stream).await;
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| {
            let desk = self.clone();
            async move { Ok::<_, Infallible>(desk.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        // How a connection ends is the caller's affair.
        let _ended = connection.await;
    }

    /// The answer is always 200; what it came to stands in its body.
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (code, text) = match self.pass_on(request).await {
            Ok(body) => {
                let message = "receive response from cloud successfully";
                (200, words::answer(200, message, &body))
            }
            Err((code, why)) => (code, words::answer(code, &why, "")),
        };
        self.note(Note::FromNode(code == 200)).await;
        let mut response = Response::new(Full::new(text.into()));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<String, (u16, String)> {
        let body = Limited::new(request.into_body(), words::MAX_BODY).collect();
        let unreadable = || (400, "can't read data from body of the http's request".to_owned());
        let body = timeout(PATIENCE, body).await.map_err(|_| unreadable())?;
        let body = body.map_err(|_| unreadable())?.to_bytes();
        let asked = words::request(&body).ok_or_else(|| (400, "invalid params".to_owned()))?;
        if !self.urls.borrow().contains(asked.target.as_str()) {
            let shown: String = asked.target.chars().take(200).collect();
            let advice = "is not allowed and please make a rule for this url in the cloud";
            return Err((400, format!("url {shown} {advice}")));
        }
        let resource = Resource::Text(asked.target.into());
        let upload = words::upload(&body);
        let message = self.peers.message(Group::User, Operation::Upload, resource, upload);
        let answer = self.peers.request(Module::Edgehub, message, self.config.patience).await;
        match answer {
            Ok(answer) => Ok(words::body(&answer.take().content)),
            Err(RequestError::Failed { answer, .. }) => Err((500, words::body(&answer.content))),
            Err(error) => Err((400, error.to_string())),
        }
    }
}
