//! What the mesh is told by the converter, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use module_runtime::config::Check;
use module_runtime::net::{Endpoint, Network};
use module_runtime::tls::{Files, Identity};
use serde::Deserialize;

use crate::dns::Zone;
use crate::stand_ins::Pool;
use crate::tunnel;

/// The configuration as it comes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sections {
    dns: DnsSection,
    #[serde(default)]
    traffic: Traffic,
    #[serde(default)]
    tunnel: TunnelSection,
    cluster_domain: String,
}

/// The tunnel as it comes; its files are edgehub's.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TunnelSection {
    enabled: bool,
    listen: Option<SocketAddr>,
    relay: bool,
    relays: Vec<String>,
    direct: Vec<String>,
    stand_ins: Option<String>,
    /// Milliseconds.
    keep_alive: Option<u64>,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// How often a silent connection is looked after, where the configuration does not say.
const KEEP_ALIVE: u64 = 5000;

impl TunnelSection {
    /// Returns the tunnel; nothing where it is off.
    fn check(self, check: &mut Check) -> Option<tunnel::Config> {
        if !self.enabled {
            return None;
        }
        let relays =
            self.relays.iter().map(|far| check.endpoint("tunnel.relays", Some(far), "host:port"));
        let relays: Vec<Endpoint> = relays.collect();
        let networks = self.direct.iter().filter_map(|text| {
            let network = Network::parse(text);
            if network.is_none() {
                check.wrong("tunnel.direct", text, "a network such as 10.244.0.0/16");
            }
            network
        });
        let direct = networks.collect();
        let stand_ins = self.stand_ins.and_then(|text| {
            let pool = Network::parse(&text).and_then(Pool::new);
            if pool.is_none() {
                check.wrong("tunnel.standIns", &text, "a network such as 198.18.0.0/16");
            }
            pool
        });
        let ca = check.file("edgeHub.tlsCaFile", Some(self.ca));
        let certificate = check.file("edgeHub.tlsCertFile", Some(self.certificate));
        let key = check.file("edgeHub.tlsPrivateKeyFile", Some(self.key));
        let tls = Files { ca, identity: Some(Identity { certificate, key }) };
        let keep_alive = Duration::from_millis(self.keep_alive.unwrap_or(KEEP_ALIVE));
        let Self { listen, relay, .. } = self;
        Some(tunnel::Config { listen, relay, relays, direct, stand_ins, keep_alive, tls })
    }
}

#[derive(Debug, Deserialize)]
struct DnsSection {
    listen: SocketAddr,
    #[serde(default)]
    upstreams: Option<Vec<SocketAddr>>,
}

/// How names are answered.
#[derive(Clone, Debug)]
pub(crate) struct Dns {
    pub(crate) listen: SocketAddr,
    /// Whom to ask what the cluster does not know; nothing for those that the host asks.
    pub(crate) upstreams: Option<Vec<SocketAddr>>,
    pub(crate) zone: Zone,
}

/// How traffic is carried, as the configuration says.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Traffic {
    /// Whether it is carried at all.
    pub(crate) enabled: bool,
    /// Whether endpoints of this node are taken before all others.
    pub(crate) prefer_same_node: bool,
    /// The zone whose endpoints are taken before those of others.
    pub(crate) zone: Option<Box<str>>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { enabled: true, prefer_same_node: false, zone: None }
    }
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) dns: Dns,
    pub(crate) traffic: Traffic,
    /// Nothing where it is off.
    pub(crate) tunnel: Option<tunnel::Config>,
}

impl Sections {
    /// Checks the configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn check(self) -> anyhow::Result<Config> {
        let mut check = Check::default();
        let domain = &self.cluster_domain;
        let zone = Zone::new(domain).or_else(|| {
            let key = "modules.edged.tailoredKubeletConfig.clusterDomain";
            check.wrong(key, domain, "a domain name such as cluster.local");
            Zone::new("cluster.local")
        });
        let DnsSection { listen, upstreams } = self.dns;
        let dns = zone.map(|zone| Dns { listen, upstreams, zone });
        let tunnel = self.tunnel.check(&mut check);
        let dns = check.done(dns)?;
        let traffic = self.traffic;
        dns.map(|dns| Config { dns, traffic, tunnel }).ok_or_else(|| anyhow::anyhow!("no domain"))
    }
}
