//! Events: written down in silence, as the real cloud does.

use ipc_proto::Operation;
use serde_json::Value;

use super::super::cluster::fields;
use super::super::merge;
use super::{Call, Request};

/// Takes an event. Nobody answers, whatever comes of it.
pub(super) fn take(call: &mut Call<'_>, operation: &Operation, request: Request) {
    let Request { key, mut body } = request;
    let cluster = &mut call.cloud.cluster;
    let kept = if *operation == Operation::Patch {
        let text = body["patchData"].as_str().unwrap_or_default();
        let Ok(patch) = serde_json::from_str::<Value>(text) else { return };
        cluster.modify(&key, |event| merge::strategic(event, &patch)).map(drop)
    } else {
        fields(&mut body).insert("kind".to_owned(), "Event".into());
        fields(&mut body).insert("apiVersion".to_owned(), "v1".into());
        cluster.apply(call.now, body).map(drop)
    };
    // An event of an object that is gone, or one event too many, is no reason to fail.
    kept.unwrap_or_default();
}
