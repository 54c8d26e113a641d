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

/// The registry of images that name none, and its name in most credentials.
const DOCKER: &str = "docker.io";
const DOCKER_INDEX: &str = "index.docker.io";

/// Tells whether a text can name an image: `[registry[:port]/]path[:tag][@digest]`.
pub(crate) fn is_reference(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, it)| (name, Some(it)));
    let tag = name.rfind(':').filter(|at| !name[*at..].contains('/'));
    let (name, tag) = tag.map_or((name, None), |at| (&name[..at], Some(&name[at + 1..])));
    let is_digest = |text: &str| {
        let hex = |it: &str| it.len() >= 32 && it.bytes().all(|byte| byte.is_ascii_hexdigit());
        text.split_once(':').is_some_and(|(kind, sum)| !kind.is_empty() && hex(sum))
    };
    let is_tag = |text: &str| {
        let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        text.len() <= 128
            && text.starts_with(word)
            && text.chars().all(|letter| word(letter) || matches!(letter, '.' | '-'))
    };
    let is_part = |part: &str| {
        let edge = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let inner = |letter: char| edge(letter) || matches!(letter, '.' | '_' | '-');
        part.starts_with(edge) && part.ends_with(edge) && part.chars().all(inner)
    };
    let path = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            let host = |letter: char| {
                letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | ':' | '[' | ']')
            };
            let begins = |letter: char| letter.is_ascii_alphanumeric() || letter == '[';
            if !first.starts_with(begins) || !first.chars().all(host) {
                return false;
            }
            rest
        }
        Some(_) | None => name,
    };
    path.len() <= 255
        && path.split('/').all(is_part)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

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

fn matches(glob: &[u8], text: &[u8]) -> bool {
    match (glob.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        (Some((b'?', rest)), Some((_, more))) => matches(rest, more),
        (Some((one, rest)), Some((other, more))) => one == other && matches(rest, more),
        (None, Some(_)) | (Some(_), None) => false,
    }
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
        assert_eq!(user("busybox@sha256:0"), pair("hub", "x"));
        assert_eq!(user("other.example/a"), None);
    }

    #[test]
    fn names_of_images_are_known_from_others() {
        let sum = "0".repeat(64);
        for good in [
            "busybox",
            "busybox:1.36",
            "a/b/c:latest",
            "registry.example:5000/a_b/c-d.e:V1",
            "localhost/x",
            "127.0.0.1:5000/x",
            &format!("x@sha256:{sum}"),
            &format!("x:1@sha256:{sum}"),
        ] {
            assert!(is_reference(good), "{good}");
        }
        for bad in [
            "",
            "Busybox",
            "a b",
            "x:",
            "x:-1",
            "/x",
            "x/",
            "a//b",
            "x@sha256:1",
            "$(A)",
            "../x",
            "-x",
        ] {
            assert!(!is_reference(bad), "{bad}");
        }
    }

    #[test]
    fn places_are_matched_as_kubelet_does() {
        for (server, image, fit) in [
            ("registry.example", "registry.example/a/b:1", true),
            ("https://registry.example/v2/", "registry.example/a:1", true),
            ("registry.example", "registry.example:5000/a", false),
            ("registry.example:5000", "registry.example:5000/a", true),
            ("*.example", "registry.example/a", true),
            ("*.example", "a.registry.example/a", false),
            ("reg?stry.ex*e", "registry.example/a", true),
            ("registry.example/team", "registry.example/team/a", true),
            ("registry.example/team", "registry.example/other/a", false),
            ("registry.example/v2/team", "registry.example/team/a", true),
            ("docker.io", "busybox", true),
            ("docker.io/library", "busybox:1", true),
            ("localhost:1", "localhost:1/a", true),
        ] {
            assert_eq!(fits(&place(server), &repository(image)), fit, "{server} {image}");
        }
    }

    #[test]
    fn the_longest_place_comes_first_and_broken_secrets_have_none() {
        let text = br#"{"r.example":{"username":"a"},"r.example/x":{"username":"b"}}"#.to_vec();
        let secret = Entries::from([(".dockercfg".to_owned(), text)]);
        let users: Vec<_> =
            credentials(&secret, "r.example/x/y").into_iter().map(|it| it.username).collect();
        assert_eq!(users, ["b", "a"]);
        for broken in ["", "[]", "{\"auths\":{\"r.example\":{\"auth\":\"%\"}}}"] {
            let secret = Entries::from([(".dockerconfigjson".to_owned(), broken.into())]);
            assert_eq!(credentials(&secret, "r.example/x"), []);
        }
    }
}
