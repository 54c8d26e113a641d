//! The module's configuration: section `edgeHub` of edgecore.yaml over KubeEdge's defaults, checked.

use std::path::PathBuf;
use std::time::Duration;

use module_runtime::config::{Check, Invalid};
use module_runtime::net::Endpoint;
use serde::Deserialize;

/// What the supervisor hands over, as it was typed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Raw {
    #[serde(default)]
    node: String,
    #[serde(default)]
    token_file: Option<PathBuf>,
    #[serde(default)]
    edge_hub: RawHub,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawHub {
    heartbeat: Option<i64>,
    #[serde(rename = "messageQPS")]
    message_qps: Option<i64>,
    message_burst: Option<i64>,
    #[serde(rename = "projectID")]
    project_id: Option<String>,
    tls_ca_file: Option<PathBuf>,
    tls_cert_file: Option<PathBuf>,
    tls_private_key_file: Option<PathBuf>,
    websocket: Option<RawLink>,
    quic: Option<RawLink>,
    http_server: Option<String>,
    token: Option<String>,
    rotate_certificates: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawLink {
    enable: bool,
    handshake_timeout: Option<i64>,
    read_deadline: Option<i64>,
    write_deadline: Option<i64>,
    server: Option<String>,
}

/// Where the certificates are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The node's name, a DNS subdomain.
    pub(crate) node: String,
    /// KubeEdge's project; a segment of the link's path.
    pub(crate) project: String,
    /// The cloud's WebSocket hub.
    pub(crate) hub: Endpoint,
    /// The cloud's certificate service.
    pub(crate) service: Endpoint,
    /// Pause between two keepalives.
    pub(crate) heartbeat: Duration,
    /// Bound on a dial up to the standing link.
    pub(crate) handshake: Duration,
    /// How long the cloud may leave a probe unanswered.
    pub(crate) read_deadline: Duration,
    /// How long a write may make no progress.
    pub(crate) write_deadline: Duration,
    /// Messages a second, and at once.
    pub(crate) rate: (u32, u32),
    pub(crate) files: Files,
    /// Where keadm leaves a token.
    pub(crate) token_file: Option<PathBuf>,
    /// The token of edgecore.yaml, where it has one.
    pub(crate) token: Option<String>,
    /// Whether certificates are renewed before they expire.
    pub(crate) rotate: bool,
    /// The cloud's QUIC hub, where QUIC was asked for; no current stack can speak CloudCore's.
    pub(crate) quic: Option<Endpoint>,
}

/// Takes a rate; KubeEdge drops every message at 0, which nobody can mean.
fn rate(check: &mut Check, key: &str, value: Option<i64>, default: u32) -> u32 {
    match value {
        None | Some(0) => default,
        Some(value) => {
            u32::try_from(value).ok().filter(|rate| *rate <= 1_000_000).unwrap_or_else(|| {
                check.wrong(key, &value, "a number from 0 (the default) to 1000000");
                default
            })
        }
    }
}

impl TryFrom<Raw> for Config {
    type Error = Invalid;

    fn try_from(raw: Raw) -> Result<Self, Invalid> {
        let mut check = Check::default();
        let Raw { node, token_file, edge_hub: hub } = raw;
        check.node(&node);
        let project = hub.project_id.unwrap_or_default();
        if project.is_empty()
            || !project.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        {
            check.wrong("edgeHub.projectID", &project, "letters, digits, '-', '.' and '_'");
        }
        let websocket = hub.websocket.unwrap_or_default();
        let quic = hub.quic.unwrap_or_default();
        let expected = "host:port";
        let mut server =
            check.endpoint("edgeHub.websocket.server", websocket.server.as_deref(), expected);
        let quic_server = quic
            .enable
            .then(|| check.endpoint("edgeHub.quic.server", quic.server.as_deref(), expected));
        if let Some(quic_server) = &quic_server {
            // keadm then writes the cloud's address to the section of QUIC alone.
            server.host.clone_from(&quic_server.host);
        }
        let link = if quic.enable { &quic } else { &websocket };
        let service = hub
            .http_server
            .as_deref()
            .map(|url| url.strip_prefix("https://").map_or("", |rest| rest.trim_end_matches('/')));
        let config = Self {
            hub: server,
            service: check.endpoint("edgeHub.httpServer", service, "https://host:port"),
            heartbeat: check.seconds("edgeHub.heartbeat", hub.heartbeat, 15),
            handshake: check.seconds(
                "edgeHub.websocket.handshakeTimeout",
                link.handshake_timeout,
                30,
            ),
            read_deadline: check.seconds("edgeHub.websocket.readDeadline", link.read_deadline, 15),
            write_deadline: check.seconds(
                "edgeHub.websocket.writeDeadline",
                link.write_deadline,
                15,
            ),
            rate: (
                rate(&mut check, "edgeHub.messageQPS", hub.message_qps, 30),
                rate(&mut check, "edgeHub.messageBurst", hub.message_burst, 60),
            ),
            files: Files {
                ca: check.file("edgeHub.tlsCaFile", hub.tls_ca_file),
                certificate: check.file("edgeHub.tlsCertFile", hub.tls_cert_file),
                key: check.file("edgeHub.tlsPrivateKeyFile", hub.tls_private_key_file),
            },
            token: hub.token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            rotate: hub.rotate_certificates.unwrap_or(true),
            quic: quic_server,
            node,
            project,
            token_file,
        };
        check.done(config)
    }
}

#[cfg(test)]
mod tests;
