//! HTTP between the cloud's router and the node: calls of services from the cloud, and calls of the
//! cloud from applications.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::mosquitto::free_port;
use edgecore_tests::rig::web::{Web, reply, request};
use edgecore_tests::rig::{Rig, SOON, Setup, wait_for, wait_until};
use ipc_proto::Module;
use minicloud::Config;
use minicloud::core::Push;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The modules that take part.
const PRESENT: [Module; 3] = [Module::Metamanager, Module::Edgehub, Module::Servicebus];

/// A node with servicebus, and a cloud with a router.
struct Place {
    rig: Rig,
    cloud: Cloud,
    router: u16,
    /// Where applications of the node call.
    port: u16,
}

impl Place {
    fn new() -> Result<Self> {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let cloud = Cloud::start(Config { router: Some(anywhere), ..Config::default() })?;
        let mut setup = Setup::new()?;
        cloud.lead(&mut setup);
        for module in Module::ALL {
            let enabled = PRESENT.contains(&module);
            setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
        }
        let port = free_port()?;
        setup.edgecore["modules"]["serviceBus"] =
            json!({"enable": true, "server": "127.0.0.1", "port": port, "timeout": 5});
        let rig = setup.start()?;
        wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
        let router = cloud.with(|cloud| async move { cloud.router() });
        let router = router.context("a router")?.port();
        Ok(Self { rig, cloud, router, port })
    }

    fn apply(&self, object: Value) -> Result<()> {
        self.cloud.with(|cloud| async move { cloud.apply(object).await })?;
        Ok(())
    }

    fn endpoint(&self, name: &str, kind: &str, properties: &Value) -> Result<()> {
        self.apply(json!({
            "apiVersion": "rules.kubeedge.io/v1", "kind": "RuleEndpoint",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"ruleEndpointType": kind, "properties": properties},
        }))
    }

    fn rule(&self, name: &str, spec: &Value) -> Result<()> {
        self.apply(json!({
            "apiVersion": "rules.kubeedge.io/v1", "kind": "Rule",
            "metadata": {"name": name, "namespace": "default"}, "spec": spec,
        }))
    }

    /// Makes rules by which `/source/…` in the cloud is `/target/…` of a service of the node.
    fn serve(&self, service: u16) -> Result<()> {
        self.endpoint("rest", "rest", &json!({}))?;
        let name = format!("service-{service}");
        self.endpoint(&name, "servicebus", &json!({"service_port": service.to_string()}))?;
        self.rule(
            &format!("r-{service}"),
            &json!({
                "source": "rest", "sourceResource": {"path": format!("/source{service}")},
                "target": name, "targetResource": {"path": "/target"},
            }),
        )
    }

    /// Makes a rule by which applications of the node may call `url`.
    fn allow(&self, name: &str, url: &str) -> Result<()> {
        self.endpoint("rest", "rest", &json!({}))?;
        self.endpoint("bus", "servicebus", &json!({"service_port": "1"}))?;
        self.rule(
            name,
            &json!({
                "source": "bus", "sourceResource": {"target_url": url, "node_name": NODE},
                "target": "rest", "targetResource": {"resource": url},
            }),
        )
    }

    fn listens(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// Asks as an application does; returns the answer's code, message and body.
    fn ask(&self, body: &[u8]) -> Result<(u64, String, String)> {
        let reply = request(self.port, "POST", "/", body)?;
        assert_eq!(reply.line, "HTTP/1.1 200 OK");
        let answer: Value = serde_json::from_str(&reply.body)?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Ok((answer["code"].as_u64().context("a code")?, text("msg"), text("body")))
    }

    fn wait_until_it_takes(&self, url: &str) -> Result<()> {
        let body = json!({"method": "POST", "targetURL": url, "payload": "probe"}).to_string();
        wait_until(&format!("{url} is allowed"), SOON, || {
            self.listens()
                && self.ask(body.as_bytes()).is_ok_and(|(_, why, _)| !why.contains("not allowed"))
        })
        .with_context(|| self.rig.module_log(Module::Servicebus))
    }
}

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
