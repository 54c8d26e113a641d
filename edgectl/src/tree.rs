//! Trees of values as `edgecore.yaml` holds them: put together key by key, and written as YAML.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Puts a value at a place, whose keys have dots between them; what stood there goes.
///
/// # Errors
/// When a key on the way is empty.
pub(crate) fn put(tree: &mut Value, place: &str, value: Value) -> Result<(), String> {
    let mut at = tree;
    for key in place.split('.') {
        if key.is_empty() {
            return Err(format!("key '{place}', expected names with single dots between them"));
        }
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[key];
    }
    *at = value;
    Ok(())
}

/// Reads a value as it is typed behind `--set`: JSON where it is some, else a text.
pub(crate) fn typed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// Writes a tree as YAML. Texts are quoted as JSON has them, which is YAML too and can be no other
/// value whatever is in them.
pub(crate) fn yaml(tree: &Value) -> String {
    let mut text = String::new();
    if let Value::Object(table) = tree {
        write(table, 0, &mut text);
    }
    text
}

fn write(table: &Map<String, Value>, depth: usize, text: &mut String) {
    for (key, value) in table {
        let key = if is_plain(key) { key.clone() } else { Value::from(key.as_str()).to_string() };
        let indent = "  ".repeat(depth);
        if let Value::Object(inner) = value
            && !inner.is_empty()
        {
            writeln!(text, "{indent}{key}:").expect("writing to memory does not fail");
            write(inner, depth + 1, text);
        } else {
            writeln!(text, "{indent}{key}: {value}").expect("writing to memory does not fail");
        }
    }
}

/// Tells whether a key needs no quotes: a word that is no number and no truth value. Words with dots
/// and slashes are labels and resources.
fn is_plain(key: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    let truths = ["y", "yes", "n", "no", "on", "off", "true", "false", "null"];
    key.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && key.bytes().all(inner)
        && !truths.iter().any(|word| word.eq_ignore_ascii_case(key))
}

/// Returns the places at which two trees differ: the place, what it is, and what it would be.
pub(crate) fn differences(tree: &Value, other: &Value) -> Vec<(String, Value, Value)> {
    let mut found = Vec::new();
    compare("", tree, other, &mut found);
    found
}

fn compare(place: &str, tree: &Value, other: &Value, found: &mut Vec<(String, Value, Value)>) {
    match (tree, other) {
        (Value::Object(one), Value::Object(two)) => {
            for (key, value) in one {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                compare(&place, value, two.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (one, two) if one == two => {}
        (one, two) => found.push((place.to_owned(), one.clone(), two.clone())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_put_where_they_belong() {
        let mut tree = json!({"a": {"b": 1}});
        put(&mut tree, "a.c.d", typed("true")).unwrap();
        put(&mut tree, "a.b", typed("x: y")).unwrap();
        assert_eq!(tree, json!({"a": {"b": "x: y", "c": {"d": true}}}));
        for place in ["", "a..b", ".a", "a."] {
            assert!(put(&mut tree, place, Value::Null).is_err(), "{place}");
        }
    }

    #[test]
    fn a_tree_is_written_as_yaml_that_means_the_same() {
        let tree =
            json!({"kind": "EdgeCore", "a": {"yes": "no", "1": 2, "l": ["x", {"y": 3}], "e": {}}});
        let text = "a:\n  \"1\": 2\n  e: {}\n  l: [\"x\",{\"y\":3}]\n  \"yes\": \"no\"\nkind: \"EdgeCore\"\n";
        assert_eq!(yaml(&tree), text);
    }

    #[test]
    fn differences_are_told_with_their_place() {
        let found = differences(&json!({"a": {"b": 1, "c": 2}}), &json!({"a": {"b": 1, "c": 3}}));
        assert_eq!(found, [("a.c".to_owned(), json!(2), json!(3))]);
        assert!(differences(&json!({"a": null}), &json!({})).is_empty());
    }
}
