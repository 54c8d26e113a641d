//! What is secret does not leave the node: values of keys that are named for it, the same values
//! wherever else they stand, and what has the form of a token, a key or a password in an address.

use serde_json::Value;

/// What stands in the place of a secret.
const GONE: &str = "(removed)";

/// A key with one of these in its name holds a secret, unless it names a file.
const NAMES: [&str; 4] = ["token", "password", "secret", "passwd"];

/// A shorter value than this is not looked for in other texts: it would stand in every line.
const SHORTEST: usize = 4;

/// What a JSON Web Token begins with.
const TOKEN: &str = "eyJ";

/// The values that are known to be secret, the longest first.
#[derive(Debug)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Finds the secret values of settings.
    pub(super) fn of(settings: &[Value]) -> Self {
        let mut values = Vec::new();
        for tree in settings {
            collect(tree, false, &mut values);
        }
        values.retain(|value| value.len() >= SHORTEST);
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values)
    }

    /// Returns a text without anything secret.
    pub(super) fn taken_out(&self, text: &str) -> String {
        let known = self.0.iter().fold(text.to_owned(), |text, value| text.replace(value, GONE));
        let mut clean = String::with_capacity(known.len());
        let mut key = false;
        for line in known.split_inclusive('\n') {
            let begins = line.contains("-----BEGIN ");
            key |= begins;
            if begins {
                clean.push_str(GONE);
                clean.push('\n');
            }
            if !key {
                clean.push_str(&without_tokens(&without_users(line)));
            }
            key &= !line.contains("-----END ");
        }
        clean
    }
}

/// Returns settings without the values of keys that are named for secrets.
pub(super) fn blanked(mut tree: Value) -> Value {
    blank(&mut tree);
    tree
}

fn blank(tree: &mut Value) {
    match tree {
        Value::Object(entries) => {
            for (key, value) in entries {
                if is_secret(key) && !matches!(value, Value::Null | Value::Bool(_)) {
                    let empty = value.as_str() == Some("");
                    *value = if empty { Value::String(String::new()) } else { GONE.into() };
                } else {
                    blank(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(blank),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn collect(tree: &Value, secret: bool, values: &mut Vec<String>) {
    match tree {
        Value::Object(entries) => {
            for (key, value) in entries {
                collect(value, secret || is_secret(key), values);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, secret, values)),
        Value::String(text) if secret => values.push(text.clone()),
        Value::Number(number) if secret => values.push(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let names_file = key.ends_with("file") || key.ends_with("files") || key.ends_with("path");
    !names_file && NAMES.iter().any(|name| key.contains(name))
}

/// Takes out words that have a token's form: a token of the cloud is a hash and such a word.
fn without_tokens(line: &str) -> String {
    let of_word = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let length = rest.find(|letter| !of_word(letter)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let token = word.split('.').any(|part| part.starts_with(TOKEN));
        clean.push_str(if token { GONE } else { word });
        let next = after.find(of_word).unwrap_or(after.len());
        clean.push_str(&after[..next]);
        rest = &after[next..];
    }
    clean
}

/// Takes out user and password of addresses.
fn without_users(line: &str) -> String {
    let mut parts = line.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str("://");
        let host = part.find(|letter: char| "/\"' ".contains(letter)).unwrap_or(part.len());
        match part[..host].rfind('@') {
            Some(at) => {
                clean.push_str(GONE);
                clean.push_str(&part[at..]);
            }
            None => clean.push_str(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_lose_the_values_of_secret_keys_and_no_others() {
        let tree = json!({
            "token": "t", "mqttPassword": "", "keys": [{"clientSecret": ["a", 7]}],
            "tlsPrivateKeyFile": "/k", "tokenFile": "/t", "seccompDefault": true, "server": "s",
        });
        let clean = blanked(tree);
        assert_eq!(
            clean,
            json!({
                "token": "(removed)", "mqttPassword": "", "keys": [{"clientSecret": "(removed)"}],
                "tlsPrivateKeyFile": "/k", "tokenFile": "/t", "seccompDefault": true, "server": "s",
            })
        );
    }

    #[test]
    fn what_is_secret_in_the_settings_is_found_in_every_text() {
        let secrets = Secrets::of(&[json!({"users": {"a": {"password": "gl4ss"}}, "token": 4711})]);
        assert_eq!(secrets.taken_out("u=gl4ss t=4711 x\n"), "u=(removed) t=(removed) x\n");
        let short = Secrets::of(&[json!({"password": "ab"})]);
        assert_eq!(short.taken_out("cab"), "cab");
    }

    #[test]
    fn tokens_keys_and_passwords_in_addresses_are_known_by_their_form() {
        let secrets = Secrets::of(&[]);
        let hash = "0a".repeat(32);
        let text = format!(
            "a {hash}.eyJhbGci.eyJleHAi.c2ln, b\nBearer eyJa.b.c\ntcp://me:pass@host:1883/x y://z\n\
             k: -----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\nlast 1.2.3\n"
        );
        let clean = secrets.taken_out(&text);
        assert_eq!(
            clean,
            "a (removed), b\nBearer (removed)\ntcp://(removed)@host:1883/x y://z\n(removed)\n\
             last 1.2.3\n"
        );
    }
}
