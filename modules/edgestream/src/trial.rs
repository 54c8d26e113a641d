//! A trial of what the cloud asks through the tunnel: fuzz targets and tests put frames in, which
//! are to open what may be opened and nothing else. The module itself has no use for it.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::core::{Effect, MAX_SESSIONS, Sessions};
use crate::request::Manner;
use crate::words::Frame;

/// Where the node's API is.
const API: &str = "127.0.0.1:10350";

/// Frames of one tunnel, with their lengths of two bytes before them.
///
/// # Panics
/// When a request could be read as another by the node, or there are more sessions than there may be.
pub fn sessions(mut data: &[u8]) {
    let mut sessions = Sessions::new(API.to_owned());
    let mut open = BTreeSet::new();
    while let [high, low, rest @ ..] = data {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (frame, behind) = rest.split_at(length);
        data = behind;
        let Some(frame) = Frame::read(Bytes::copy_from_slice(frame)) else { continue };
        for effect in sessions.came(frame) {
            match effect {
                Effect::Open(connection, life, request) => {
                    assert!(open.insert((connection, life)), "a life is opened once");
                    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
                    let target = &request.target;
                    assert!(target.starts_with('/') && target.bytes().all(is_plain), "{target:?}");
                    let path = target.split('?').next().unwrap_or_default();
                    assert!(path.split('/').all(|part| !matches!(part, "." | "..")), "{path:?}");
                    let length = request.headers.contains_key("content-length");
                    assert!(!length && !request.headers.contains_key("transfer-encoding"));
                    let upgrade = request.headers.contains_key("upgrade");
                    assert!(!upgrade || request.manner == Manner::Upgrade);
                }
                Effect::Feed(connection, _) | Effect::Drop(connection) => {
                    assert!(open.iter().any(|(of, _)| *of == connection), "it was opened");
                }
                Effect::Say(..) | Effect::Leave(_) => {}
            }
        }
        assert!(sessions.len() <= MAX_SESSIONS, "{} sessions", sessions.len());
    }
}
