//! A trial of what a driver of storage says of itself.

use std::path::{Component, Path};

use prost::Message as _;

use super::place::Spot;
use super::words as w;
use crate::pod::names::is_plain;

/// One message, taken as each that a driver can send.
///
/// # Panics
/// When a name that is taken leads out of its folder.
pub(crate) fn driver(message: &[u8]) {
    let _known = w::NodeGetInfoResponse::decode(message);
    let _can = w::NodeGetCapabilitiesResponse::decode(message);
    let Ok(info) = w::PluginInfo::decode(message) else { return };
    if is_plain(&info.name) {
        let root = Path::new("/r/plugins/kubernetes.io/csi");
        let volume = ("pv", info.name.as_str(), info.endpoint.as_str());
        let path = Spot::new((Path::new("/r"), "u"), volume, false).staged;
        let rest = path.strip_prefix(root).expect("volumes are in their folder");
        assert!(rest.components().all(|part| matches!(part, Component::Normal(_))), "{rest:?}");
    }
}
