//! The documentation is what the program knows; a default is what holds without the key.

use std::fmt::Write as _;
use std::{env, fs};

use super::*;
use crate::config::reader;
use crate::config::tests::{NODE, convert};
use serde_json::Value;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

/// What is made here, and the line that stands before it.
type Part = (&'static str, fn() -> String);

const PARTS: [Part; 2] = [
    ("<!-- made of the program: keys of supervisor.yaml -->\n", keys),
    ("<!-- made of the program: defaults of edgecore.yaml -->\n", others),
];

/// The line that stands behind it.
const END: &str = "<!-- until here -->\n";

fn keys() -> String {
    let mut text = String::from("| key | default | values | what it does |\n|---|---|---|---|\n");
    for (place, default, values, what) in KEYS {
        writeln!(text, "| `{place}` | {default} | {values} | {what} |").unwrap();
    }
    text
}

/// The defaults of KubeEdge's file, but for what is drawn from the host.
fn others() -> String {
    let mut text = String::from("| key | default |\n|---|---|\n");
    let file = include_str!("../default.yaml").replace("@NODE@", "NAME").replace("@IP@", "HOST");
    let tree: Value = reader::parse(&file).unwrap();
    walk("", &tree, &mut text);
    text
}

fn walk(place: &str, value: &Value, text: &mut String) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                walk(&place, value, text);
            }
        }
        Value::Null => writeln!(text, "| `{place}` | none |").unwrap(),
        Value::String(empty) if empty.is_empty() => {
            writeln!(text, "| `{place}` | none |").unwrap();
        }
        Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            let shown = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            writeln!(text, "| `{place}` | `{shown}` |").unwrap();
        }
    }
}

/// `UPDATE_DOCS=1` writes what is stale anew.
#[test]
fn the_documentation_has_every_key_and_its_default() {
    let before = fs::read_to_string(DOCUMENT).unwrap();
    let mut text = before.clone();
    for (begin, make) in PARTS {
        let (head, rest) = text.split_once(begin).unwrap();
        let (_, tail) = rest.split_once(END).unwrap();
        text = format!("{head}{begin}{}{END}{tail}", make());
    }
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(DOCUMENT, &text).unwrap();
    } else {
        assert!(before == text, "docs/configuration.md is stale: run this test with UPDATE_DOCS=1");
    }
}

#[test]
fn a_default_is_what_holds_without_the_key() {
    let (plain, _) = convert(NODE, "");
    let mut looked_at = 0;
    for (place, default, ..) in KEYS {
        let Some(value) = default.strip_prefix('`').and_then(|it| it.strip_suffix('`')) else {
            continue;
        };
        let place = place.replace("NAME", "devicetwin");
        let opened: String = place.split('.').map(|key| format!("{{{key}: ")).collect();
        let closed = "}".repeat(place.split('.').count());
        let (config, findings) = convert(NODE, &format!("{opened}{value}{closed}"));
        assert_eq!(findings.errors, [""; 0], "{place}");
        assert_eq!(config, plain, "{place} is not {value} by itself");
        looked_at += 1;
    }
    assert!(looked_at > 12, "{looked_at}");
}

#[test]
fn a_place_has_the_keys_directly_below_it() {
    assert_eq!(below("beat"), ["interval", "patience"]);
    assert_eq!(below("modules.eventbus"), ["mqttUsers"]);
    assert_eq!(below("")[..4], ["logLevel", "faults", "user", "beat"]);
    assert_eq!(below("beat.interval"), [""; 0]);
}
