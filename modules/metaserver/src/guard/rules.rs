//! What a service account may: the roles that CloudCore sends along with it (WIRE.md §5.9), judged
//! as Kubernetes' role-based access control does. Pure.

use serde::Deserialize;

use super::User;
use crate::path::{Target, Verb};

/// An object of kind `ServiceAccountAccess`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Access {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    service_account: Named,
    service_account_uid: String,
    access_role_binding: Option<Vec<InNamespace>>,
    access_cluster_role_binding: Option<Vec<InCluster>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct InNamespace {
    role_binding: Binding,
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct InCluster {
    cluster_role_binding: Binding,
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Binding {
    metadata: Metadata,
    subjects: Option<Vec<Subject>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    verbs: Vec<String>,
    api_groups: Option<Vec<String>>,
    resources: Option<Vec<String>>,
    resource_names: Option<Vec<String>>,
}

impl Access {
    /// Tells whether it is about this service account.
    pub(super) fn is_of(&self, namespace: &str, name: &str, uid: &str) -> bool {
        self.metadata.namespace == namespace
            && self.spec.service_account.metadata.name == name
            && !uid.is_empty()
            && self.spec.service_account_uid == uid
    }

    /// Tells whether one of its roles lets a user do something.
    pub(super) fn allows(&self, user: &User, verb: Verb, target: &Target) -> bool {
        let passes = |binding: &Binding, rules: &Option<Vec<Rule>>| {
            binding.holds_for(user) && rules.iter().flatten().any(|rule| rule.allows(verb, target))
        };
        let here = |binding: &Binding| {
            let namespace = target.namespace.as_deref();
            namespace.is_some_and(|namespace| binding.metadata.namespace == namespace)
        };
        let in_cluster = self.spec.access_cluster_role_binding.iter().flatten();
        let in_namespace = self.spec.access_role_binding.iter().flatten();
        in_cluster.into_iter().any(|it| passes(&it.cluster_role_binding, &it.rules))
            || in_namespace
                .into_iter()
                .any(|it| here(&it.role_binding) && passes(&it.role_binding, &it.rules))
    }
}

impl Binding {
    fn holds_for(&self, user: &User) -> bool {
        let is_them = |subject: &Subject| match &*subject.kind {
            "User" => subject.name == user.name,
            "Group" => user.groups.contains(&subject.name),
            "ServiceAccount" => {
                let namespace = match &*subject.namespace {
                    "" => &self.metadata.namespace,
                    named => named,
                };
                let account = user.name.strip_prefix("system:serviceaccount:");
                let account = account.and_then(|account| account.split_once(':'));
                !namespace.is_empty() && account == Some((namespace, &subject.name))
            }
            _ => false,
        };
        self.subjects.iter().flatten().any(is_them)
    }
}

impl Rule {
    fn allows(&self, verb: Verb, target: &Target) -> bool {
        let has = |list: &[String], word: &str| list.iter().any(|it| it == "*" || it == word);
        let (groups, resources) = (self.api_groups.as_deref(), self.resources.as_deref());
        has(&self.verbs, verb.word())
            && has(groups.unwrap_or_default(), &target.group)
            && resources.unwrap_or_default().iter().any(|it| is_about(it, target))
            && self.names_allow(target)
    }

    fn names_allow(&self, target: &Target) -> bool {
        let names = self.resource_names.as_deref().unwrap_or_default();
        names.is_empty() || target.name.as_ref().is_some_and(|name| names.contains(name))
    }
}

/// Tells whether a rule's resource, such as `pods`, `pods/log`, `*/status` or `*`, is what is asked
/// for.
fn is_about(resource: &str, target: &Target) -> bool {
    if resource == "*" {
        return true;
    }
    let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    subresource == target.subresource
        && (plural == target.plural || plural == "*" && !subresource.is_empty())
}

#[cfg(test)]
mod tests;
