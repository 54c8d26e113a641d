//! Settings whose names and types are a protocol's own.

use std::collections::BTreeMap;

use prost::Message;
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

/// A value with its type's name, as `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// Settings by name.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CustomizedValue {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) data: BTreeMap<String, Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Float {
    #[prost(float, tag = "1")]
    value: f32,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    value: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Flag {
    #[prost(bool, tag = "1")]
    value: bool,
}

/// Packs a setting. Every number becomes a 32-bit float, also a whole one: that is what mappers in
/// the field expect.
fn pack(value: &Value) -> Option<Any> {
    let (name, value) = match value {
        #[expect(clippy::cast_possible_truncation, reason = "mappers expect 32 bits")]
        Value::Number(number) => {
            ("FloatValue", Float { value: number.as_f64()? as f32 }.encode_to_vec())
        }
        Value::String(text) => ("StringValue", Text { value: text.clone() }.encode_to_vec()),
        Value::Bool(flag) => ("BoolValue", Flag { value: *flag }.encode_to_vec()),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(Any { type_url: format!("type.googleapis.com/google.protobuf.{name}"), value })
}

impl<'de> Deserialize<'de> for CustomizedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let pack = |(name, value): (String, Value)| {
            let packed = pack(&value).ok_or_else(|| {
                D::Error::custom(format!("setting '{name}': expected a text, a number or a truth"))
            })?;
            Ok((name, packed))
        };
        Ok(Self { data: settings.into_iter().map(pack).collect::<Result<_, _>>()? })
    }
}
