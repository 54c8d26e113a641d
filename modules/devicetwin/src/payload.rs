//! The JSON of topics and of the cloud (WIRE.md §§7.2, 7.4), field by field as KubeEdge writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A value of a property, and when it was set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MsgValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<ValueMeta>,
}

/// When a value was set: Unix time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ValueMeta {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) timestamp: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// How often each side has set a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    #[serde(default)]
    pub(crate) cloud: i64,
    #[serde(default)]
    pub(crate) edge: i64,
}

/// The type of a property, and what else its reporter says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TypeMeta {
    #[serde(rename = "type", default, skip_serializing_if = "str::is_empty")]
    pub(crate) kind: Box<str>,
}

/// A property.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MsgTwin {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<MsgValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actual: Option<MsgValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) optional: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<TypeMeta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected_version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actual_version: Option<Version>,
}

/// Properties by name; `null` for one that is deleted.
pub(crate) type MsgTwins = BTreeMap<Box<str>, Option<MsgTwin>>;

/// What every message begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Base {
    pub(crate) event_id: Box<str>,
    pub(crate) timestamp: i64,
}

/// A twin update that comes in.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct TwinUpdate {
    pub(crate) event_id: Box<str>,
    pub(crate) twin: Option<MsgTwins>,
}

/// Properties that go out: a result, or a report to the cloud.
#[derive(Debug, Serialize)]
pub(crate) struct Twins<'a> {
    #[serde(flatten)]
    pub(crate) base: Base,
    pub(crate) twin: &'a MsgTwins,
}

/// A refusal.
#[derive(Debug, Serialize)]
pub(crate) struct Refusal<'a> {
    #[serde(flatten)]
    pub(crate) base: Base,
    pub(crate) code: u16,
    pub(crate) reason: &'a str,
}

/// What is expected and not so yet.
#[derive(Debug, Serialize)]
pub(crate) struct Delta {
    #[serde(flatten)]
    pub(crate) base: Base,
    pub(crate) twin: MsgTwins,
    pub(crate) delta: BTreeMap<Box<str>, Box<str>>,
}

/// A property before and after.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub(crate) last: Option<MsgTwin>,
    pub(crate) current: Option<MsgTwin>,
}

/// Properties before and after.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    #[serde(flatten)]
    pub(crate) base: Base,
    pub(crate) twin: &'a BTreeMap<Box<str>, Change>,
}

/// A device in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Member {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) id: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) name: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) description: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) state: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) last_online: Box<str>,
}

/// Devices that came and went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Membership {
    pub(crate) event_id: Box<str>,
    pub(crate) timestamp: i64,
    pub(crate) added_devices: Option<Vec<Member>>,
    pub(crate) removed_devices: Option<Vec<Member>>,
}

/// The devices of the node.
#[derive(Debug, Serialize)]
pub(crate) struct Members {
    #[serde(flatten)]
    pub(crate) base: Base,
    pub(crate) devices: Vec<Member>,
}

/// A device's state that comes in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StateUpdate {
    pub(crate) event_id: Box<str>,
    pub(crate) state: Option<Box<str>>,
}

/// A device's state that goes out. Unlike everywhere else the time is in camel case.
#[derive(Debug, Serialize)]
pub(crate) struct StateResult<'a> {
    #[serde(flatten)]
    pub(crate) base: Base,
    pub(crate) device: DeviceState<'a>,
}

/// The device of a [`StateResult`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceState<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) state: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) last_online_time: &'a str,
}

/// A set of objects, each still as text.
pub(crate) fn split(array: &[u8]) -> Option<Vec<&RawValue>> {
    serde_json::from_slice(array).ok()
}
