//! What a minicloud is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::hub::core::Settings as Hub;

/// The settings. [`Config::default`] listens on free ports of the loopback, keeps nothing, and has
/// CloudCore's own times.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the certificate authority and the cluster are kept, so that a later start continues.
    pub dir: Option<PathBuf>,
    /// A folder of YAML files whose objects become the cluster's while it runs.
    pub manifests: Option<PathBuf>,
    /// Where nodes connect.
    pub hub: SocketAddr,
    /// Where nodes get their certificates.
    pub https: SocketAddr,
    /// Where nodes' tunnels come in.
    pub tunnel: SocketAddr,
    /// Where users of the tunnels come in; plain HTTP.
    pub stream: SocketAddr,
    /// Where tests look and steer; a loopback address. `None`: nowhere.
    pub control: Option<SocketAddr>,
    /// Where the router takes calls. `None`: nowhere, and uploads go to no endpoint.
    pub router: Option<SocketAddr>,
    /// Names and addresses that the servers' certificate is for, beside the loopback's.
    pub names: Vec<String>,
    /// Whether a connection must have the certificate of its own node. One that has not stays
    /// open and is never served, as in CloudCore.
    pub authorize: bool,
    /// Times and counts of the hub.
    pub times: Hub,
    /// How long a lease counts.
    pub node_grace: Duration,
    /// How often the ObjectSyncs are compared with the cluster.
    pub sync_interval: Duration,
    /// How long certificates of nodes are valid.
    pub certificate_life: Duration,
    /// How long a bootstrap token is valid.
    pub token_life: Duration,
    /// What identities are drawn from; random where it is `None`.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            dir: None,
            manifests: None,
            hub: anywhere,
            https: anywhere,
            tunnel: anywhere,
            stream: anywhere,
            control: None,
            router: None,
            names: Vec::new(),
            authorize: false,
            times: Hub::default(),
            node_grace: Duration::from_secs(40),
            sync_interval: Duration::from_secs(5),
            certificate_life: Duration::from_secs(365 * 86_400),
            token_life: Duration::from_secs(86_400),
            seed: None,
        }
    }
}
