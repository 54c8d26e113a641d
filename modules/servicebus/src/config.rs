//! What servicebus is told by `edgecore.yaml`, checked.

use std::path::PathBuf;
use std::time::Duration;

use module_runtime::tls::Identity;
use serde::Deserialize;

/// The section of the file, as it comes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sections {
    #[serde(default)]
    service_bus: ServiceBus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceBus {
    server: String,
    port: u16,
    timeout: i64,
    tls_cert_file: PathBuf,
    tls_private_key_file: PathBuf,
}

impl Default for ServiceBus {
    fn default() -> Self {
        Self {
            server: "127.0.0.1".to_owned(),
            port: 9060,
            timeout: 60,
            tls_cert_file: PathBuf::new(),
            tls_private_key_file: PathBuf::new(),
        }
    }
}

/// The configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where applications of the node call.
    pub(crate) server: String,
    /// Its port.
    pub(crate) port: u16,
    /// How the calls are secured, if they are.
    pub(crate) tls: Option<Identity>,
    /// How long the cloud may take to answer.
    pub(crate) patience: Duration,
}

impl Sections {
    /// Checks the configuration.
    ///
    /// # Errors
    /// All that is wrong with it, in one line.
    pub(crate) fn check(self) -> anyhow::Result<Config> {
        let ServiceBus { server, port, timeout, tls_cert_file, tls_private_key_file } =
            self.service_bus;
        let mut errors = Vec::new();
        if !(1..=86_400).contains(&timeout) {
            errors.push(format!("serviceBus.timeout is {timeout}, expected 1 to 86400 seconds"));
        }
        if server.is_empty() {
            errors.push("serviceBus.server is empty, expected a host".to_owned());
        }
        let keys = ["serviceBus.tlsCertFile", "serviceBus.tlsPrivateKeyFile"];
        let tls = Identity::configured(keys, tls_cert_file, tls_private_key_file);
        let tls = tls.unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        anyhow::ensure!(errors.is_empty(), "{}", errors.join("; "));
        let patience = Duration::from_secs(timeout.unsigned_abs());
        Ok(Config { server, port, tls, patience })
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
        let config = check("{}").unwrap();
        let expected = ("127.0.0.1", 9060, None, Duration::from_secs(60));
        let Config { server, port, tls, patience } = config;
        assert_eq!((server.as_str(), port, tls, patience), expected);
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let json = r#"{"serviceBus":{"server":"","timeout":0,"tlsCertFile":"/c"}}"#;
        let error = check(json).unwrap_err().to_string();
        for part in ["server is empty", "timeout is 0", "tlsPrivateKeyFile is '', expected both"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
