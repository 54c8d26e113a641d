//! What metaserver is told by `edgecore.yaml`, checked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use module_runtime::config::Check;
use serde::Deserialize;

use crate::guard;

/// The sections of the file, as they come.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sections {
    node: String,
    /// Where the server's certificate is kept.
    #[serde(default)]
    state_folder: PathBuf,
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
    dummy_server: Option<String>,
    service_account_issuers: Option<Vec<String>>,
    api_audiences: Option<Vec<String>>,
    service_account_key_files: Option<Vec<PathBuf>>,
}

impl Default for MetaServer {
    fn default() -> Self {
        Self {
            server: "127.0.0.1:10550".to_owned(),
            dummy_server: None,
            service_account_issuers: None,
            api_audiences: None,
            service_account_key_files: None,
        }
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
    /// What clients have to show, where they have to say who they are.
    pub(crate) secure: Option<Secure>,
}

/// What `requireAuthorization` is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secure {
    /// The address for pods, where the API is served too.
    pub(crate) dummy: Option<SocketAddr>,
    /// Where the server's certificate is kept, and the socket for root.
    pub(crate) folder: PathBuf,
    /// What is asked of tokens.
    pub(crate) tokens: guard::Settings,
}

impl Config {
    /// Returns the addresses that the server's certificate is for.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let dummy = self.secure.as_ref().and_then(|secure| secure.dummy);
        let mut addresses: Vec<_> = [Some(self.server), dummy].into_iter().flatten().collect();
        addresses.dedup_by_key(|address| address.ip());
        addresses.iter().map(SocketAddr::ip).collect()
    }
}

impl Sections {
    /// Checks the configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn check(self) -> anyhow::Result<Config> {
        let mut check = Check::default();
        check.node(&self.node);
        let section = self.meta_manager.unwrap_or_default().meta_server;
        let server = address(&mut check, "server", &section.server);
        let gates = self.feature_gates.unwrap_or_default();
        let Self { node, serves, mesh, state_folder, .. } = self;
        let secure = serves && gates.get("requireAuthorization").copied().unwrap_or(false);
        let secure = secure.then(|| section.secure(state_folder, &mut check));
        Ok(check.done(Config { node, server, serves, mesh, secure })?)
    }
}

impl MetaServer {
    fn secure(self, state_folder: PathBuf, check: &mut Check) -> Secure {
        let dummy = self.dummy_server.filter(|text| !text.is_empty());
        let issuers = self.service_account_issuers.unwrap_or_default();
        let audiences = self.api_audiences.filter(|list| !list.is_empty());
        let key_files = self.service_account_key_files.unwrap_or_default();
        let folder = check.file("stateFolder", Some(state_folder));
        let key = "metaManager.metaServer.serviceAccountKeyFiles";
        Secure {
            dummy: dummy.map(|text| address(check, "dummyServer", &text)),
            folder,
            tokens: guard::Settings {
                audiences: audiences.unwrap_or_else(|| issuers.clone()),
                issuers,
                key_files: key_files.into_iter().map(|it| check.file(key, Some(it))).collect(),
            },
        }
    }
}

/// Takes an address and a port.
fn address(check: &mut Check, key: &str, text: &str) -> SocketAddr {
    let parsed: Option<SocketAddr> = text.parse().ok();
    parsed.filter(|address| address.port() != 0).unwrap_or_else(|| {
        let key = format!("metaManager.metaServer.{key}");
        check.wrong(&key, &text, "an address and a port");
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
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
        assert_eq!(config.secure, None);
    }

    #[test]
    fn tokens_are_for_their_issuer_unless_said_otherwise() {
        let config = |server: &str| {
            check(&format!(
                r#"{{"node":"n","serves":true,"stateFolder":"/s","featureGates":{{"requireAuthorization":true}},
                "metaManager":{{"metaServer":{{"serviceAccountIssuers":["i"]{server}}}}}}}"#
            ))
        };
        let plain = config("").unwrap();
        assert_eq!(plain.addresses(), [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(plain.secure.unwrap().tokens.audiences, ["i"]);
        let full = r#","apiAudiences":["a"],"dummyServer":"169.254.30.10:10550""#;
        let full = config(full).unwrap();
        assert_eq!(full.addresses().len(), 2);
        assert_eq!(full.secure.unwrap().tokens.audiences, ["a"]);
        for (bad, key) in [
            (r#","dummyServer":"x""#, "metaServer.dummyServer"),
            (r#","serviceAccountKeyFiles":["k"]"#, "metaServer.serviceAccountKeyFiles"),
        ] {
            let error = config(bad).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
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
