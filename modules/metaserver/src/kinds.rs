//! The resources that are known without asking the cloud: what discovery tells while there is none,
//! how lists are named, and which of them the store holds whole.

/// A resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) short: &'static [&'static str],
    pub(crate) namespaced: bool,
    /// Whether CloudCore sends all that concerns this node unasked, so that the store knows best.
    pub(crate) held: bool,
}

const CORE: Known = Known {
    group: "",
    version: "v1",
    plural: "",
    kind: "",
    short: &[],
    namespaced: true,
    held: false,
};
const DEVICES: Known = Known { group: "devices.kubeedge.io", version: "v1beta1", ..CORE };
const RULES: Known = Known { group: "rules.kubeedge.io", ..CORE };

/// The resources, those of a group one after the other.
pub(crate) const ALL: &[Known] = &[
    Known { plural: "configmaps", kind: "ConfigMap", short: &["cm"], ..CORE },
    Known { plural: "endpoints", kind: "Endpoints", short: &["ep"], ..CORE },
    Known { plural: "events", kind: "Event", short: &["ev"], ..CORE },
    Known { plural: "namespaces", kind: "Namespace", short: &["ns"], namespaced: false, ..CORE },
    Known { plural: "nodes", kind: "Node", short: &["no"], namespaced: false, held: true, ..CORE },
    Known {
        plural: "persistentvolumeclaims",
        kind: "PersistentVolumeClaim",
        short: &["pvc"],
        ..CORE
    },
    Known {
        plural: "persistentvolumes",
        kind: "PersistentVolume",
        short: &["pv"],
        namespaced: false,
        ..CORE
    },
    Known { plural: "pods", kind: "Pod", short: &["po"], held: true, ..CORE },
    Known { plural: "secrets", kind: "Secret", ..CORE },
    Known { plural: "serviceaccounts", kind: "ServiceAccount", short: &["sa"], ..CORE },
    Known { plural: "services", kind: "Service", short: &["svc"], ..CORE },
    Known { group: "apps", plural: "daemonsets", kind: "DaemonSet", short: &["ds"], ..CORE },
    Known { group: "apps", plural: "deployments", kind: "Deployment", short: &["deploy"], ..CORE },
    Known { group: "apps", plural: "replicasets", kind: "ReplicaSet", short: &["rs"], ..CORE },
    Known { group: "apps", plural: "statefulsets", kind: "StatefulSet", short: &["sts"], ..CORE },
    Known { group: "batch", plural: "cronjobs", kind: "CronJob", short: &["cj"], ..CORE },
    Known { group: "batch", plural: "jobs", kind: "Job", ..CORE },
    Known {
        group: "certificates.k8s.io",
        plural: "certificatesigningrequests",
        kind: "CertificateSigningRequest",
        short: &["csr"],
        namespaced: false,
        ..CORE
    },
    Known { group: "coordination.k8s.io", plural: "leases", kind: "Lease", ..CORE },
    Known { plural: "devicemodels", kind: "DeviceModel", held: true, ..DEVICES },
    Known { plural: "devices", kind: "Device", held: true, ..DEVICES },
    Known { group: "discovery.k8s.io", plural: "endpointslices", kind: "EndpointSlice", ..CORE },
    Known {
        group: "networking.k8s.io",
        plural: "ingresses",
        kind: "Ingress",
        short: &["ing"],
        ..CORE
    },
    Known {
        group: "networking.k8s.io",
        plural: "networkpolicies",
        kind: "NetworkPolicy",
        short: &["netpol"],
        ..CORE
    },
    Known {
        group: "policy.kubeedge.io",
        version: "v1alpha1",
        plural: "serviceaccountaccesses",
        kind: "ServiceAccountAccess",
        held: true,
        ..CORE
    },
    Known { plural: "ruleendpoints", kind: "RuleEndpoint", held: true, ..RULES },
    Known { plural: "rules", kind: "Rule", held: true, ..RULES },
    Known {
        group: "storage.k8s.io",
        plural: "storageclasses",
        kind: "StorageClass",
        short: &["sc"],
        namespaced: false,
        ..CORE
    },
    Known {
        group: "storage.k8s.io",
        plural: "volumeattachments",
        kind: "VolumeAttachment",
        namespaced: false,
        ..CORE
    },
];

/// Finds a resource.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Known> {
    let is_it = |it: &&Known| it.group == group && it.version == version && it.plural == plural;
    ALL.iter().find(is_it)
}

/// Returns the groups that have a name, each with its version.
pub(crate) fn groups() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut last = "";
    ALL.iter().filter_map(move |known| {
        let is_new = known.group != last;
        last = known.group;
        is_new.then_some((known.group, known.version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_stands_once() {
        let names: Vec<_> = groups().map(|(group, _)| group).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(!names.contains(&""));
    }
}
