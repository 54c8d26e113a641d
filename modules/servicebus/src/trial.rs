//! A trial of what comes from the cloud's router and from applications: fuzz targets and tests put
//! bytes in, which are to be taken or refused. The module itself has no use for it.

use bytes::Bytes;
use ipc_proto::{Content, Group, Resource};

use crate::words;

/// A call: the resource, a zero, and the content; and the same bytes as an application's request.
///
/// # Panics
/// When a call leads elsewhere than to a port of this node, or a reply cannot be read.
pub fn calls(data: &[u8]) {
    if let Some(request) = words::request(data) {
        assert!(words::spellings(&request.target).contains(&request.target));
    }
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let Ok(resource) = std::str::from_utf8(&data[..at]) else { return };
    let content = Content::from_raw(Bytes::copy_from_slice(data.get(at + 1..).unwrap_or_default()));
    let _text = words::body(&content);
    let reply = match words::call(&Resource::parse(&Group::User, resource), &content) {
        Ok(call) => {
            let url = format!("http://127.0.0.1:{}{}", call.port, call.path);
            if let Ok(uri) = url.parse::<hyper::Uri>() {
                assert_eq!((uri.host(), uri.port_u16()), (Some("127.0.0.1"), Some(call.port)));
            }
            words::Reply { status: 200, headers: call.headers, body: call.body }
        }
        Err(reply) => reply,
    };
    let written = reply.content();
    assert!(serde_json::from_slice::<serde_json::Value>(written.raw()).is_ok(), "it is JSON");
}
