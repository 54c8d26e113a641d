//! What edgehub takes of `modules.edgeHub` in edgecore.yaml. Keys that it has no use for are left
//! alone: the converter has checked them.

use anyhow::{bail, ensure};
use module_runtime::Context;
use serde::Deserialize;

/// The settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the cloud is: a scheme, a host and a port.
    pub endpoint: String,
}

/// The settings as they stand in the file.
#[derive(Debug, Deserialize)]
struct File {
    #[serde(rename = "edgeHub")]
    edge_hub: Section,
}

#[derive(Debug, Deserialize)]
struct Section {
    websocket: Transport,
    quic: Transport,
}

#[derive(Debug, Deserialize)]
struct Transport {
    enable: bool,
    server: String,
}

impl Config {
    /// Reads the module's configuration.
    ///
    /// # Errors
    /// When a key is missing or of another type, or not exactly one transport is enabled.
    pub fn read(context: &Context) -> anyhow::Result<Self> {
        context.config::<File>()?.edge_hub.try_into()
    }
}

impl TryFrom<Section> for Config {
    type Error = anyhow::Error;

    fn try_from(Section { websocket, quic }: Section) -> anyhow::Result<Self> {
        let (scheme, server) = match (websocket.enable, quic.enable) {
            (true, false) => ("wss", websocket.server),
            (false, true) => ("quic", quic.server),
            (both, _) => bail!(
                "edgeHub has websocket.enable and quic.enable both {both}, expected one of them"
            ),
        };
        ensure!(!server.is_empty(), "edgeHub names no server for {scheme}, expected host:port");
        Ok(Self { endpoint: format!("{scheme}://{server}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(websocket: bool, quic: bool, server: &str) -> anyhow::Result<Config> {
        let transport = |enable| Transport { enable, server: server.to_owned() };
        Section { websocket: transport(websocket), quic: transport(quic) }.try_into()
    }

    #[test]
    fn the_enabled_transport_makes_the_endpoint() {
        assert_eq!(section(true, false, "cloud:10000").unwrap().endpoint, "wss://cloud:10000");
        assert_eq!(section(false, true, "cloud:10001").unwrap().endpoint, "quic://cloud:10001");
    }

    #[test]
    fn no_transport_two_of_them_and_no_server_are_refused() {
        for (websocket, quic, server) in
            [(true, true, "c:1"), (false, false, "c:1"), (true, false, "")]
        {
            assert!(section(websocket, quic, server).is_err(), "{websocket} {quic} '{server}'");
        }
    }
}
