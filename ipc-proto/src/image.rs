//! What taskmanager asks of edged about images, and what can name one.

use serde::{Deserialize, Serialize};

/// An image that is to be here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its name, as a runtime is given it.
    pub image: String,
    /// Namespace and name of a secret with credentials for its registry.
    pub secret: Option<(String, String)>,
    /// The digest that it has to have.
    pub digest: Option<String>,
    /// Files of it that are wanted on the host.
    pub copy: Option<CopyOut>,
}

/// Files that are to be copied out of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOut {
    /// Where they are in the image.
    pub files: Vec<String>,
    /// The folder of the host that they are put into, which is there and empty.
    pub into: String,
}

/// Tells whether a text can name an image: `[registry[:port]/]path[:tag][@digest]`.
#[must_use]
pub fn is_reference(image: &str) -> bool {
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
