//! Pods: what they are to be ([`spec`]), what there is of them ([`seen`]), what is to be done
//! ([`plan`]), and how their parts are named ([`names`]).

pub(crate) mod backoff;
pub(crate) mod make;
pub(crate) mod names;
pub(crate) mod plan;
pub(crate) mod seen;
pub(crate) mod spec;
pub(crate) mod volume;

/// Returns what of a pod this node cannot do, for the pod's status.
pub(crate) fn unsupported(pod: &spec::Pod) -> Option<String> {
    let spec = &pod.spec;
    let names = spec.all_containers().map(|container| &container.name);
    let list = [
        (spec.runtime_class_name.is_some(), "runtimeClassName"),
        (spec.host_users == Some(false), "hostUsers: false"),
        (!spec.resource_claims.is_empty(), "resourceClaims"),
        (!spec.ephemeral_containers.is_empty(), "ephemeralContainers"),
        (spec.set_hostname_as_fqdn == Some(true), "setHostnameAsFQDN"),
        (spec.all_containers().any(|it| !it.volume_devices.is_empty()), "volumeDevices"),
    ];
    if let Some(name) = names.into_iter().find(|name| !names::is_plain(name)) {
        return Some(format!("'{name}' is no name of a container"));
    }
    let wanted: Vec<_> = list.iter().filter(|(wanted, _)| *wanted).map(|(_, what)| *what).collect();
    (!wanted.is_empty()).then(|| format!("not supported on this node yet: {}", wanted.join(", ")))
}
