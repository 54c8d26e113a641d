//! A scripted edge node: bootstraps, connects, says what a test tells it to say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use ipc_proto::{Content, Group, Message, MessageId, Operation, Resource, Route, Source, json};
use minicloud::Minicloud;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Message as Frames;

/// Nothing in these tests takes longer, unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) node: String,
    pub(crate) certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// A connected node.
pub(crate) struct Edge {
    pub(crate) node: String,
    socket: Socket,
    sent: u64,
}

fn tls(cloud: &Minicloud, identity: Option<&Identity>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(cloud.ca().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.clone()));
            builder.with_client_auth_cert(vec![identity.certificate.clone()], key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

async fn dial(
    address: std::net::SocketAddr,
    tls: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    tls.connect(ServerName::from(address.ip()), stream).await
}

/// Asks the HTTPS server; returns status and body.
pub(crate) async fn get(
    cloud: &Minicloud,
    identity: Option<&Identity>,
    path: &str,
    headers: &str,
    body: &[u8],
) -> (u16, Vec<u8>) {
    let mut stream = dial(cloud.https(), &tls(cloud, identity)).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: cloud\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

/// Makes a key and a certificate request as KubeEdge makes them.
pub(crate) fn request(node: &str) -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "CN");
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    (key, request)
}

/// Applies for a certificate with the cloud's token.
pub(crate) async fn bootstrap(cloud: &Minicloud, node: &str) -> Identity {
    let token = cloud.token();
    let (_, jwt) = token.split_once('.').unwrap();
    let headers = format!("Authorization: Bearer {jwt}\r\nNodeName: {node}\r\n");
    let (key, request) = request(node);
    let (status, der) = get(cloud, None, "/edge.crt", &headers, &request).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&der));
    Identity { node: node.to_owned(), certificate: der.into(), key: key.serialize_der() }
}

impl Identity {
    /// Takes up a certificate with its key.
    pub(crate) fn new(node: &str, certificate: Vec<u8>, key: &KeyPair) -> Self {
        let (certificate, key) = (certificate.into(), key.serialize_der());
        Self { node: node.to_owned(), certificate, key }
    }
}

impl Edge {
    /// Bootstraps and connects.
    pub(crate) async fn join(cloud: &Minicloud, node: &str) -> Self {
        let identity = bootstrap(cloud, node).await;
        Self::connect(cloud, &identity).await.expect("the hub takes the connection")
    }

    /// Connects and sends the first keepalive.
    pub(crate) async fn connect(cloud: &Minicloud, identity: &Identity) -> Option<Self> {
        Self::connect_as(cloud, identity, &identity.node).await
    }

    /// Connects under a name that may not be the certificate's.
    pub(crate) async fn connect_as(
        cloud: &Minicloud,
        identity: &Identity,
        node: &str,
    ) -> Option<Self> {
        let stream = dial(cloud.hub(), &tls(cloud, Some(identity))).await.ok()?;
        let url = format!("wss://{}/project/{node}/events", cloud.hub());
        let mut request = url.into_client_request().unwrap();
        for (name, value) in
            [("node_id", node), ("project_id", "project"), ("connectionuse", "msg")]
        {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.ok()?;
        let mut edge = Self { node: node.to_owned(), socket, sent: 0 };
        edge.say("websocket", "resource", "keepalive", "node", &Value::from("ping")).await;
        Some(edge)
    }

    async fn write(&mut self, message: &Message) {
        let text = String::from_utf8(json::encode(message).unwrap()).unwrap();
        self.socket.send(Frames::text(format!("{text}\n"))).await.unwrap();
    }

    /// Sends a message; returns its id.
    pub(crate) async fn say(
        &mut self,
        source: &str,
        group: &str,
        operation: &str,
        resource: &str,
        content: &Value,
    ) -> MessageId {
        self.sent += 1;
        let id = MessageId::parse(&format!("{}-{}", self.node, self.sent));
        let group = Group::parse(group);
        let route = Route {
            source: Source::parse(source),
            operation: Operation::parse(operation),
            resource: Resource::parse(&group, resource),
            group,
        };
        let message = Message::new(id.clone(), 0, route, Content::encode(content).unwrap());
        self.write(&message).await;
        id
    }

    /// Asks as edged does, acknowledging what comes in between, and returns the answer's content.
    pub(crate) async fn ask(&mut self, operation: &str, resource: &str, content: &Value) -> Value {
        let id = self.say("edged", "meta", operation, resource, content).await;
        loop {
            let message = self.next().await.expect("the session stands");
            self.ack(&message).await;
            if message.header.parent.as_ref() == Some(&id) {
                return message.content.decode().unwrap();
            }
        }
    }

    /// Returns the next frame as text; `None` when the connection is closed.
    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        let frames = timeout(PATIENCE, self.socket.next()).await.expect("a frame in time");
        match frames?.ok()? {
            Frames::Text(text) => Some(text.into()),
            Frames::Close(_) => None,
            Frames::Binary(_) | Frames::Ping(_) | Frames::Pong(_) | Frames::Frame(_) => {
                unreachable!("the cloud writes text frames alone")
            }
        }
    }

    /// Returns the next message; `None` when the connection is closed.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let frame = self.frame().await?;
        assert_eq!(frame.last(), Some(&b'\n'));
        Some(json::decode(&frame).unwrap())
    }

    /// Acknowledges a message.
    pub(crate) async fn ack(&mut self, message: &Message) {
        let mut ack = message.response(MessageId::parse("ack"), 0, Content::text("OK"));
        ack.header.resource_version = Box::default();
        self.write(&ack).await;
    }

    /// Waits for a message about `resource` with `operation`, acknowledging everything.
    pub(crate) async fn expect(&mut self, operation: &str, resource: &str) -> (Message, Value) {
        loop {
            let message = self.next().await.expect("the session stands");
            self.ack(&message).await;
            let route = &message.route;
            if route.operation.as_str() == operation && route.resource.to_string() == resource {
                let content = message.content.decode().unwrap();
                return (message, content);
            }
        }
    }

    /// Registers the node, says that it is ready, and makes its lease.
    pub(crate) async fn register(&mut self) {
        let node = self.node.clone();
        let labels =
            serde_json::json!({"node-role.kubernetes.io/edge": "", "kubernetes.io/os": "linux"});
        let body = serde_json::json!({"metadata": {"name": node, "labels": labels}, "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        let answer = self.ask("insert", &format!("null/node/{node}"), &body).await;
        assert_eq!(answer["Err"], Value::Null, "{answer}");
        let patch = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
        let resource = format!("null/nodepatch/{node}");
        let answer = self.ask("patch", &resource, &Value::from(patch)).await;
        assert_eq!(answer["Object"]["status"]["conditions"][0]["status"], "True", "{answer}");
        let lease = serde_json::json!({"metadata": {"name": node, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": node, "leaseDurationSeconds": 40,
                "renewTime": "2026-11-23T04:22:30.321279Z"}});
        let answer = self.ask("insert", &format!("kube-node-lease/lease/{node}"), &lease).await;
        assert_eq!(answer["Err"], Value::Null, "{answer}");
    }

    /// Closes without a word.
    pub(crate) fn hang_up(self) {
        drop(self);
    }
}
