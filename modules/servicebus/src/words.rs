//! What the cloud's router and the node's applications write and read (WIRE.md §8.3).

use std::collections::BTreeMap;

use data_encoding::BASE64;
use ipc_proto::{Content, Resource};
use serde::{Deserialize, Serialize};

/// The largest body, in bytes; KubeEdge's own bound.
pub(crate) const MAX_BODY: usize = 5_000_000;

/// Headers by name, as Go's library has them.
pub(crate) type Headers = BTreeMap<String, Vec<String>>;

/// A call of the cloud to a service of the node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The service's port.
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

/// A reply for the cloud.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Makes a reply that says what went wrong.
    pub(crate) fn error(status: u16, why: &str) -> Self {
        let server = ("Server".to_owned(), vec!["kubeedge-edgecore".to_owned()]);
        Self { status, headers: Headers::from([server]), body: why.as_bytes().to_vec() }
    }

    /// Writes it as the router reads it.
    pub(crate) fn content(&self) -> Content {
        #[derive(Serialize)]
        struct Wire<'a> {
            header: &'a Headers,
            status_code: u16,
            body: String,
        }
        let body = BASE64.encode(&self.body);
        let wire = Wire { header: &self.headers, status_code: self.status, body };
        Content::encode(&wire).unwrap_or(Content::NULL)
    }
}

/// Reads a call.
///
/// # Errors
/// The reply that says what is wrong with it.
pub(crate) fn call(resource: &Resource, content: &Content) -> Result<Call, Reply> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        header: Option<Headers>,
        #[serde(default)]
        body: Option<String>,
        #[serde(default)]
        method: Option<String>,
    }
    let text = resource.to_string();
    let parts: Vec<&str> = text.split(':').collect();
    let (port, path) = match parts[..] {
        [port, path] => (port.parse().ok(), path),
        _ => (None, ""),
    };
    let Some(port) = port.filter(|port| *port != 0 && is_path(path)) else {
        let shown: String = text.chars().take(200).collect();
        return Err(Reply::error(400, &format!("the format of resource {shown} is incorrect")));
    };
    let Ok(wire) = content.decode::<Wire>() else {
        return Err(Reply::error(400, "error to parse http request"));
    };
    let body = wire.body.unwrap_or_default();
    let Ok(body) = BASE64.decode(body.as_bytes()) else {
        return Err(Reply::error(400, "error to parse http request"));
    };
    let method = wire.method.filter(|method| !method.is_empty());
    let method = method.unwrap_or_else(|| "GET".to_owned());
    Ok(Call { port, path: path.to_owned(), method, headers: wire.header.unwrap_or_default(), body })
}

/// Tells whether a text can stand behind `host:port` in a URL: nothing in it may become a part of
/// the host.
fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// What an application asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The URL of a rule.
    pub(crate) target: String,
}

/// Reads what an application asks for. Names of fields are taken in any letter case, as Go does.
pub(crate) fn request(body: &[u8]) -> Option<Request> {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let field = |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    let text = |name: &str| match field(name).map(|(_, value)| value) {
        None | Some(serde_json::Value::Null) => Some(String::new()),
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(_) => None,
    };
    text("method")?;
    Some(Request { target: text("targetURL")? })
}

/// Writes the answer for an application.
pub(crate) fn answer(code: u16, message: &str, body: &str) -> String {
    #[derive(Serialize)]
    struct Wire<'a> {
        code: u16,
        msg: &'a str,
        body: &'a str,
    }
    serde_json::to_string(&Wire { code, msg: message, body }).unwrap_or_default()
}

/// Writes an application's whole request as the cloud gets it: as Go writes bytes.
pub(crate) fn upload(body: &[u8]) -> Content {
    Content::text(&BASE64.encode(body))
}

/// Takes a body: the letters of a text, else the JSON as it stands.
pub(crate) fn body(content: &Content) -> String {
    content
        .decode::<String>()
        .unwrap_or_else(|_| String::from_utf8_lossy(content.raw()).into_owned())
}

/// Returns the spellings of a URL that a rule may be ended by: CloudCore cleans it like a path then
/// and loses a slash (WIRE.md §8.2).
pub(crate) fn spellings(url: &str) -> Vec<String> {
    let mut spellings = vec![url.to_owned()];
    if let Some((scheme, rest)) = url.split_once(":/")
        && !rest.starts_with('/')
    {
        spellings.push(format!("{scheme}://{rest}"));
        spellings.push(format!("{scheme}://{rest}/"));
    }
    spellings
}

#[cfg(test)]
mod tests;
