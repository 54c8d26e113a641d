//! Certificates as they are found, and a certificate service that says whatever it likes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::*;
use crate::config::Files;
use module_runtime::net::Endpoint;

/// A time at which the tests' certificates hold: in 2026.
const NOW: i64 = 1_790_000_000;

struct Bench {
    folder: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
    config: Config,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "KubeEdge");
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let place = |name: &str| folder.path().join(name);
        let nowhere = Endpoint { host: "127.0.0.1".into(), port: 1 };
        let second = Duration::from_secs(1);
        let config = Config {
            node: "edge1".into(),
            project: "p".into(),
            hub: nowhere.clone(),
            service: nowhere,
            heartbeat: second,
            handshake: second,
            read_deadline: second,
            write_deadline: second,
            rate: (30, 60),
            files: Files {
                ca: place("ca/rootCA.crt"),
                certificate: place("certs/server.crt"),
                key: place("certs/server.key"),
            },
            token_file: Some(place("token")),
            token: None,
            rotate: true,
            quic: None,
        };
        Self { folder, ca, config }
    }

    /// Issues a certificate to a node, expiring on the first of January of `year`.
    fn issue(&self, node: &str, year: i32) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, inspect::common_name(node));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        (params.signed_by(&key, &self.ca).expect("a certificate").der().to_vec(), key)
    }

    /// Writes the three files as the agent does.
    fn found(&self, node: &str, year: i32) {
        let (certificate, key) = self.issue(node, year);
        files::save_ca(&self.config.files, self.ca.der()).expect("room");
        files::save_pair(&self.config.files, &certificate, key.serialized_der()).expect("room");
    }

    fn ensure(&self) -> Result<Identity, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(ensure(&self.config, NOW))
    }

    fn token(&mut self) {
        let hash = ring::digest::digest(&ring::digest::SHA256, self.ca.der());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.config.token = Some(format!("{hash}.a.b.c"));
    }

    /// Serves `replies`, one a connection, and returns what a first application comes to.
    fn apply(&mut self, replies: Vec<Vec<u8>>) -> Result<Identity, Trouble> {
        self.token();
        let (certificate, key) = self.issue("cloud", 2100);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key.into())
            .expect("a pair");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            self.config.service.port = listener.local_addr().expect("an address").port();
            tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), replies));
            ensure(&self.config, NOW).await
        })
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, replies: Vec<Vec<u8>>) {
    for reply in replies {
        let Ok((stream, _)) = listener.accept().await else { return };
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let mut request = [0; 8192];
        drop(stream.read(&mut request).await);
        drop(stream.write_all(&reply).await);
        drop(stream.shutdown().await);
    }
}

fn reply(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn reason(result: Result<Identity, Trouble>) -> String {
    result.expect_err("trouble").sentence()
}

fn replace(file: &Path, text: impl AsRef<[u8]>) {
    fs::write(file, text).expect("room");
}

#[test]
fn a_pair_that_is_there_is_taken_as_it_is() {
    let bench = Bench::new();
    bench.found("edge1", 2030);
    let identity = bench.ensure().expect("a good pair");
    assert_eq!(identity.facts.expires(), "2030-01-01T00:00:00Z");
    let mode = |file: &Path| fs::metadata(file).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&bench.config.files.key), 0o600);
    assert_eq!(mode(&bench.folder.path().join("certs")), 0o700);
}

#[test]
fn a_key_in_pkcs8_is_taken_too() {
    let bench = Bench::new();
    let (certificate, key) = bench.issue("edge1", 2030);
    files::save_ca(&bench.config.files, bench.ca.der()).expect("room");
    files::save_pair(&bench.config.files, &certificate, key.serialized_der()).expect("room");
    replace(&bench.config.files.key, key.serialize_pem());
    bench.ensure().expect("a good pair");
}

#[test]
fn a_blank_node_without_a_token_is_told_where_to_put_one() {
    let bench = Bench::new();
    let reason = reason(bench.ensure());
    assert!(reason.contains("keadm gettoken"), "{reason}");
    assert!(reason.contains(&bench.folder.path().join("token").display().to_string()), "{reason}");
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let bench = Bench::new();
    bench.found("edge2", 2030);
    assert!(reason(bench.ensure()).contains("is of 'system:node:edge2'"));
    bench.found("edge1", 2030);
    let files = &bench.config.files;
    let (_, stranger) = bench.issue("edge1", 2030);
    replace(&files.key, stranger.serialize_pem());
    assert!(reason(bench.ensure()).contains("do not belong together"));
    for file in [&files.ca, &files.certificate, &files.key] {
        bench.found("edge1", 2030);
        for rubbish in [&b""[..], b"rubbish", &[0xff; 100], &vec![b'x'; 2 << 20]] {
            replace(file, rubbish);
            let reason = reason(bench.ensure());
            assert!(reason.contains(&file.display().to_string()), "{reason}");
        }
    }
    bench.found("edge1", 2030);
    replace(&files.ca, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(reason(bench.ensure()).contains("no usable certificate of a CA"));
}

#[test]
fn an_expired_pair_is_replaced_by_the_token_and_else_left_to_the_cloud() {
    let mut bench = Bench::new();
    bench.found("edge1", 2021);
    assert!(bench.ensure().expect("the cloud's clock decides").facts.is_expired(NOW));
    bench.token();
    assert!(reason(bench.ensure()).starts_with("nothing listens at"), "the cloud is asked");
}

#[test]
fn keadms_file_comes_before_the_configuration() {
    let mut bench = Bench::new();
    bench.token();
    replace(&bench.folder.path().join("token"), "  rubbish \n");
    assert!(reason(bench.ensure()).contains("it has no '.'"));
    replace(&bench.folder.path().join("token"), vec![b'a'; 20_000]);
    assert!(reason(bench.ensure()).contains("over 16 KiB"));
}

#[test]
fn tokens_are_told_from_rubbish() {
    let hash = "0".repeat(64);
    assert!(Token::parse(&format!("{hash}.a-_.b.c=")).is_ok());
    for rubbish in [
        String::new(),
        "a".into(),
        "....".into(),
        format!("{hash}.a.b"),
        format!("{hash}.a.b.c.d"),
        format!("{hash}.a.b.c\r\nX: y"),
        format!("{}.a.b.c", "0".repeat(63)),
        format!("{}.a.b.c", "g".repeat(64)),
        format!("{}.a.b.c", "é".repeat(32)),
    ] {
        assert!(Token::parse(&rubbish).is_err(), "{rubbish:?}");
    }
}

#[test]
fn a_service_that_says_anything_else_is_believed_nothing() {
    let ca = |bench: &Bench| reply("200 OK", bench.ca.der());
    let mut cases: Vec<(Vec<Vec<u8>>, &str)> = vec![
        (vec![reply("404 Not Found", b"none")], "answered 404 to the request for its CA"),
        (vec![reply("200 OK", b"rubbish")], "has a CA of another hash"),
        (vec![reply("200 OK", &vec![0; 2 << 20])], "no usable HTTP reply"),
        (vec![b"rubbish\r\n\r\n".to_vec()], "no usable HTTP reply"),
        (vec![vec![b'x'; 1 << 20]], "no usable HTTP reply"),
        (vec![b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nshort".to_vec()], "HTTP reply"),
        (vec![Vec::new()], "no usable HTTP reply"),
    ];
    let after_ca: [(Vec<u8>, &str); 4] = [
        (reply("401 Unauthorized", b"Invalid\n authorization token"), "refuses the token (Invalid"),
        (reply("500 Internal Server Error", b""), "answered 500 to the request for a certificate"),
        (reply("200 OK", b"rubbish"), "it is no certificate"),
        (reply("200 OK", &Bench::new().issue("edge1", 2030).0), "it is of another key"),
    ];
    for (second, wanted) in after_ca {
        cases.push((vec![Vec::new(), second], wanted));
    }
    for (mut replies, wanted) in cases {
        let mut bench = Bench::new();
        if replies.len() == 2 {
            replies[0] = ca(&bench);
        }
        let reason = reason(bench.apply(replies));
        assert!(reason.contains(wanted), "'{wanted}' is not in '{reason}'");
        assert!(!bench.config.files.certificate.exists(), "nothing is written: {wanted}");
    }
}

#[test]
fn a_clock_in_1970_still_trusts_a_cloud_that_the_node_knows() {
    use tokio_rustls::rustls::time_provider::TimeProvider;

    let issued = 4_000_000_000;
    let now = tls::NotBefore(issued).current_time().expect("a time");
    assert_eq!(now.as_secs(), issued);
    assert!(tls::NotBefore(0).current_time().expect("a time").as_secs() > 1_700_000_000);
}
