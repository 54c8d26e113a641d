//! Label and field selectors, as the API writes them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::object::{self, Head};

/// The longest selector, in bytes.
const MAX: usize = 16 * 1024;

/// Which objects are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<Wish>,
    /// Paths, and whether the value has to be this one or must not be.
    fields: Vec<(String, bool, String)>,
}

/// What is wanted of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Exists(String),
    Lacks(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

impl Selector {
    /// Reads both selectors, of which an empty one selects all.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        for (name, text) in [("labelSelector", labels), ("fieldSelector", fields)] {
            if text.len() > MAX {
                return Err(format!("{name} has {} bytes, expected at most {MAX}", text.len()));
            }
        }
        let labels = split(labels).into_iter().map(label).collect::<Result<_, _>>()?;
        let fields = split(fields).into_iter().map(field).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Tells whether it wants everything.
    pub(crate) const fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Tells whether an object is wanted.
    pub(crate) fn wants(&self, object: &RawValue) -> bool {
        if self.is_empty() {
            return true;
        }
        let head: Head<'_> = serde_json::from_str(object.get()).unwrap_or_default();
        let labels = head.metadata.labels.unwrap_or_default();
        self.labels.iter().all(|wish| wish.holds(&labels))
            && self.fields.iter().all(|(path, equal, wanted)| {
                let value = object::field(object, path).and_then(object::scalar);
                // A field that is not there counts as empty.
                (value.as_deref().unwrap_or_default() == wanted) == *equal
            })
    }
}

impl Wish {
    fn holds(&self, labels: &BTreeMap<Cow<'_, str>, Cow<'_, str>>) -> bool {
        let is_in = |key: &String, values: &[String]| {
            labels.get(key.as_str()).map(|label| values.iter().any(|value| label == value))
        };
        match self {
            Self::Exists(key) => labels.contains_key(key.as_str()),
            Self::Lacks(key) => !labels.contains_key(key.as_str()),
            Self::In(key, values) => is_in(key, values) == Some(true),
            Self::NotIn(key, values) => is_in(key, values) != Some(true),
        }
    }
}

/// Splits at commas that stand outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let parts = text.split(move |letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn label(text: &str) -> Result<Wish, String> {
    let wrong = || format!("labelSelector: '{text}' is no requirement on a label");
    let key = |text: &str| {
        let text = text.trim();
        let is_key = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        (!text.is_empty() && text.chars().all(is_key)).then(|| text.to_owned()).ok_or_else(wrong)
    };
    if let Some((name, values)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (name, word) = name.trim().rsplit_once(' ').ok_or_else(wrong)?;
        return match word {
            "in" => Ok(Wish::In(key(name)?, values)),
            "notin" => Ok(Wish::NotIn(key(name)?, values)),
            _ => Err(wrong()),
        };
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Wish::NotIn(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Wish::In(key(name)?, vec![value.trim().to_owned()]));
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Wish::Lacks(key(name)?)),
        None => Ok(Wish::Exists(key(text)?)),
    }
}

fn field(text: &str) -> Result<(String, bool, String), String> {
    let (path, value, equal) = if let Some((path, value)) = text.split_once("!=") {
        (path, value, false)
    } else {
        let pair = text.split_once("==").or_else(|| text.split_once('='));
        let (path, value) =
            pair.ok_or_else(|| format!("fieldSelector: '{text}' is no requirement on a field"))?;
        (path, value, true)
    };
    Ok((path.trim().to_owned(), equal, value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = r#"{"metadata":{"name":"web","labels":{"app":"web","tier":"front"}},
        "spec":{"nodeName":"edge1"},"status":{"phase":"Running"}}"#;

    fn wants(labels: &str, fields: &str) -> bool {
        let object: &RawValue = serde_json::from_str(POD).unwrap();
        Selector::parse(labels, fields).unwrap().wants(object)
    }

    #[test]
    fn labels_are_selected_as_kubernetes_writes_it() {
        for yes in [
            "",
            "app",
            "app=web",
            "app==web",
            "app!=db",
            "x!=y",
            "!x",
            "app in (db, web)",
            "app notin (db)",
            "x notin (y)",
            "app=web,tier in (front,back),!x",
        ] {
            assert!(wants(yes, ""), "{yes}");
        }
        for no in ["x", "app=db", "app!=web", "!app", "app in (db)", "app notin (web)", "app,x"] {
            assert!(!wants(no, ""), "{no}");
        }
        for bad in ["=x", "app like (x)", "a b", "in (x)"] {
            assert!(Selector::parse(bad, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_are_selected_by_their_path() {
        assert!(wants("", "metadata.name=web,spec.nodeName==edge1,status.phase!=Failed"));
        assert!(wants("", "status.reason="), "what is not there is empty");
        assert!(!wants("", "spec.nodeName=edge2"));
        assert!(!wants("app=db", "spec.nodeName=edge1"));
        assert!(Selector::parse("", "spec.nodeName").is_err());
        let long = "a".repeat(MAX + 1);
        assert!(Selector::parse(&long, "").unwrap_err().contains("16385 bytes"));
    }
}
