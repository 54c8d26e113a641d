//! The kinds of objects that the cluster knows: how the wire, the API and error texts name them.

/// One kind.
#[derive(Debug)]
pub struct KindNames {
    /// The wire's word, lower case: `configmap`.
    pub word: &'static str,
    /// The API's name: `ConfigMap`.
    pub kind: &'static str,
    /// The API's plural: `configmaps`.
    pub plural: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The API version within the group.
    pub version: &'static str,
    /// Whether the objects belong to the cluster and not to a namespace.
    pub cluster: bool,
}

impl KindNames {
    /// Returns the `apiVersion` of objects of this kind.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Returns the plural as error texts qualify it: `leases.coordination.k8s.io`.
    #[must_use]
    pub fn qualified(&self) -> String {
        qualify(self.plural, self.group)
    }
}

/// Returns a resource name as error texts write it, with its group where it has one.
#[must_use]
pub fn qualify(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// Finds a kind by the wire's word.
#[must_use]
pub fn by_word(word: &str) -> Option<&'static KindNames> {
    KINDS.iter().find(|names| names.word == word)
}

/// Finds a kind by group and plural, as the paths of the API name it.
#[must_use]
pub fn by_plural(group: &str, plural: &str) -> Option<&'static KindNames> {
    KINDS.iter().find(|names| names.plural == plural && names.group == group)
}

/// Declares the table: kind, plural, group, version, whether it belongs to the cluster. The wire's
/// word is the kind in lower case.
macro_rules! kinds {
    ($($word:literal $kind:literal $plural:literal $group:literal $version:literal $cluster:literal,)*) => {
        &[$(KindNames {
            word: $word,
            kind: $kind,
            plural: $plural,
            group: $group,
            version: $version,
            cluster: $cluster,
        }),*]
    };
}

/// All kinds. Objects of other kinds are kept too; they then live in a namespace.
pub const KINDS: &[KindNames] = kinds! {
    "node" "Node" "nodes" "" "v1" true,
    "namespace" "Namespace" "namespaces" "" "v1" true,
    "persistentvolume" "PersistentVolume" "persistentvolumes" "" "v1" true,
    "pod" "Pod" "pods" "" "v1" false,
    "configmap" "ConfigMap" "configmaps" "" "v1" false,
    "secret" "Secret" "secrets" "" "v1" false,
    "serviceaccount" "ServiceAccount" "serviceaccounts" "" "v1" false,
    "persistentvolumeclaim" "PersistentVolumeClaim" "persistentvolumeclaims" "" "v1" false,
    "service" "Service" "services" "" "v1" false,
    "endpoints" "Endpoints" "endpoints" "" "v1" false,
    "event" "Event" "events" "" "v1" false,
    "endpointslice" "EndpointSlice" "endpointslices" "discovery.k8s.io" "v1" false,
    "destinationrule" "DestinationRule" "destinationrules" "networking.istio.io" "v1alpha3" false,
    "lease" "Lease" "leases" "coordination.k8s.io" "v1" false,
    "volumeattachment" "VolumeAttachment" "volumeattachments" "storage.k8s.io" "v1" true,
    "certificatesigningrequest" "CertificateSigningRequest" "certificatesigningrequests" "certificates.k8s.io" "v1" true,
    "device" "Device" "devices" "devices.kubeedge.io" "v1beta1" false,
    "devicemodel" "DeviceModel" "devicemodels" "devices.kubeedge.io" "v1beta1" false,
    "devicestatus" "DeviceStatus" "devicestatuses" "devices.kubeedge.io" "v1beta1" false,
    "serviceaccountaccess" "ServiceAccountAccess" "serviceaccountaccesses" "policy.kubeedge.io" "v1alpha1" false,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_its_kind_in_lower_case() {
        for names in KINDS {
            assert_eq!(names.kind.to_lowercase(), names.word);
        }
    }
}
