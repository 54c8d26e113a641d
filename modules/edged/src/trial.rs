//! A trial of whatever comes from outside: pods, requests, and what runtimes, plug-ins, containers
//! and their servers say. Fuzz targets and tests put bytes in, which are to be taken or refused
//! within bounds. The module itself has no use for it.

use std::path::Path;

use hyper::{Method, Uri};
use prost::Message;

use crate::cri::words as cri;
use crate::csi::trial as csi;
use crate::devices::trial as devices;
use crate::pod::seen::{Contained, Sandbox};
use crate::pod::spec::Pod;
use crate::pod::trial::take;
use crate::quantity::Quantity;
use crate::store::Entries;
use crate::{api, duration, pod, probes, registry, statics, status};

/// The cloud's pods: one that can be read is taken through all that needs no runtime.
pub fn pods(data: &[u8]) {
    if let Ok(pod) = serde_json::from_slice::<Pod>(data) {
        take(&pod);
    }
}

/// Manifests of static pods.
///
/// # Panics
/// When what is made of one is no pod, or its parts are no names.
pub fn manifests(data: &[u8]) {
    let Ok(found) = statics::parse(data, Path::new("/m.yaml"), "edge1") else { return };
    for container in found.pod.spec.all_containers() {
        assert!(pod::names::is_plain(&container.name), "{:?}", container.name);
    }
    let mirror = statics::mirror(&found.object, ("edge1", "u")).expect("it was an object before");
    let mirror: Pod = serde_json::from_value(mirror).expect("the mirror is a pod as well");
    assert_eq!(statics::mirrored(&mirror), Some(statics::hash(&found.pod)));
    take(&found.pod);
}

/// Requests to the node's API: the first byte chooses the method, the rest is the address.
pub fn node_requests(data: &[u8]) {
    let Some((choice, address)) = data.split_first() else { return };
    let Ok(uri) = Uri::try_from(address) else { return };
    let method = if choice % 2 == 0 { Method::GET } else { Method::POST };
    api::trial::request(&method, &uri);
}

/// What a container writes, as the runtime keeps it: the first bytes choose what is wanted of it.
pub fn container_logs(data: &[u8]) {
    if let [wanted, amount, log @ ..] = data {
        api::trial::log(*wanted, *amount, log);
    }
}

/// What the runtime answers.
pub fn runtime_answers(data: &[u8]) {
    let Some((choice, message)) = data.split_first() else { return };
    match choice % 4 {
        0 => drop(cri::PodSandboxStatus::decode(message).map(Sandbox::from)),
        1 => drop(cri::ContainerStatus::decode(message).map(|it| Contained::new("s".into(), it))),
        2 => drop(cri::ContainerStats::decode(message).map(|it| api::trial::used(&it))),
        _ => drop(cri::ContainerEventResponse::decode(message)),
    }
}

/// What plug-ins of devices and drivers of storage say.
pub fn plugin_answers(data: &[u8]) {
    let Some((choice, message)) = data.split_first() else { return };
    match choice % 2 {
        0 => devices::plugin(message),
        _ => csi::driver(message),
    }
}

/// Small words of objects and of servers: amounts, durations, times, images, redirections, and
/// credentials with a zero between them and the image.
///
/// # Panics
/// When a number is not the same however often it is written.
pub fn small_words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(quantity) = Quantity::parse(text) {
        assert!(quantity.milli() >= quantity.units().saturating_sub(1), "{text} is rounded up");
    }
    let _seconds = duration::parse(text);
    if let Some(millis) = status::millis(text) {
        let seconds = status::rfc3339(millis);
        assert_eq!(status::millis(&seconds).map(|it| it / 1000), Some(millis.div_euclid(1000)));
    }
    probes::trial::redirection(text);
    if let Some((secret, image)) = text.split_once('\0') {
        for key in [".dockerconfigjson", ".dockercfg"] {
            let secret = Entries::from([(key.to_owned(), secret.as_bytes().to_vec())]);
            let _logins = registry::credentials(&secret, image);
        }
    }
}
