//! HTTP between the cloud's router and the node: calls of services from the cloud, and calls of the
//! cloud from applications.

#[path = "servicebus/place.rs"]
mod place;

use anyhow::{Context, Result};
use edgecore_tests::rig::certs::{Certs, Purpose};
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::mosquitto::free_port;
use edgecore_tests::rig::web::{Web, reply, request, request_secure};
use edgecore_tests::rig::{SOON, wait_for, wait_until};
use minicloud::core::Push;
use place::Place;
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn the_cloud_calls_services_of_the_node() -> Result<()> {
    let place = Place::new()?;
    let service = Web::start(|got| match got.line.as_str() {
        "GET /target/missing HTTP/1.1" => reply("404 Not Found", "no such thing"),
        _ => reply("200 OK", &format!("you said {}", got.body)),
    })?;
    let other = Web::start(|_| reply("200 OK", "the other"))?;
    place.serve(service.port())?;
    place.serve(other.port())?;
    let path = format!("/{NODE}/default/source{}", service.port());
    let answer = request(place.router, "POST", &path, b"hello")?;
    assert_eq!((answer.line.as_str(), answer.body.as_str()), ("HTTP/1.1 200 OK", "you said hello"));
    assert!(answer.headers.iter().any(|it| it.eq_ignore_ascii_case("x-served-by: test")));
    let got = service.next()?;
    assert_eq!((got.line.as_str(), got.body.as_str()), ("POST /target HTTP/1.1", "hello"));
    assert!(got.headers.iter().any(|it| it.eq_ignore_ascii_case("x-asked-by: test")));
    assert!(
        got.headers
            .iter()
            .any(|it| it.eq_ignore_ascii_case(&format!("host: 127.0.0.1:{}", service.port()))),
        "{got:?}"
    );
    let answer = request(place.router, "GET", &format!("{path}/missing"), b"")?;
    assert_eq!(
        (answer.line.as_str(), answer.body.as_str()),
        ("HTTP/1.1 404 Not Found", "no such thing")
    );
    let path = format!("/{NODE}/default/source{}", other.port());
    assert_eq!(request(place.router, "PUT", &path, b"")?.body, "the other");
    assert_eq!(other.next()?.line, "PUT /target HTTP/1.1");
    Ok(())
}

#[test]
fn what_goes_wrong_with_a_call_is_answered_at_once() -> Result<()> {
    let place = Place::new()?;
    let nobody = free_port()?;
    place.serve(nobody)?;
    let path = format!("/{NODE}/default/source{nobody}");
    let answer = request(place.router, "POST", &path, b"x")?;
    assert_eq!(answer.line, "HTTP/1.1 404 Not Found");
    assert!(answer.body.starts_with("error to call service"), "{}", answer.body);
    let large = Web::start(|_| reply("200 OK", &"x".repeat(5_000_001)))?;
    place.serve(large.port())?;
    let path = format!("/{NODE}/default/source{}", large.port());
    let answer = request(place.router, "POST", &path, b"x")?;
    assert_eq!(answer.line, "HTTP/1.1 500 Internal Server Error");
    assert!(answer.body.contains("more than 5000000 bytes"), "{}", answer.body);
    let rubbish = Web::start(|_| b"\x00\xff rubbish".to_vec())?;
    place.serve(rubbish.port())?;
    let path = format!("/{NODE}/default/source{}", rubbish.port());
    assert_eq!(request(place.router, "POST", &path, b"x")?.line, "HTTP/1.1 404 Not Found");
    // A message that is no call is answered too, and not by silence.
    for (resource, content) in [
        ("80:/a:b", json!({"method": "GET"})),
        ("80:@elsewhere/", json!({"method": "GET"})),
        ("80:/x", json!("no request")),
    ] {
        let push = Push {
            source: "router_servicebus".into(),
            group: "user".into(),
            operation: "GET".into(),
            resource: resource.into(),
            version: String::new(),
            content,
        };
        let seen = uploads(&place)?.len();
        place.cloud.with(|cloud| async move { cloud.push(NODE, push).await })?;
        let last = wait_for("it is answered", SOON, || {
            uploads(&place).ok().filter(|all| all.len() > seen)?.pop()
        })?;
        assert_eq!(last["status_code"], 400, "{resource}");
    }
    Ok(())
}

/// Returns the replies that the node sent.
fn uploads(place: &Place) -> Result<Vec<Value>> {
    let received = place.cloud.with(|cloud| async move { cloud.received(0).await })?;
    let replies = received
        .iter()
        .map(|it| &it.message)
        .filter(|it| it.is_answer() && it.route.operation == ipc_proto::Operation::Upload);
    replies.map(|it| Ok(it.content.decode()?)).collect()
}

#[test]
fn applications_call_the_cloud_as_long_as_there_is_a_rule() -> Result<()> {
    let mut place = Place::new()?;
    assert!(!place.listens());
    let web = Web::start(|got| reply("200 OK", &format!("the cloud got {}", got.body.len())))?;
    let url = format!("http://127.0.0.1:{}/hook", web.port());
    place.allow("up", &url)?;
    place.wait_until_it_takes(&url)?;
    let body = json!({"method": "POST", "targetURL": url, "payload": {"a": 1}}).to_string();
    let (code, message, answer) = place.ask(body.as_bytes())?;
    assert_eq!((code, message.as_str()), (200, "receive response from cloud successfully"));
    // KubeEdge sends the whole request in base64.
    let sent = data_encoding::BASE64.encode(body.as_bytes());
    assert_eq!(answer, format!("the cloud got {}", sent.len()));
    let last = std::iter::from_fn(|| web.look()).last().context("a request")?;
    assert_eq!((last.line.as_str(), last.body), ("POST /hook HTTP/1.1", sent));
    for (body, code, why) in [
        (&b"no JSON"[..], 400, "invalid params"),
        (br#"{"targetURL":"http://elsewhere/"}"#, 400, "is not allowed and please make a rule"),
        (&vec![b' '; 5_000_001], 400, "can't read data from body"),
    ] {
        let (answered, message, _) = place.ask(body)?;
        assert_eq!(answered, code);
        assert!(message.contains(why), "{message}");
    }
    // The rule outlives every process.
    place.rig.end(Signal::KILL)?;
    place.rig.start_again()?;
    place.wait_until_it_takes(&url)?;
    place.cloud.with(|cloud| async move { cloud.delete("default/rule/up", false).await })?;
    wait_until("the listener closes", SOON, || !place.listens())
}

#[test]
fn applications_call_over_tls_and_a_renewed_certificate_counts_at_once() -> Result<()> {
    let certs = Certs::new()?;
    // As the hub's own: not for servers.
    certs.issue("server", Purpose::Client)?;
    let (certificate, key) = (certs.path("server.crt"), certs.path("server.key"));
    let tls = json!({"tlsCertFile": certificate, "tlsPrivateKeyFile": key});
    let mut place = Place::with(tls)?;
    place.tls = Some(certs.authority.client()?);
    let web = Web::start(|_| reply("200 OK", "from the cloud"))?;
    let url = format!("http://127.0.0.1:{}/hook", web.port());
    place.allow("up", &url)?;
    place.wait_for_listener("is not for servers, expected a certificate")?;
    assert!(!place.listens());
    certs.issue("server", Purpose::Server)?;
    place.wait_until_it_takes(&url)?;
    let body = json!({"method": "POST", "targetURL": url, "payload": 1}).to_string();
    assert_eq!(place.ask(body.as_bytes())?.2, "from the cloud");
    // Nobody is let in without TLS.
    let answer = request(place.port, "POST", "/", body.as_bytes());
    assert!(!answer.is_ok_and(|it| it.line.starts_with("HTTP")));
    let other = Certs::new()?;
    other.issue("server", Purpose::Server)?;
    for file in ["server.key", "server.crt"] {
        std::fs::copy(other.path(file), certs.path(file))?;
    }
    let former = place.tls.replace(other.authority.client()?).context("the former authority")?;
    assert_eq!(place.ask(body.as_bytes())?.2, "from the cloud");
    let error = request_secure(place.port, &former, "POST", "/", b"").unwrap_err().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    Ok(())
}

#[test]
fn applications_call_targets_that_speak_https() -> Result<()> {
    let place = Place::new()?;
    let names = ["127.0.0.1".to_owned()];
    let tls = place.cloud.with(|cloud| async move { cloud.authority().tls(&names, false) })?;
    let web = Web::start_secure(tls.https, |_| reply("200 OK", "securely"))?;
    let url = format!("https://127.0.0.1:{}/hook", web.port());
    place.allow("up", &url)?;
    place.wait_until_it_takes(&url)?;
    let body = json!({"method": "POST", "targetURL": url, "payload": 1}).to_string();
    let (code, message, answer) = place.ask(body.as_bytes())?;
    assert_eq!((code, answer.as_str()), (200, "securely"), "{message}");
    place.cloud.with(|cloud| async move { cloud.delete("default/rule/up", false).await })?;
    wait_until("the listener closes", SOON, || !place.listens())
}

#[test]
fn headers_and_time_are_bounded_on_both_sides() -> Result<()> {
    let place = Place::with(json!({"timeout": 1}))?;
    let head = Web::start(|_| {
        let large = "x".repeat(300_000);
        format!("HTTP/1.1 200 OK\r\nX-Large: {large}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })?;
    place.serve(head.port())?;
    let path = |service: u16| format!("/{NODE}/default/source{service}");
    let answer = request(place.router, "POST", &path(head.port()), b"x")?;
    assert_eq!(answer.line, "HTTP/1.1 404 Not Found");
    assert!(answer.body.starts_with("error to call service"), "{}", answer.body);
    // It takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = silent.local_addr()?.port();
    place.serve(port)?;
    let answer = request(place.router, "POST", &path(port), b"x")?;
    assert_eq!(answer.body, "error to call service: it did not answer within 10 s");
    // Applications wait for the cloud no longer than they are told to.
    let url = format!("http://127.0.0.1:{port}/hook");
    place.allow("up", &url)?;
    place.wait_until_it_takes(&url)?;
    let body = json!({"method": "POST", "targetURL": url}).to_string();
    let (code, message, _) = place.ask(body.as_bytes())?;
    assert_eq!(code, 400);
    assert!(message.contains("did not answer within"), "{message}");
    let path = format!("/{}", "x".repeat(300_000));
    let answer = request(place.port, "POST", &path, b"")?;
    assert!(answer.line.is_empty() || answer.line.starts_with("HTTP/1.1 4"), "{answer:?}");
    assert_eq!(place.ask(body.as_bytes())?.0, 400);
    Ok(())
}
