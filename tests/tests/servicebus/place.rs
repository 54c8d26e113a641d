//! A node with servicebus, a cloud with a router, and rules between them.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::mosquitto::free_port;
use edgecore_tests::rig::web::{request, request_secure};
use edgecore_tests::rig::{Rig, SOON, Setup, wait_until};
use ipc_proto::Module;
use minicloud::Config;
use rustls::ClientConfig;
use serde_json::{Value, json};

/// The modules that take part.
const PRESENT: [Module; 3] = [Module::Metamanager, Module::Edgehub, Module::Servicebus];

/// A node with servicebus, and a cloud with a router.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) rig: Rig,
    pub(crate) cloud: Cloud,
    /// The port of the cloud's router.
    pub(crate) router: u16,
    /// Where applications of the node call.
    pub(crate) port: u16,
    /// How they call, where it is over TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        Self::with(json!({}))
    }

    /// Starts a node; `patch` is laid over the section `serviceBus`.
    pub(crate) fn with(patch: Value) -> Result<Self> {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let cloud = Cloud::start(Config { router: Some(anywhere), ..Config::default() })?;
        let mut setup = Setup::new()?;
        cloud.lead(&mut setup);
        for module in Module::ALL {
            let enabled = PRESENT.contains(&module);
            setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
        }
        let port = free_port()?;
        let mut bus = json!({"enable": true, "server": "127.0.0.1", "port": port, "timeout": 5});
        if let (Value::Object(bus), Value::Object(patch)) = (&mut bus, patch) {
            bus.extend(patch);
        }
        setup.edgecore["modules"]["serviceBus"] = bus;
        let rig = setup.start()?;
        wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
        let router = cloud.with(|cloud| async move { cloud.router() });
        let router = router.context("a router")?.port();
        Ok(Self { rig, cloud, router, port, tls: None })
    }

    fn apply(&self, object: Value) -> Result<()> {
        self.cloud.apply(object).map(drop)
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
    pub(crate) fn serve(&self, service: u16) -> Result<()> {
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
    pub(crate) fn allow(&self, name: &str, url: &str) -> Result<()> {
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

    pub(crate) fn listens(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// Asks as an application does; returns the answer's code, message and body.
    pub(crate) fn ask(&self, body: &[u8]) -> Result<(u64, String, String)> {
        let reply = match &self.tls {
            None => request(self.port, "POST", "/", body)?,
            Some(tls) => request_secure(self.port, tls, "POST", "/", body)?,
        };
        assert_eq!(reply.line, "HTTP/1.1 200 OK");
        let answer: Value = serde_json::from_str(&reply.body)?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Ok((answer["code"].as_u64().context("a code")?, text("msg"), text("body")))
    }

    pub(crate) fn wait_until_it_takes(&self, url: &str) -> Result<()> {
        let body = json!({"method": "POST", "targetURL": url, "payload": "probe"}).to_string();
        wait_until(&format!("{url} is allowed"), SOON, || {
            self.listens()
                && self.ask(body.as_bytes()).is_ok_and(|(_, why, _)| !why.contains("not allowed"))
        })
        .with_context(|| self.rig.module_log(Module::Servicebus))
    }

    /// Waits until servicebus says of its listener what is wanted.
    pub(crate) fn wait_for_listener(&self, wanted: &str) -> Result<()> {
        let mut last = Value::Null;
        wait_until(&format!("the listener is {wanted}"), SOON, || {
            let report = self.rig.module(Module::Servicebus).ok().and_then(|it| it.report);
            last = report.unwrap_or_default();
            last.to_string().contains(wanted)
        })
        .with_context(|| format!("the report is {last}"))
    }
}
