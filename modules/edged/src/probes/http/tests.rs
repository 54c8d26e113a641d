//! Tests of HTTP against servers of their own.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

/// Answers each connection with the next of the answers, and returns what it was asked.
async fn server(
    answers: &[&str],
    tls: Option<TlsAcceptor>,
) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers: Vec<String> = answers.iter().map(|it| (*it).to_owned()).collect();
    let (sender, asked) = mpsc::channel(32);
    tokio::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
            let said = match &tls {
                Some(tls) => talk(tls.accept(stream).await.unwrap(), &answer).await,
                None => talk(stream, &answer).await,
            };
            sender.send(said).await.unwrap();
        }
    });
    (address, asked)
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    while !said.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        said.extend_from_slice(&buffer[..read]);
        if said.first() == Some(&0x16) {
            break; // TLS, which a plain server does not understand
        }
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

fn target(address: SocketAddr, https: bool, path: &str) -> Target {
    Target { https, host: address.ip().to_string(), port: address.port(), path: path.to_owned() }
}

fn header(name: &str, value: &str) -> HttpHeader {
    HttpHeader { name: name.to_owned(), value: value.to_owned() }
}

fn any_certificate() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["elsewhere.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_probe_asks_as_kubelet_does() {
    let (address, mut asked) = server(&["204 No Content", "200 OK"], None).await;
    assert_eq!(probe(target(address, false, "/a?b=c"), &[]).await, Ok(None));
    let said = asked.recv().await.unwrap().to_lowercase();
    for word in [
        "get /a?b=c http/1.1",
        &format!("host: {address}"),
        "user-agent: kube-probe/1.32",
        "accept: */*",
        "connection: close",
    ] {
        assert!(said.contains(word), "{word} is missing in: {said}");
    }
    let own = [header("Host", "web.example"), header("Accept", ""), header("X-A", "1")];
    assert_eq!(probe(target(address, false, "/"), &own).await, Ok(None));
    let said = asked.recv().await.unwrap().to_lowercase();
    assert!(said.contains("host: web.example") && said.contains("x-a: 1"), "{said}");
    assert!(!said.contains("accept"), "{said}");
}

#[tokio::test]
async fn any_certificate_will_do() {
    let tls = any_certificate();
    let (address, _asked) = server(&["200 OK", "500 No"], Some(tls)).await;
    assert_eq!(probe(target(address, true, "/"), &[]).await, Ok(None));
    let said = probe(target(address, true, "/"), &[]).await.unwrap_err();
    assert_eq!(said, "HTTP probe failed with statuscode: 500");
}

#[tokio::test]
async fn a_server_without_tls_is_known_as_such() {
    let (address, _asked) = server(&["400 Bad Request"], None).await;
    let failure = ask(&target(address, true, "/"), &[], "lifecycle").await.unwrap_err();
    assert!(matches!(failure, Failure::NoTls(_)), "{failure}");
}

#[tokio::test]
async fn redirections_are_followed_while_they_stay_with_the_host() {
    let there = ["302 Found\r\nLocation: /next", "301 Moved\r\nLocation: deeper?x=1", "200 OK"];
    let (address, mut asked) = server(&there, None).await;
    assert_eq!(probe(target(address, false, "/a/b"), &[]).await, Ok(None));
    for path in ["GET /a/b ", "GET /next ", "GET /deeper?x=1 "] {
        let said = asked.recv().await.unwrap();
        assert!(said.starts_with(path), "{said}");
    }
    let (address, _asked) = server(&["302 Found\r\nLocation: http://other.example/"], None).await;
    let odd = probe(target(address, false, "/"), &[]).await.unwrap();
    assert_eq!(odd.as_deref(), Some("Probe terminated redirects"));
    let (address, _asked) = server(&["307 Temporary\r\nLocation: /"; 11], None).await;
    let said = probe(target(address, false, "/"), &[]).await.unwrap_err();
    assert!(said.ends_with("stopped after 10 redirects"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_asked_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let said = probe(target(address, false, "/x"), &[]).await.unwrap_err();
    assert!(said.contains(&format!("Get \"http://{address}/x\": dial tcp: ")), "{said}");
    let said = probe(target(address, false, "/x"), &[header("a b", "c")]).await.unwrap_err();
    assert!(said.contains("invalid HTTP header name"), "{said}");
}
