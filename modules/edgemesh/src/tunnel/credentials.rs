//! Who is who: each end of a connection shows its node's certificate, which has to be of the cluster's
//! authority, and is the node that this names.
//!
//! Nodes' certificates are for clients and have no host names in them, so both ends check the other as
//! a server checks a client.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use module_runtime::tls::{Files, certificates};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::rustls::client::Resumption;
use quinn::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use quinn::rustls::crypto::ring::default_provider;
use quinn::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use quinn::rustls::server::WebPkiClientVerifier;
use quinn::rustls::server::danger::ClientCertVerifier;
use quinn::rustls::version::TLS13;
use quinn::rustls::{self, DigitallySignedStruct, RootCertStore, SignatureScheme};
use quinn::{
    ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, EndpointConfig, ServerConfig,
    TransportConfig, VarInt,
};
use ring::hmac;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What both ends say they speak.
const ALPN: &[u8] = b"edgecore-mesh/1";

/// The packets of a connection through a relay, and of one to a relay, which have room for such a one:
/// over IPv4 they take 1,280 bytes on the way.
const INNER_MTU: u16 = 1200;
const OUTER_MTU: u16 = 1252;

/// How many streams a peer may have open in a connection.
const STREAMS: u32 = 256;

/// How many bytes of a stream, and of a whole connection, are taken that nobody has read yet.
const STREAM_WINDOW: u32 = 512 * 1024;
const WINDOW: u32 = 2 * 1024 * 1024;

/// How many bytes of packets wait on their way into a connection; then the oldest are lost.
const PACKETS: usize = 128 * 1024;

/// How many connections wait to be accepted, and the bytes that come meanwhile, of one and of all.
const WAITING: usize = 64;
const WAITING_BYTES: (u64, u64) = (16 * 1024, 256 * 1024);

/// The time that a packet is thought to take there and back before that is known.
const FIRST_GUESS: Duration = Duration::from_millis(100);

/// What a certificate's subject begins with: KubeEdge's form.
const COMMON_NAME: &str = "system:node:";
const ORGANIZATION: &str = "system:nodes";

/// The longest name of a node, in bytes.
const MOST_OF_NAME: usize = 253;

/// How the two kinds of connections are made: over a real socket, or through a relay.
#[derive(Clone, Debug)]
pub(super) struct Sides {
    pub(super) client: ClientConfig,
    pub(super) server: ServerConfig,
}

/// This node's, ready to be used.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) outer: Sides,
    pub(super) inner: Sides,
    /// The same in each life of this process, so that peers learn at once that an earlier one ended.
    reset_key: Arc<hmac::Key>,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be used, or the certificate is another node's.
    pub(super) fn load(files: &Files, node: &str, keep_alive: Duration) -> Result<Self> {
        let identity = files.identity.as_ref().context("no certificate is configured")?;
        let (chain, key) = identity.load()?;
        let file = || identity.certificate.display();
        let own =
            chain.first().and_then(node_of).with_context(|| format!("{} is no node's", file()))?;
        ensure!(own == node, "{} is of node '{own}', expected '{node}'", file());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&files.ca)? {
            roots.add(certificate).with_context(|| format!("{} is no CA", files.ca.display()))?;
        }
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = verifier.build().context("cannot check other nodes")?;
        let reset_key = Arc::new(reset_key(key.secret_der()));
        let mismatch = || format!("{} and its key do not go together", file());
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(chain.clone(), key.clone_key())
            .with_context(mismatch)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // certificates are checked at each connection
        server.send_tls13_tickets = 0;
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OtherNode(verifier)))
            .with_client_auth_cert(chain, key)
            .with_context(mismatch)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        let server = Arc::new(QuicServerConfig::try_from(server)?);
        let client = Arc::new(QuicClientConfig::try_from(client)?);
        let sides = |transport: TransportConfig| {
            let transport = Arc::new(transport);
            let mut server = ServerConfig::with_crypto(Arc::clone(&server) as Arc<_>);
            server.transport_config(Arc::clone(&transport)).max_incoming(WAITING);
            server
                .incoming_buffer_size(WAITING_BYTES.0)
                .incoming_buffer_size_total(WAITING_BYTES.1);
            let mut client = ClientConfig::new(Arc::clone(&client) as Arc<_>);
            client.transport_config(transport);
            Sides { client, server }
        };
        let mut inner = sides(inner(keep_alive)?);
        // a node's number is where it is
        inner.server.migration(false);
        Ok(Self { outer: sides(outer(keep_alive)?), inner, reset_key })
    }

    /// Returns how an endpoint is set up.
    pub(super) fn endpoint(&self) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::clone(&self.reset_key) as Arc<_>);
        config.cid_generator(|| Box::new(RandomIds));
        config
    }
}

/// Makes the key of the tokens by which a peer learns that this node has forgotten a connection.
fn reset_key(secret: &[u8]) -> hmac::Key {
    let of_key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let derived = hmac::sign(&of_key, b"edgecore mesh: stateless resets");
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

/// What both kinds of connections have in common.
fn transport(keep_alive: Duration) -> Result<TransportConfig> {
    let mut transport = TransportConfig::default();
    let idle = (keep_alive * 3).try_into().context("keepAlive is too long")?;
    transport.max_idle_timeout(Some(idle)).keep_alive_interval(Some(keep_alive));
    transport.max_concurrent_bidi_streams(STREAMS.into());
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    transport.stream_receive_window(STREAM_WINDOW.into()).receive_window(WINDOW.into());
    transport.send_window(WINDOW.into()).initial_rtt(FIRST_GUESS);
    Ok(transport)
}

fn outer(keep_alive: Duration) -> Result<TransportConfig> {
    let mut transport = transport(keep_alive)?;
    transport.initial_mtu(OUTER_MTU).min_mtu(OUTER_MTU);
    transport.datagram_receive_buffer_size(Some(PACKETS)).datagram_send_buffer_size(PACKETS);
    Ok(transport)
}

fn inner(keep_alive: Duration) -> Result<TransportConfig> {
    let mut transport = transport(keep_alive)?;
    transport.initial_mtu(INNER_MTU).min_mtu(INNER_MTU).mtu_discovery_config(None);
    transport.datagram_receive_buffer_size(None);
    Ok(transport)
}

/// Returns the node at the other end of a connection.
pub(super) fn node_at(connection: &Connection) -> Option<String> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    node_of(chain.first()?)
}

/// Returns the node that a certificate is of.
fn node_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let organization = subject.iter_organization().next()?.as_str().ok()?;
    let name = subject.iter_common_name().next()?.as_str().ok()?.strip_prefix(COMMON_NAME)?;
    let is_sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let is_name = (1..=MOST_OF_NAME).contains(&name.len()) && name.bytes().all(is_sane);
    (organization == ORGANIZATION && is_name).then(|| name.to_owned())
}

/// Random connection ids of eight bytes. quinn's own cannot be told from wrong ones by a later life
/// of this process, which would then not say that it has forgotten them.
#[derive(Debug)]
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&module_runtime::instance().0.to_ne_bytes())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Checks the certificate of the node that was dialled. Which node it is, the caller looks at.
#[derive(Debug)]
struct OtherNode(Arc<dyn ClientCertVerifier>);

impl ServerCertVerifier for OtherNode {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _any_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(certificate, intermediates, now);
        verified.map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
