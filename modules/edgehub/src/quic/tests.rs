//! The transport against the other end, which this file plays.

use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint as Socket, ServerConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;
use crate::certs::Facts;
use crate::config::Files;

/// Makes a CA, and a pair for both ends.
fn identity() -> (Identity, ServerConfig) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
    let ca = ca.expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &ca).expect("a certificate").der().clone();
    let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut tls =
        tokio_rustls::rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key())
            .expect("a pair");
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tls = QuicServerConfig::try_from(tls).expect("TLS 1.3");
    let ca = CertificateDer::from(ca.der().to_vec());
    let facts = Facts::read(&certificate).expect("a certificate");
    (Identity { ca, certificate, key: key(), facts }, ServerConfig::with_crypto(Arc::new(tls)))
}

fn transport(port: u16) -> Quic {
    let hub = Endpoint { host: "127.0.0.1".into(), port };
    let second = Duration::from_secs(1);
    let config = Config {
        node: "edge1".into(),
        project: "p".into(),
        hub: hub.clone(),
        service: hub.clone(),
        heartbeat: second,
        handshake: second * 5,
        read_deadline: second,
        write_deadline: second,
        rate: (30, 60),
        files: Files { ca: "/ca".into(), certificate: "/c".into(), key: "/k".into() },
        token_file: None,
        token: None,
        rotate: true,
        quic: Some(hub.clone()),
    };
    Quic { hub, config }
}

/// Answers probes and sends every message back, until it gets one that says `end`.
async fn echo(socket: Socket) {
    let connection = socket.accept().await.expect("a caller").await.expect("a handshake");
    let (mut send, mut receive) = connection.accept_bi().await.expect("a stream");
    let activity = Activity::default();
    let (kind, hello) = read(&mut receive, &activity).await.expect("a hello");
    assert_eq!((kind, &hello[..]), (HELLO, &br#"{"node_id":"edge1","project_id":"p"}"#[..]));
    while let Ok((kind, body)) = read(&mut receive, &activity).await {
        match kind {
            PROBE => write(&mut send, ANSWER, &body, &activity).await.expect("written"),
            _ if *body == *b"end" => break,
            _ => write(&mut send, MESSAGE, &body, &activity).await.expect("written"),
        }
    }
    connection.close(0u32.into(), b"");
    socket.wait_idle().await;
}

#[tokio::test]
async fn messages_and_probes_go_both_ways_until_the_cloud_ends_it() {
    let (identity, server) = identity();
    let socket = Socket::server(server, ([127, 0, 0, 1], 0).into()).expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    tokio::spawn(echo(socket));
    let (mut link, carrier) = transport(port).dial(&identity).await.expect("a link");
    let large = vec![b'x'; 3 << 20];
    for body in [b"{}".to_vec(), large] {
        link.outgoing.send(Frame::Message(body.clone())).await.expect("a link");
        let came = link.incoming.recv().await;
        assert!(matches!(came, Some(Incoming::Message(it)) if *it == *body));
    }
    let id = module_runtime::message_id();
    link.outgoing.send(Frame::Probe(id.clone())).await.expect("a link");
    assert!(matches!(link.incoming.recv().await, Some(Incoming::Probed(it)) if it == id));
    assert!(link.activity.read() > 3 << 20);
    link.outgoing.send(Frame::Message(b"end".to_vec())).await.expect("a link");
    assert!(link.incoming.recv().await.is_none());
    assert!(matches!(carrier.await, Ok(Trouble::Closed)));
}
