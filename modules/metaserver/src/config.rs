//! What metaserver is told by `edgecore.yaml`, checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use module_runtime::config::Check;
use serde::Deserialize;

/// The sections of the file, as they come.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sections {
    node: String,
    #[serde(default)]
    meta_manager: Option<MetaManager>,
    #[serde(default)]
    feature_gates: Option<BTreeMap<String, bool>>,
    #[serde(default = "yes")]
    serves: bool,
    #[serde(default)]
    mesh: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MetaManager {
    meta_server: MetaServer,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MetaServer {
    server: String,
}

impl Default for MetaServer {
    fn default() -> Self {
        Self { server: "127.0.0.1:10550".to_owned() }
    }
}

/// The configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The node's name.
    pub(crate) node: String,
    /// Where the API is served.
    pub(crate) server: SocketAddr,
    /// Whether it is served at all; the mesh needs the way to the cloud alone.
    pub(crate) serves: bool,
    /// Whether the mesh has to be told of services.
    pub(crate) mesh: bool,
    /// Whether clients have to say who they are.
    pub(crate) authorize: bool,
}

impl Sections {
    /// Checks the configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn check(self) -> anyhow::Result<Config> {
        let mut check = Check::default();
        check.node(&self.node);
        let server = self.meta_manager.unwrap_or_default().meta_server.server;
        let parsed: Option<SocketAddr> = server.parse().ok();
        let address = parsed.filter(|address| address.port() != 0).unwrap_or_else(|| {
            check.wrong("metaManager.metaServer.server", &server, "an address and a port");
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        let gates = self.feature_gates.unwrap_or_default();
        let authorize = gates.get("requireAuthorization").copied().unwrap_or(false);
        let Self { node, serves, mesh, .. } = self;
        Ok(check.done(Config { node, server: address, serves, mesh, authorize })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> anyhow::Result<Config> {
        serde_json::from_str::<Sections>(json)?.check()
    }

    #[test]
    fn what_is_missing_takes_kubeedges_defaults() {
        let config = check(r#"{"node":"edge1","metaManager":null}"#).unwrap();
        assert_eq!(config.server, SocketAddr::from(([127, 0, 0, 1], 10550)));
        assert!(!config.authorize);
    }

    #[test]
    fn an_address_that_is_none_is_told_with_its_key() {
        for bad in ["", "localhost", "127.0.0.1:0", "10550"] {
            let json =
                format!(r#"{{"node":"n","metaManager":{{"metaServer":{{"server":"{bad}"}}}}}}"#);
            let error = check(&json).unwrap_err().to_string();
            assert!(error.contains(&format!("metaServer.server is {bad:?}")), "{error}");
        }
    }
}
