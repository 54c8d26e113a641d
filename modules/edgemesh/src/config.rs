//! What the mesh is told by the converter, checked.

use std::net::SocketAddr;

use module_runtime::config::Check;
use serde::Deserialize;

use crate::dns::Zone;

/// The configuration as it comes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sections {
    dns: DnsSection,
    #[serde(default)]
    traffic: Traffic,
    cluster_domain: String,
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
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Traffic {
    /// Whether it is carried at all.
    pub(crate) enabled: bool,
    /// Whether endpoints of this node are taken before all others.
    pub(crate) prefer_same_node: bool,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { enabled: true, prefer_same_node: false }
    }
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) dns: Dns,
    pub(crate) traffic: Traffic,
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
        let dns = check.done(dns)?;
        let traffic = self.traffic;
        dns.map(|dns| Config { dns, traffic }).ok_or_else(|| anyhow::anyhow!("no domain"))
    }
}
