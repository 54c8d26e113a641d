//! What the cloud may ask of the node: the paths of kubelet's API that CloudCore forwards, at the
//! node's own API and nowhere else. Whoever has taken the cloud over must not reach through this
//! module what else listens on the node or in its network.

use bytes::{BufMut, Bytes, BytesMut};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::words::{Connect, Kind, Url};

/// Where CloudCore says that the node's API is, whatever the node's configuration says.
const CLOUD_HOST: &str = "127.0.0.1:10350";

/// The longest query: that of a command whose arguments a shell could not take longer.
const MAX_QUERY: usize = 256 * 1024;

/// The most headers.
const MAX_HEADERS: usize = 128;

/// How the node is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// A request whose answer's body is wanted.
    Get,
    /// A connection that is handed over after the request.
    Upgrade,
}

/// A request that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) manner: Manner,
    pub(crate) method: &'static str,
    /// Path and query.
    pub(crate) target: String,
    /// Without those of one connection only.
    pub(crate) headers: HeaderMap,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request cannot be read: {0}")]
    Unreadable(String),
    #[error("the request is for {0}, expected the node's own API")]
    Host(String),
    #[error("the path {0:?} is none that the tunnel serves")]
    Path(String),
    #[error("the query is over {MAX_QUERY} bytes, or has letters that a query has not")]
    Query,
    #[error("the method is {0:?}, expected GET or POST")]
    Method(String),
    #[error("the header {0:?} is none, or there are over {MAX_HEADERS}")]
    Header(String),
}

/// Reads and checks what the cloud asks. `api` is the address of the node's API.
///
/// # Errors
/// Why it is refused.
pub(crate) fn check(kind: Kind, json: &[u8], api: &str) -> Result<Request, Refusal> {
    let connect: Connect =
        serde_json::from_slice(json).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let Connect { url, header, method } = connect;
    let Url { scheme, opaque, host, path, raw_path, raw_query } = url;
    if scheme != "http" || !opaque.is_empty() || (host != CLOUD_HOST && host != api) {
        return Err(Refusal::Host(quoted(&format!("{scheme}://{host}"))));
    }
    if !(raw_path.is_empty() || raw_path == path) || !is_served(kind, &path) {
        return Err(Refusal::Path(quoted(&path)));
    }
    let is_query = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if raw_query.len() > MAX_QUERY || !raw_query.bytes().all(is_query) {
        return Err(Refusal::Query);
    }
    let target = if raw_query.is_empty() { path } else { format!("{path}?{raw_query}") };
    let upgrade = matches!(kind, Kind::Exec | Kind::Attach);
    let method = match (upgrade, method.as_str()) {
        (false, _) | (true, "GET") => "GET",
        (true, "POST") => "POST",
        (true, other) => return Err(Refusal::Method(quoted(other))),
    };
    let mut headers = HeaderMap::new();
    for (name, values) in header.unwrap_or_default() {
        for value in values {
            add(&mut headers, &name, &value, upgrade)?;
        }
    }
    let manner = if upgrade { Manner::Upgrade } else { Manner::Get };
    Ok(Request { manner, method, target, headers })
}

/// Adds a header, unless it is about one connection or body: those are written anew, so that no
/// request can hide in another.
fn add(headers: &mut HeaderMap, name: &str, value: &str, upgrade: bool) -> Result<(), Refusal> {
    const OWN: [&str; 10] = [
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "keep-alive",
        "expect",
        "proxy-connection",
        "proxy-authorization",
    ];
    let wrong = || Refusal::Header(quoted(name));
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
    // The cloud does not pass the answer's headers on, so nobody could know how it is packed.
    let packed = header == "accept-encoding";
    let switch = header == "upgrade" && !upgrade;
    if OWN.contains(&header.as_str()) || packed || switch {
        return Ok(());
    }
    if headers.len() >= MAX_HEADERS {
        return Err(wrong());
    }
    headers.append(header, value);
    Ok(())
}

/// Tells whether a path is one that CloudCore forwards for this kind (WIRE.md §9.4). Names of
/// Kubernetes need no escapes, so none are let through.
fn is_served(kind: Kind, path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else { return false };
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..")
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let segments: Vec<_> = segments.split('/').collect();
    if !segments.iter().all(|segment| is_name(segment)) {
        return false;
    }
    match (kind, &*segments) {
        (Kind::Logs, ["containerLogs", _, _, _])
        | (Kind::Exec, ["exec", _, _, _] | ["exec", _, _, _, _])
        | (Kind::Attach, ["attach", _, _, _] | ["attach", _, _, _, _])
        | (Kind::Metrics, ["metrics"] | ["metrics", "cadvisor" | "probes" | "resource"]) => true,
        (Kind::Metrics, ["stats", rest @ ..]) => rest.len() <= 4,
        _ => false,
    }
}

/// Returns a text of others for a message: one line, bounded.
fn quoted(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(200).collect()
}

impl Request {
    /// Writes the head of a request whose connection is handed over.
    pub(crate) fn head(&self, api: &str) -> Bytes {
        let Self { method, target, headers, .. } = self;
        let mut head = BytesMut::new();
        head.put_slice(format!("{method} {target} HTTP/1.1\r\nHost: {api}\r\n").as_bytes());
        if headers.contains_key("upgrade") {
            head.put_slice(b"Connection: Upgrade\r\n");
        } else {
            head.put_slice(b"Connection: close\r\n");
        }
        if *method == "POST" {
            head.put_slice(b"Content-Length: 0\r\n");
        }
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.put_slice(part);
            }
        }
        head.put_slice(b"\r\n");
        head.freeze()
    }
}

#[cfg(test)]
mod tests;
