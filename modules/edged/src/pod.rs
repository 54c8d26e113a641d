//! Pods: what they are to be ([`spec`]), what there is of them ([`seen`]), what is to be done
//! ([`plan`]), and how their parts are named ([`names`]).

pub(crate) mod backoff;
#[cfg(test)]
mod hostile;
pub(crate) mod last;
pub(crate) mod make;
pub(crate) mod names;
pub(crate) mod placement;
pub(crate) mod plan;
pub(crate) mod seen;
pub(crate) mod spec;
pub(crate) mod volume;
pub(crate) mod why;

/// Returns what of a pod this node cannot do, for the pod's status.
pub(crate) fn unsupported(pod: &spec::Pod) -> Option<String> {
    let spec = &pod.spec;
    let all = || spec.all_containers();
    if let Some(bad) = all().map(|it| &it.name).find(|name| !names::is_plain(name)) {
        return Some(format!("'{bad}' is no name of a container"));
    }
    let of_pod = spec.security_context.as_ref();
    let of_own = || all().filter_map(|it| it.security_context.as_ref());
    let confined = |profile: &Option<spec::Profile>| {
        profile.as_ref().is_some_and(|profile| profile.r#type == "Localhost")
    };
    let list = [
        (spec.runtime_class_name.is_some(), "runtimeClassName"),
        (spec.host_users == Some(false), "hostUsers: false"),
        (!spec.resource_claims.is_empty(), "resourceClaims"),
        (!spec.ephemeral_containers.is_empty(), "ephemeralContainers"),
        (all().any(|it| !it.volume_devices.is_empty()), "volumeDevices"),
        (
            all()
                .flat_map(|it| &it.volume_mounts)
                .any(|it| it.recursive_read_only.as_deref() == Some("Enabled")),
            "recursiveReadOnly: Enabled",
        ),
        (
            of_pod.is_some_and(|it| it.se_linux_options.is_some())
                || of_own().any(|it| it.se_linux_options.is_some()),
            "seLinuxOptions",
        ),
        (
            of_pod.is_some_and(|it| confined(&it.app_armor_profile))
                || of_own().any(|it| confined(&it.app_armor_profile)),
            "appArmorProfile of type Localhost",
        ),
    ];
    let wanted: Vec<_> = list.iter().filter(|(wanted, _)| *wanted).map(|(_, what)| *what).collect();
    (!wanted.is_empty()).then(|| format!("not supported on this node yet: {}", wanted.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pod: &str) -> Option<String> {
        unsupported(&serde_json::from_str(pod).unwrap())
    }

    #[test]
    fn what_is_not_there_yet_is_named() {
        let all = said(
            r#"{"spec":{"runtimeClassName":"x","containers":[{"name":"c","securityContext":{"seLinuxOptions":{"level":"s0"}}}]}}"#,
        );
        let all = all.unwrap_or_default();
        for word in ["runtimeClassName", "seLinuxOptions"] {
            assert!(all.contains(word), "{word} is missing in: {all}");
        }
        assert_eq!(said(r#"{"spec":{"containers":[{"name":"c"}]}}"#), None);
        assert!(said(r#"{"spec":{"containers":[{"name":"../c"}]}}"#).is_some());
    }
}
