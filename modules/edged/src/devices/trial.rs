//! A trial of what a plug-in says: its devices, and what a container needs for them.

use prost::Message as _;

use super::core::{Core, Want, is_extended};
use super::plugin::add;
use super::words as w;
use crate::pod::make::Extra;

const RESOURCE: &str = "example.com/gpu";

/// One message, taken as each that a plug-in can send.
///
/// # Panics
/// When a device is given away twice, or was never there.
pub(crate) fn plugin(message: &[u8]) {
    if let Ok(request) = w::RegisterRequest::decode(message) {
        let is_name = request.resource_name.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(!is_extended(&request.resource_name) || is_name, "{:?}", request.resource_name);
    }
    let mut core = Core::default();
    core.came(RESOURCE, 1).expect("there is room for the first");
    if let Ok(list) = w::ListAndWatchResponse::decode(message) {
        core.listed(RESOURCE, 1, list.devices);
    }
    let want = |uid: &str| Want {
        uid: uid.to_owned(),
        container: "c".to_owned(),
        resource: RESOURCE.to_owned(),
        count: 1,
        before: Vec::new(),
    };
    let rather = w::PreferredAllocationResponse::decode(message).unwrap_or_default();
    let rather = rather.container_responses.into_iter().next().unwrap_or_default().ids;
    let [one, other] = ["a", "b"].map(|uid| core.reserve(&want(uid), &rather).ok().flatten());
    if let (Some(one), Some(other)) = (&one, &other) {
        assert!(one.is_disjoint(other), "{one:?} is given to both");
    }
    let answer = w::AllocateResponse::decode(message).unwrap_or_default();
    let answer = answer.container_responses.into_iter().next();
    if let Some(answer) = answer.clone() {
        let mut extra = Extra::default();
        add(&mut extra, answer.clone());
        let once = extra.mounts.len();
        add(&mut extra, answer);
        assert_eq!(extra.mounts.len(), once, "what is said twice counts once");
    }
    core.settle(&want("a"), answer);
    core.left(RESOURCE, 1, 0);
    assert!(core.release("b") == other.is_some(), "what was given can be taken back");
}
