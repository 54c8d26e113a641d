//! Kubernetes' objects that the mesh reads, and what of them it takes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::Slice;
use crate::model::{self, Endpoint, Kind, Name, Policy, Port, Protocol};

/// The label with which users of EdgeMesh keep a service's traffic out of it.
const FILTER: &str = "service.edgemesh.kubeedge.io/service-proxy-name";

/// The annotation that says how a service's endpoints are chosen.
const POLICY: &str = "service.edgemesh.kubeedge.io/load-balancing";

/// The label that names a slice's service.
const OWNER: &str = "kubernetes.io/service-name";

/// How long a client stays with its endpoint if the service does not say: three hours.
const AFFINITY: u64 = 10_800;

/// The one service whose endpoint `CloudCore` replaces by the node's local API.
const KUBERNETES: (&str, &str) = ("default", "kubernetes");

/// What every object has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    name: Box<str>,
    namespace: Option<Box<str>>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Metadata {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn policy(&self) -> Result<Option<Policy>, String> {
        let annotation = self.annotations.as_ref().and_then(|all| all.get(POLICY));
        let Some(word) = annotation else { return Ok(None) };
        let policy = match (&**word, word.split_once(':')) {
            ("round-robin", _) => Policy::RoundRobin,
            ("random", _) => Policy::Random,
            ("least-connections", _) => Policy::LeastConnections,
            ("source", _) => Policy::Source,
            (_, Some(("header", name))) if is_header(name) => Policy::Header(name.into()),
            _ => {
                return Err(format!(
                    "the annotation {POLICY} is {word:?}, expected round-robin, random, \
                     least-connections, source or header:NAME"
                ));
            }
        };
        Ok(Some(policy))
    }

    /// Returns the object's own name.
    pub(super) fn own(&self) -> Result<Name, String> {
        self.named(&self.name)
    }

    fn named(&self, name: &str) -> Result<Name, String> {
        let namespace = self.namespace.as_deref().unwrap_or("default");
        for (what, text) in [("name", name), ("namespace", namespace)] {
            if !is_label(text) {
                return Err(format!("the {what} is {text:?}, expected a DNS label"));
            }
        }
        Ok(Name { namespace: namespace.into(), name: name.into() })
    }
}

/// Tells whether a text can be the name of a header of HTTP.
pub(super) fn is_header(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Tells whether a text can be a label of a name in DNS.
pub(super) fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| is_inner(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A service, as the API writes it.
#[derive(Debug, Deserialize)]
pub(super) struct Service {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    r#type: Option<Box<str>>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Box<str>>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<Box<str>>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<Box<str>>>,
    external_name: Option<Box<str>>,
    ports: Option<Vec<ServicePort>>,
    session_affinity: Option<Box<str>>,
    session_affinity_config: Option<AffinityConfig>,
    internal_traffic_policy: Option<Box<str>>,
    external_traffic_policy: Option<Box<str>>,
    publish_not_ready_addresses: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServicePort {
    name: Option<Box<str>>,
    protocol: Option<Box<str>>,
    port: u16,
    node_port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    load_balancer: LoadBalancer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ingress {
    ip: Option<Box<str>>,
}

impl Service {
    /// Returns the service, and whether the mesh carries its traffic.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(self) -> Result<(Name, model::Service, bool), String> {
        let name = self.metadata.own()?;
        let is_carried = self.metadata.label(FILTER).is_none();
        let Self { spec, status, .. } = self;
        let kind = spec.kind()?;
        let ingress = status.unwrap_or_default().load_balancer.ingress.unwrap_or_default();
        let external = spec.external_ips.into_iter().flatten();
        let external = external.chain(ingress.into_iter().filter_map(|ingress| ingress.ip));
        let client = spec.session_affinity_config.unwrap_or_default().client_ip;
        let seconds = client.unwrap_or_default().timeout_seconds.unwrap_or(AFFINITY);
        let is = |policy: Option<Box<str>>, word: &str| policy.is_some_and(|it| *it == *word);
        let service = model::Service {
            kind,
            ports: spec
                .ports
                .into_iter()
                .flatten()
                .map(ServicePort::read)
                .collect::<Result<_, _>>()?,
            external: external.filter_map(|text| reachable(&text).ok()).collect(),
            affinity: is(spec.session_affinity, "ClientIP").then(|| Duration::from_secs(seconds)),
            local_only: is(spec.internal_traffic_policy, "Local"),
            external_local_only: is(spec.external_traffic_policy, "Local"),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            policy: self.metadata.policy()?,
        };
        Ok((name, service, is_carried))
    }
}

impl Spec {
    fn kind(&self) -> Result<Kind, String> {
        if self.r#type.as_deref() == Some("ExternalName") {
            let name = self.external_name.as_deref().unwrap_or_default();
            let name = name.trim_end_matches('.');
            return if name.is_empty() || name.len() > 253 {
                Err(format!("externalName is {name:?}, expected a name of at most 253 letters"))
            } else {
                Ok(Kind::External(name.to_ascii_lowercase().into()))
            };
        }
        let first = self.cluster_ip.as_deref().unwrap_or_default();
        if first == "None" {
            return Ok(Kind::Headless);
        }
        let all = self.cluster_ips.iter().flatten().map(|text| &**text);
        let mut addresses: Vec<&str> = all.filter(|text| !text.is_empty()).collect();
        if addresses.is_empty() && !first.is_empty() {
            addresses.push(first);
        }
        addresses.into_iter().map(reachable).collect::<Result<_, _>>().map(Kind::Cluster)
    }
}

impl ServicePort {
    fn read(self) -> Result<Port, String> {
        Ok(Port {
            name: port_name(self.name)?,
            protocol: protocol(self.protocol.as_deref())?,
            port: some_port(self.port)?,
            node_port: self.node_port.filter(|port| *port != 0),
        })
    }
}

/// A slice of a service's endpoints, as the API writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    metadata: Metadata,
    #[serde(default)]
    address_type: Box<str>,
    #[serde(default)]
    endpoints: Option<Vec<SliceEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<EndpointPort>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SliceEndpoint {
    addresses: Option<Vec<Box<str>>>,
    conditions: Option<Conditions>,
    hostname: Option<Box<str>>,
    node_name: Option<Box<str>>,
    zone: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct EndpointPort {
    name: Option<Box<str>>,
    protocol: Option<Box<str>>,
    port: Option<u16>,
}

/// The ports of an endpoint.
type Ports = Vec<(Box<str>, Protocol, u16)>;

impl EndpointSlice {
    /// Returns the slice's own name, its service and its endpoints; no service for a slice that
    /// belongs to none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(self) -> Result<(Name, Option<Slice>), String> {
        let namespace = self.metadata.namespace.clone().unwrap_or_else(|| "default".into());
        let own = Name { namespace, name: self.metadata.name.clone() };
        let Some(service) = self.metadata.label(OWNER) else { return Ok((own, None)) };
        let service = self.metadata.named(service)?;
        if &*self.address_type == "FQDN" {
            return Ok((own, None));
        }
        let ports = ports(self.ports)?;
        let mut endpoints = Vec::new();
        for endpoint in self.endpoints.into_iter().flatten() {
            let conditions = endpoint.conditions.unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let found = Found {
                // The addresses of one endpoint stand for each other.
                address: endpoint.addresses.into_iter().flatten().next().unwrap_or_default(),
                hostname: endpoint.hostname,
                node: endpoint.node_name,
                zone: endpoint.zone,
                ready,
                serving: conditions.serving.unwrap_or(ready),
            };
            endpoints.push(found.read(&service, &ports)?);
        }
        Ok((own, Some(Slice { service, endpoints })))
    }
}

/// All endpoints of a service, as the API wrote them before there were slices.
#[derive(Debug, Deserialize)]
pub(super) struct Endpoints {
    metadata: Metadata,
    #[serde(default)]
    subsets: Option<Vec<Subset>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Subset {
    addresses: Option<Vec<Address>>,
    not_ready_addresses: Option<Vec<Address>>,
    ports: Option<Vec<EndpointPort>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    ip: Box<str>,
    hostname: Option<Box<str>>,
    node_name: Option<Box<str>>,
}

impl Endpoints {
    /// Returns the service and its endpoints.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn read(self) -> Result<(Name, Vec<Endpoint>), String> {
        let name = self.metadata.own()?;
        let mut endpoints = Vec::new();
        for subset in self.subsets.into_iter().flatten() {
            let ports = ports(subset.ports)?;
            let ready = subset.addresses.into_iter().flatten().map(|address| (address, true));
            let others = subset.not_ready_addresses.into_iter().flatten();
            for (address, ready) in ready.chain(others.map(|address| (address, false))) {
                let Address { ip: address, hostname, node_name: node } = address;
                let found = Found { address, hostname, node, zone: None, ready, serving: ready };
                endpoints.push(found.read(&name, &ports)?);
            }
        }
        Ok((name, endpoints))
    }
}

/// An endpoint of either kind of object.
struct Found {
    address: Box<str>,
    hostname: Option<Box<str>>,
    node: Option<Box<str>>,
    zone: Option<Box<str>>,
    ready: bool,
    serving: bool,
}

impl Found {
    fn read(self, service: &Name, ports: &Ports) -> Result<Endpoint, String> {
        let is_local_api = (&*service.namespace, &*service.name) == KUBERNETES;
        let loopback = self.address.parse().ok().filter(IpAddr::is_loopback);
        let address = match loopback.filter(|_| is_local_api) {
            Some(address) => address,
            None => reachable(&self.address)?,
        };
        Ok(Endpoint {
            address,
            node: self.node.filter(|node| !node.is_empty()),
            zone: self.zone.filter(|zone| !zone.is_empty()),
            hostname: self.hostname.filter(|hostname| is_label(hostname)),
            ready: self.ready,
            serving: self.serving,
            ports: ports.clone(),
            stand_in: None,
        })
    }
}

fn ports(ports: Option<Vec<EndpointPort>>) -> Result<Ports, String> {
    let read = |port: EndpointPort| {
        let number = port.port?;
        let read = || {
            let protocol = protocol(port.protocol.as_deref())?;
            Ok((port_name(port.name)?, protocol, some_port(number)?))
        };
        Some(read())
    };
    ports.into_iter().flatten().filter_map(read).collect()
}

fn port_name(name: Option<Box<str>>) -> Result<Box<str>, String> {
    let name = name.unwrap_or_default();
    if name.is_empty() || is_label(&name) {
        Ok(name)
    } else {
        Err(format!("the name of a port is {name:?}, expected a DNS label"))
    }
}

fn some_port(port: u16) -> Result<u16, String> {
    if port == 0 { Err("a port is 0, expected 1 to 65535".to_owned()) } else { Ok(port) }
}

fn protocol(word: Option<&str>) -> Result<Protocol, String> {
    match word.unwrap_or("TCP") {
        "TCP" | "" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        other => Err(format!("a protocol is {other:?}, expected TCP, UDP or SCTP")),
    }
}

/// Reads an address that traffic of a service may go to: none of this host, link or group, as the
/// API server has it too.
fn reachable(text: &str) -> Result<IpAddr, String> {
    let parsed: Option<IpAddr> = text.parse().ok();
    let is_near = |address: &IpAddr| match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let is_amiss = |address: &IpAddr| {
        let canonical = address.to_canonical();
        canonical.is_unspecified() || canonical.is_loopback() || canonical.is_multicast()
    };
    let found = parsed.filter(|address| !is_near(address) && !is_amiss(address));
    found.ok_or_else(|| format!("an address is {text:?}, expected one that can be reached"))
}
