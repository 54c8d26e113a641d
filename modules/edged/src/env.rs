//! The environment of a container: its variables from the pod's fields, config maps and secrets,
//! and `$(NAME)` in its texts. Pure: what is needed is named first and handed in then.

pub(crate) mod services;

use std::collections::BTreeMap;

use ipc_proto::Kind;

use crate::pod::spec::{Container, FieldRef, KeyRef, Pod, Quantity, ResourceFieldRef};
use crate::store::Entries;
use services::Links;

/// What is known about the node and the pod's place on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) node: String,
    pub(crate) host_ips: Vec<String>,
    pub(crate) pod_ips: Vec<String>,
    /// What all pods together may use, in thousandths of a core.
    pub(crate) cpu: i64,
    /// What all pods together may use, in bytes.
    pub(crate) memory: i64,
}

/// A config map or a secret, by type and name.
pub(crate) type Need = (Kind, String);

/// What was found of what is needed; nothing for what does not exist.
pub(crate) type Found = BTreeMap<String, Option<Entries>>;

/// Returns the key of a need in [`Found`].
pub(crate) fn key(kind: &Kind, name: &str) -> String {
    format!("{kind}/{name}")
}

/// Returns what has to be found for a container's environment.
pub(crate) fn needs(container: &Container) -> Vec<Need> {
    let mut needs = Vec::new();
    for from in &container.env_from {
        needs.extend(from.config_map_ref.iter().map(|it| (Kind::ConfigMap, it.name.clone())));
        needs.extend(from.secret_ref.iter().map(|it| (Kind::Secret, it.name.clone())));
    }
    for from in container.env.iter().filter_map(|env| env.value_from.as_ref()) {
        needs.extend(from.config_map_key_ref.iter().map(|it| (Kind::ConfigMap, it.name.clone())));
        needs.extend(from.secret_key_ref.iter().map(|it| (Kind::Secret, it.name.clone())));
    }
    needs.sort_by_key(|(kind, name)| key(kind, name));
    needs.dedup();
    needs
}

/// Makes a container's variables, in order: its own, and those of the services that it does not set
/// itself.
///
/// # Errors
/// What is missing, as kubelet says it.
pub(crate) fn variables(
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    found: &Found,
    links: &Links,
) -> Result<Vec<(String, String)>, String> {
    let mut variables = Variables::default();
    for from in &container.env_from {
        let references = [
            (Kind::ConfigMap, from.config_map_ref.as_ref()),
            (Kind::Secret, from.secret_ref.as_ref()),
        ];
        for (kind, reference) in references {
            let Some(reference) = reference else { continue };
            match found.get(&key(&kind, &reference.name)) {
                Some(Some(entries)) => variables.all(&from.prefix, entries),
                _ if reference.optional => {}
                _ => return Err(format!("{kind} \"{}\" not found", reference.name)),
            }
        }
    }
    for env in &container.env {
        let value = match &env.value_from {
            None => {
                let lookup = |name: &str| variables.get(name).or_else(|| links.get(name).cloned());
                Some(expand(&env.value, lookup))
            }
            Some(from) => {
                if let Some(field) = &from.field_ref {
                    Some(field_value(pod, field, facts)?)
                } else if let Some(resource) = &from.resource_field_ref {
                    Some(resource_value(pod, container, resource, facts)?)
                } else if let Some(reference) = &from.config_map_key_ref {
                    one(&pod.metadata.namespace, &Kind::ConfigMap, reference, found)?
                } else if let Some(reference) = &from.secret_key_ref {
                    one(&pod.metadata.namespace, &Kind::Secret, reference, found)?
                } else {
                    return Err(format!("environment variable {} has no known source", env.name));
                }
            }
        };
        if let Some(value) = value {
            variables.set(&env.name, value);
        }
    }
    for (name, value) in links {
        if variables.get(name).is_none() {
            variables.set(name, value.clone());
        }
    }
    Ok(variables.0)
}

#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Sets all entries; a name that no process could have is left out.
    fn all(&mut self, prefix: &str, entries: &Entries) {
        for (name, value) in entries {
            let name = format!("{prefix}{name}");
            if !name.is_empty() && !name.contains(['=', '\0']) {
                self.set(&name, String::from_utf8_lossy(value).into_owned());
            }
        }
    }
}

/// Returns one entry of a config map or secret.
fn one(
    namespace: &str,
    kind: &Kind,
    reference: &KeyRef,
    found: &Found,
) -> Result<Option<String>, String> {
    let KeyRef { name, key: wanted, optional } = reference;
    match found.get(&key(kind, name)) {
        Some(Some(entries)) => match entries.get(wanted) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if *optional => Ok(None),
            None => {
                let kind = if *kind == Kind::Secret { "Secret" } else { "ConfigMap" };
                Err(format!("couldn't find key {wanted} in {kind} {namespace}/{name}"))
            }
        },
        _ if *optional => Ok(None),
        _ => Err(format!("{kind} \"{name}\" not found")),
    }
}

/// Puts values in the place of `$(NAME)`. What is unknown stays as it is; `$$` is one `$`.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            expanded.push_str(&lookup(name).unwrap_or_else(|| format!("$({name})")));
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}

/// Returns a field of the pod.
///
/// # Errors
/// When there is no such field to be asked for.
pub(crate) fn field_value(pod: &Pod, field: &FieldRef, facts: &Facts) -> Result<String, String> {
    let metadata = &pod.metadata;
    let path = field.field_path.as_str();
    let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        "spec.nodeName" => facts.node.clone(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => facts.pod_ips.join(","),
        other => {
            let keyed = |map: &str| other.strip_prefix(map)?.strip_prefix("['")?.strip_suffix("']");
            let texts = match (keyed("metadata.labels"), keyed("metadata.annotations")) {
                (Some(key), _) => metadata.labels.as_ref().and_then(|labels| labels.get(key)),
                (_, Some(key)) => metadata.annotations.as_ref().and_then(|texts| texts.get(key)),
                (None, None) => return Err(format!("unsupported fieldPath: {other}")),
            };
            texts.cloned().unwrap_or_default()
        }
    })
}

/// Writes texts by name as kubelet writes them into a file: one line each, quoted.
fn lines(texts: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = texts
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", serde_json::Value::from(value.as_str())))
        .collect();
    lines.join("\n")
}

/// Returns what a container may use, in units of the divisor.
///
/// # Errors
/// When there is no such resource to be asked for.
pub(crate) fn resource_value(
    pod: &Pod,
    container: &Container,
    field: &ResourceFieldRef,
    facts: &Facts,
) -> Result<String, String> {
    let name = &field.container_name;
    let container = if name.is_empty() {
        container
    } else {
        pod.spec.container(name).ok_or_else(|| format!("container {name} not found"))?
    };
    let unsupported = || format!("unsupported container resource: {}", field.resource);
    let (list, resource) = field.resource.split_once('.').ok_or_else(unsupported)?;
    let limits = &container.resources.limits;
    let own = match list {
        "limits" => limits.get(resource),
        "requests" => container.resources.requests.get(resource).or_else(|| limits.get(resource)),
        _ => return Err(unsupported()),
    };
    let whole = || {
        let text = match (list, resource) {
            ("limits", "cpu") => format!("{}m", facts.cpu),
            ("limits", "memory") => facts.memory.to_string(),
            _ => "0".to_owned(),
        };
        Quantity::parse(&text).unwrap_or_default()
    };
    if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") {
        return Err(unsupported());
    }
    let quantity = own.copied().unwrap_or_else(whole);
    Ok(quantity.divided(field.divisor.unwrap_or_default()).to_string())
}

#[cfg(test)]
mod tests;
