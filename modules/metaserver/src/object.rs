//! Looks into an object's JSON without making a tree of it: its version, its labels, a field.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What is always looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Head<'a> {
    #[serde(borrow)]
    pub(crate) api_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) metadata: Metadata<'a>,
}

/// What of an object's metadata is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Metadata<'a> {
    #[serde(borrow)]
    pub(crate) name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) resource_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) creation_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

/// Returns the cluster's version of an object.
pub(crate) fn version(object: &[u8]) -> Option<u64> {
    let head: Head<'_> = serde_json::from_slice(object).ok()?;
    head.metadata.resource_version?.parse().ok()
}

/// Returns the JSON text of a field by the names that lead to it.
pub(crate) fn field<'a>(object: &'a RawValue, path: &str) -> Option<&'a RawValue> {
    path.split('.').try_fold(object, |value, name| {
        let fields: BTreeMap<Cow<'_, str>, &'a RawValue> =
            serde_json::from_str(value.get()).ok()?;
        fields.get(name).copied()
    })
}

/// Returns a text, a number or a truth value as a selector writes it.
pub(crate) fn scalar(value: &RawValue) -> Option<Cow<'_, str>> {
    match value.get().as_bytes().first()? {
        b'"' => {
            #[derive(Deserialize)]
            struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
            serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
        }
        b'{' | b'[' | b'n' => None,
        _ => Some(value.get().into()),
    }
}

/// Gives an object its type where whoever sent it left that out.
pub(crate) fn typed(object: Bytes, api_version: &str, kind: &str) -> Bytes {
    let known = serde_json::from_slice::<Head<'_>>(&object)
        .is_ok_and(|head| head.kind.is_some() || head.api_version.is_some());
    let inside =
        object.iter().position(|&byte| byte == b'{').filter(|_| !known && !kind.is_empty());
    let Some(inside) = inside else { return object };
    let rest = &object[inside + 1..];
    let empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let comma = if empty { "" } else { "," };
    let mut text = format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}"{comma}"#).into_bytes();
    text.extend_from_slice(rest);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_path() {
        let text = r#"{"spec":{"nodeName":"edge1","hostNetwork":true},"n":5,"z":null}"#;
        let object: &RawValue = serde_json::from_str(text).unwrap();
        let value = |path: &str| field(object, path).and_then(scalar).map(Cow::into_owned);
        assert_eq!(value("spec.nodeName").as_deref(), Some("edge1"));
        assert_eq!(value("spec.hostNetwork").as_deref(), Some("true"));
        assert_eq!(value("n").as_deref(), Some("5"));
        for none in ["spec", "z", "spec.nodeName.x", "q"] {
            assert_eq!(value(none), None, "{none}");
        }
    }

    #[test]
    fn an_object_gets_its_type_once() {
        let bare = Bytes::from_static(br#"{"metadata":{"name":"c"}}"#);
        let text = typed(bare, "v1", "ConfigMap");
        assert_eq!(text, r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"c"}}"#);
        assert_eq!(typed(text.clone(), "v1", "ConfigMap"), text);
        assert_eq!(
            typed(Bytes::from_static(b"{}"), "v1", "X"),
            r#"{"kind":"X","apiVersion":"v1"}"#
        );
    }
}
