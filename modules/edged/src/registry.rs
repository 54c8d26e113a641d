//! Credentials for registries, out of the secrets that a pod names for them.

use std::collections::BTreeMap;

use data_encoding::BASE64;
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

/// The registry of images that name none, as its users write it.
const DOCKER: &str = "docker.io";

/// Returns the registry of an image.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        Some(_) | None => DOCKER,
    }
}

/// Returns the credentials of a secret that fit an image.
pub(crate) fn credentials(secret: &Entries, image: &str) -> Vec<AuthConfig> {
    let new = secret.get(".dockerconfigjson").and_then(|text| serde_json::from_slice(text).ok());
    let auths = match (new, secret.get(".dockercfg")) {
        (Some(DockerConfig { auths }), _) => auths,
        (None, Some(text)) => serde_json::from_slice(text).unwrap_or_default(),
        (None, None) => BTreeMap::new(),
    };
    let wanted = registry(image);
    let fits = |server: &str| {
        let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        let host = if host == "index.docker.io" { DOCKER } else { host };
        let inside = path.is_empty() || matches!(path, "v1" | "v1/" | "v2" | "v2/");
        host == wanted && (inside || image.starts_with(bare.trim_end_matches('/')))
    };
    let chosen = auths.into_iter().filter(|(server, _)| fits(server));
    chosen
        .filter_map(|(server, login)| {
            let decoded = BASE64.decode(login.auth.as_bytes()).ok();
            let pair = decoded.and_then(|pair| String::from_utf8(pair).ok());
            let pair = pair.and_then(|pair| {
                pair.split_once(':').map(|(user, word)| (user.to_owned(), word.to_owned()))
            });
            let (username, password) = pair.unwrap_or((login.username, login.password));
            let known = !username.is_empty();
            known.then(|| AuthConfig {
                username,
                password,
                server_address: server,
                ..AuthConfig::default()
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credentials_of_the_images_registry_are_found() {
        let auth = BASE64.encode(b"user:pa:ss");
        let text = format!(
            r#"{{"auths":{{"registry.example:5000":{{"auth":"{auth}"}},
            "https://index.docker.io/v1/":{{"username":"hub","password":"x"}}}}}}"#
        );
        let secret = Entries::from([(".dockerconfigjson".to_owned(), text.into_bytes())]);
        let user = |image| {
            let found = credentials(&secret, image);
            found.first().map(|it| (it.username.clone(), it.password.clone()))
        };
        let pair = |user: &str, word: &str| Some((user.to_owned(), word.to_owned()));
        assert_eq!(user("registry.example:5000/a/b:1"), pair("user", "pa:ss"));
        assert_eq!(user("library/busybox"), pair("hub", "x"));
        assert_eq!(user("other.example/a"), None);
    }
}
