//! Credentials for registries, out of the secrets that a pod names for them.

use std::collections::BTreeMap;

use data_encoding::BASE64;
pub(crate) use ipc_proto::image::is_reference;
use serde::Deserialize;

use crate::cri::words::AuthConfig;
use crate::store::Entries;

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Login {
    username: String,
    password: String,
    auth: String,
}

/// The registry of images that name none, and its name in most credentials.
const DOCKER: &str = "docker.io";
const DOCKER_INDEX: &str = "index.docker.io";

/// Returns the repository of an image with its registry, without tag and digest.
fn repository(image: &str) -> String {
    let bare = image.split('@').next().unwrap_or_default();
    let tag = bare.rfind(':').filter(|at| !bare[*at..].contains('/'));
    let bare = tag.map_or(bare, |at| &bare[..at]);
    match bare.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => bare.to_owned(),
        Some(_) => format!("{DOCKER}/{bare}"),
        None => format!("{DOCKER}/library/{bare}"),
    }
}

/// Takes the scheme off the place of credentials, and the path that means the whole registry.
fn place(server: &str) -> String {
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let host = if host == DOCKER_INDEX { DOCKER } else { host };
    let path =
        ["v1", "v2"].into_iter().find_map(|api| path.strip_prefix(api)).map_or(path, |rest| {
            if rest.is_empty() { rest } else { rest.strip_prefix('/').unwrap_or(path) }
        });
    let path = path.trim_end_matches('/');
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// Tells whether credentials for a place are for a repository: the host's parts may have `*` and
/// `?`, the path is a beginning.
fn fits(place: &str, repository: &str) -> bool {
    let split = |text: &str| {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let (host, port) = host.split_once(':').unwrap_or((host, ""));
        let parts: Vec<String> = host.split('.').map(str::to_owned).collect();
        (parts, port.to_owned(), path.to_owned())
    };
    let ((globs, port, path), (parts, image_port, image_path)) = (split(place), split(repository));
    port == image_port
        && globs.len() == parts.len()
        && image_path.starts_with(&path)
        && globs.iter().zip(&parts).all(|(glob, part)| matches(glob.as_bytes(), part.as_bytes()))
}

/// Tells whether a text is of a pattern. Only the last `*` is tried again, so that no pattern costs
/// more than its length times the text's.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut place, mut seen, mut again) = (0, 0, None);
    while let Some(byte) = text.get(seen) {
        match (glob.get(place), again) {
            (Some(b'*'), _) => {
                place += 1;
                again = Some((place, seen));
            }
            (Some(wanted), _) if *wanted == b'?' || wanted == byte => {
                place += 1;
                seen += 1;
            }
            (_, Some((behind, from))) => {
                again = Some((behind, from + 1));
                (place, seen) = (behind, from + 1);
            }
            (_, None) => return false,
        }
    }
    glob[place..].iter().all(|byte| *byte == b'*')
}

/// Returns the credentials of a secret that fit an image, those for the longest place first.
pub(crate) fn credentials(secret: &Entries, image: &str) -> Vec<AuthConfig> {
    let new = secret.get(".dockerconfigjson").and_then(|text| serde_json::from_slice(text).ok());
    let auths: BTreeMap<String, Login> = match (new, secret.get(".dockercfg")) {
        (Some(DockerConfig { auths }), _) => auths,
        (None, Some(text)) => serde_json::from_slice(text).unwrap_or_default(),
        (None, None) => BTreeMap::new(),
    };
    let repository = repository(image);
    let places = auths.into_iter().map(|(server, login)| (place(&server), login));
    let mut chosen: Vec<_> = places.filter(|(place, _)| fits(place, &repository)).collect();
    chosen.sort_by(|one, other| other.0.cmp(&one.0));
    chosen
        .into_iter()
        .filter_map(|(_, login)| {
            let decoded = BASE64.decode(login.auth.as_bytes()).ok();
            let pair = decoded.and_then(|pair| String::from_utf8(pair).ok());
            let pair = pair.and_then(|pair| {
                pair.split_once(':').map(|(user, word)| (user.to_owned(), word.to_owned()))
            });
            let (username, password) = pair.unwrap_or((login.username, login.password));
            let known = !username.is_empty();
            // They were chosen for this image: the runtime need not check the place again, which it
            // reads as a URL.
            known.then(|| AuthConfig { username, password, ..AuthConfig::default() })
        })
        .collect()
}

#[cfg(test)]
mod tests;
