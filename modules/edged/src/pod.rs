//! Pods: what they are to be ([`spec`]), what there is of them ([`seen`]), what is to be done
//! ([`plan`]), and how their parts are named ([`names`]).

pub(crate) mod amounts;
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
pub(crate) mod sysctl;
pub(crate) mod trial;
pub(crate) mod volume;
pub(crate) mod why;

/// Returns what of a pod this node cannot do, for the pod's status.
pub(crate) fn unsupported(pod: &spec::Pod) -> Option<String> {
    let spec = &pod.spec;
    let all = || spec.all_containers();
    let names = || all().chain(&spec.ephemeral_containers).map(|it| &it.name);
    if let Some(bad) = names().find(|name| !names::is_plain(name)) {
        return Some(format!("'{bad}' is no name of a container"));
    }
    let list = [
        (spec.host_users == Some(false), "hostUsers: false"),
        (!spec.resource_claims.is_empty(), "resourceClaims"),
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
        let all = said(r#"{"spec":{"hostUsers":false,"resourceClaims":[{}]}}"#);
        let all = all.unwrap_or_default();
        for word in ["hostUsers", "resourceClaims"] {
            assert!(all.contains(word), "{word} is missing in: {all}");
        }
        assert_eq!(said(r#"{"spec":{"containers":[{"name":"c"}]}}"#), None);
        assert!(said(r#"{"spec":{"containers":[{"name":"../c"}]}}"#).is_some());
    }
}
