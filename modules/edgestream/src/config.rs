//! The module's configuration: section `edgeStream` of edgecore.yaml, and where the node's own API
//! is; checked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use module_runtime::config::{Check, Invalid};
use module_runtime::net::Endpoint;
use module_runtime::tls::{Files, Identity};
use serde::Deserialize;

/// What the supervisor hands over, as it was typed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Raw {
    #[serde(default)]
    node: String,
    #[serde(default, rename = "nodeIP")]
    node_ip: Option<String>,
    #[serde(default)]
    node_api: RawApi,
    #[serde(default)]
    edge_stream: RawStream,
}

/// Where edged serves, as it was typed.
#[derive(Debug, Default, Deserialize)]
struct RawApi {
    address: Option<String>,
    port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStream {
    handshake_timeout: Option<i64>,
    read_deadline: Option<i64>,
    write_deadline: Option<i64>,
    server: Option<String>,
    #[serde(rename = "tlsTunnelCAFile")]
    tls_tunnel_ca_file: Option<PathBuf>,
    tls_tunnel_cert_file: Option<PathBuf>,
    tls_tunnel_private_key_file: Option<PathBuf>,
}

/// The configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) node: String,
    /// The node's address, where the operator chose it.
    pub(crate) node_ip: Option<IpAddr>,
    /// The node's own API, the only place that is asked for the cloud.
    pub(crate) api: SocketAddr,
    /// The cloud's end of the tunnel.
    pub(crate) server: Endpoint,
    /// Bound on a dial up to the standing tunnel.
    pub(crate) handshake: Duration,
    /// How long the cloud may leave a ping unanswered.
    pub(crate) read_deadline: Duration,
    /// How long a write may make no progress.
    pub(crate) write_deadline: Duration,
    /// The certificates that edgehub keeps.
    pub(crate) tls: Files,
}

/// Takes an address, if there is one.
fn address(check: &mut Check, key: &str, text: Option<&str>) -> Option<IpAddr> {
    let text = text.filter(|text| !text.is_empty())?;
    let address = text.parse().ok();
    if address.is_none() {
        check.wrong(key, &text, "an IP address");
    }
    address
}

/// Returns where to reach a server that listens at `address`.
const fn reachable(address: IpAddr) -> IpAddr {
    if address.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address }
}

impl TryFrom<Raw> for Config {
    type Error = Invalid;

    fn try_from(raw: Raw) -> Result<Self, Invalid> {
        let mut check = Check::default();
        let Raw { node, node_ip, node_api, edge_stream: stream } = raw;
        check.node(&node);
        let api = address(&mut check, "tailoredKubeletConfig.address", node_api.address.as_deref());
        let api = reachable(api.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let port = node_api.port.filter(|port| *port != 0).unwrap_or(10_350);
        let config = Self {
            node,
            node_ip: address(&mut check, "edged.nodeIP", node_ip.as_deref()),
            api: SocketAddr::new(api, port),
            server: check.endpoint("edgeStream.server", stream.server.as_deref(), "host:port"),
            handshake: check.seconds("edgeStream.handshakeTimeout", stream.handshake_timeout, 30),
            read_deadline: check.seconds("edgeStream.readDeadline", stream.read_deadline, 15),
            write_deadline: check.seconds("edgeStream.writeDeadline", stream.write_deadline, 15),
            tls: Files {
                ca: check.file("edgeStream.tlsTunnelCAFile", stream.tls_tunnel_ca_file),
                identity: Some(Identity {
                    certificate: check
                        .file("edgeStream.tlsTunnelCertFile", stream.tls_tunnel_cert_file),
                    key: check.file(
                        "edgeStream.tlsTunnelPrivateKeyFile",
                        stream.tls_tunnel_private_key_file,
                    ),
                }),
            },
        };
        check.done(config)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(stream: &serde_json::Value) -> Result<Config, String> {
        let raw = json!({"node": "edge1", "nodeIP": "", "edgeStream": stream,
            "nodeApi": {"address": "0.0.0.0", "port": 10_350}});
        let raw: Raw = serde_json::from_value(raw).map_err(|error| error.to_string())?;
        Config::try_from(raw).map_err(|error| error.to_string())
    }

    #[test]
    fn keadm_s_section_is_taken() {
        let config = check(&json!({
            "enable": true, "handshakeTimeout": 30, "readDeadline": 0, "server": "[::1]:10004",
            "tlsTunnelCAFile": "/etc/kubeedge/ca/rootCA.crt",
            "tlsTunnelCertFile": "/etc/kubeedge/certs/server.crt",
            "tlsTunnelPrivateKeyFile": "/etc/kubeedge/certs/server.key", "writeDeadline": 7}));
        let config = config.unwrap();
        assert_eq!(config.server.to_string(), "[::1]:10004");
        assert_eq!(config.api.to_string(), "127.0.0.1:10350");
        let deadlines = (config.read_deadline.as_secs(), config.write_deadline.as_secs());
        assert_eq!(deadlines, (15, 7));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let wrong =
            check(&json!({"server": "nowhere", "writeDeadline": -1, "tlsTunnelCAFile": "ca"}));
        let wrong = wrong.unwrap_err();
        for part in
            ["edgeStream.server is \"nowhere\"", "writeDeadline", "tlsTunnelCAFile is \"ca\""]
        {
            assert!(wrong.contains(part), "{wrong}");
        }
    }
}
