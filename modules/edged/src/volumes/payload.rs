//! The files that a volume holds. Pure: what is needed is named first and handed in then.

use std::collections::BTreeMap;

use ipc_proto::Kind;

use crate::env::{self, Facts, Found, Need};
use crate::pod::spec::{Container, Item, Pod, Volume};
use crate::pod::volume::DownwardApi;
use crate::store::Entries;

/// A file: its content, its mode, and the user that it belongs to if that is not root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: Option<u32>,
}

/// Files by their path inside the volume.
pub(crate) type Files = BTreeMap<String, File>;

/// Tokens by audience and life.
pub(crate) type Tokens = BTreeMap<(String, i64), String>;

/// The mode of files that do not say it.
const MODE: u32 = 0o644;

/// How long a token is valid that does not say it, in seconds.
const TOKEN_LIFE: i64 = 3600;

/// Returns what has to be found for volumes.
pub(crate) fn needs(volumes: &[Volume]) -> Vec<Need> {
    let mut needs = Vec::new();
    for volume in volumes {
        needs.extend(volume.config_map.iter().map(|it| (Kind::ConfigMap, it.name.clone())));
        needs.extend(volume.secret.iter().map(|it| (Kind::Secret, it.secret_name.clone())));
        for source in volume.projected.iter().flat_map(|projected| &projected.sources) {
            needs.extend(source.config_map.iter().map(|it| (Kind::ConfigMap, it.name.clone())));
            needs.extend(source.secret.iter().map(|it| (Kind::Secret, it.name.clone())));
        }
    }
    needs.sort_by_key(|(kind, name)| env::key(kind, name));
    needs.dedup();
    needs
}

/// Returns the files of a volume that consists of files.
///
/// # Errors
/// What is missing or wrong, as kubelet says it.
pub(crate) fn files(
    pod: &Pod,
    volume: &Volume,
    facts: &Facts,
    found: &Found,
    tokens: &Tokens,
) -> Result<Option<Files>, String> {
    let mut files = Files::new();
    if let Some(map) = &volume.config_map {
        let source = Source { kind: Kind::ConfigMap, name: &map.name, optional: map.optional };
        source.take(&map.items, map.default_mode.unwrap_or(MODE), found, &mut files)?;
    } else if let Some(secret) = &volume.secret {
        let (name, optional) = (&secret.secret_name, secret.optional);
        let source = Source { kind: Kind::Secret, name, optional };
        source.take(&secret.items, secret.default_mode.unwrap_or(MODE), found, &mut files)?;
    } else if let Some(downward) = &volume.downward_api {
        let mode = downward.default_mode.unwrap_or(MODE);
        fields(pod, downward, mode, facts, &mut files)?;
    } else if volume.projected.is_some() {
        projected(pod, volume, facts, found, tokens, &mut files)?;
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

fn projected(
    pod: &Pod,
    volume: &Volume,
    facts: &Facts,
    found: &Found,
    tokens: &Tokens,
    files: &mut Files,
) -> Result<(), String> {
    let Some(projected) = &volume.projected else { return Ok(()) };
    let mode = projected.default_mode.unwrap_or(MODE);
    for source in &projected.sources {
        if let Some(map) = &source.config_map {
            let source = Source { kind: Kind::ConfigMap, name: &map.name, optional: map.optional };
            source.take(&map.items, mode, found, files)?;
        }
        if let Some(secret) = &source.secret {
            let (name, optional) = (&secret.name, secret.optional);
            Source { kind: Kind::Secret, name, optional }.take(
                &secret.items,
                mode,
                found,
                files,
            )?;
        }
        if let Some(downward) = &source.downward_api {
            fields(pod, downward, mode, facts, files)?;
        }
        if let Some(token) = &source.service_account_token {
            let key = (token.audience.clone(), token.expiration_seconds.unwrap_or(TOKEN_LIFE));
            let content = tokens.get(&key).ok_or("its token is missing")?;
            // A token is for the only user of the pod's containers, or for its group, if there is
            // such; else everyone reads it.
            let security = pod.spec.security_context.as_ref();
            let user = only_user(pod);
            let own = user.is_some() || security.is_some_and(|it| it.fs_group.is_some());
            let mode = if own { 0o600 } else { mode };
            add(files, &token.path, content.as_bytes(), mode)?;
            if let Some(file) = files.get_mut(&token.path) {
                file.owner = user;
            }
        }
        if let Some(kind) = source.other.keys().next() {
            return Err(format!("projected source '{kind}' is not supported on this node"));
        }
    }
    Ok(())
}

/// Returns the user of all containers of a pod, if it is one.
fn only_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod.spec.security_context.as_ref().and_then(|security| security.run_as_user);
    let of =
        |it: &Container| it.security_context.as_ref().and_then(|own| own.run_as_user).or(of_pod);
    let mut users = pod.spec.all_containers().map(of);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

fn fields(
    pod: &Pod,
    downward: &DownwardApi,
    mode: u32,
    facts: &Facts,
    files: &mut Files,
) -> Result<(), String> {
    for item in &downward.items {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => env::field_value(pod, field, facts)?,
            (None, Some(field)) => {
                let container = pod.spec.containers.first().ok_or("the pod has no container")?;
                env::resource_value(pod, container, field, facts)?
            }
            (None, None) => return Err(format!("'{}' has no source", item.path)),
        };
        add(files, &item.path, value.as_bytes(), item.mode.unwrap_or(mode))?;
    }
    Ok(())
}

struct Source<'a> {
    kind: Kind,
    name: &'a str,
    optional: bool,
}

impl Source<'_> {
    fn take(
        &self,
        items: &[Item],
        mode: u32,
        found: &Found,
        files: &mut Files,
    ) -> Result<(), String> {
        let Self { kind, name, optional } = self;
        let entries: &Entries = match found.get(&env::key(kind, name)) {
            Some(Some(entries)) => entries,
            Some(None) | None if *optional => return Ok(()),
            Some(None) | None => return Err(format!("{kind} \"{name}\" not found")),
        };
        if items.is_empty() {
            for (key, content) in entries {
                add(files, key, content, mode)?;
            }
        }
        for item in items {
            match entries.get(&item.key) {
                Some(content) => add(files, &item.path, content, item.mode.unwrap_or(mode))?,
                None if *optional => {}
                None => return Err(format!("references non-existent {kind} key: {}", item.key)),
            }
        }
        Ok(())
    }
}

/// Adds a file, unless its path leads out of the volume or into what keeps it together.
fn add(files: &mut Files, path: &str, content: &[u8], mode: u32) -> Result<(), String> {
    let mut parts = path.split('/');
    let good =
        parts.all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'));
    if !good || path.starts_with("..") || path.len() > 4096 {
        return Err(format!("'{path}' is no path inside a volume"));
    }
    files.insert(
        path.to_owned(),
        File { content: content.to_vec(), mode: mode & 0o777, owner: None },
    );
    Ok(())
}

#[cfg(test)]
mod tests;
