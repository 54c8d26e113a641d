//! Discovery as CloudCore passes it on: in Kubernetes' protobuf envelope, because that is what its own
//! client speaks to the cluster, whatever was asked for. Clients of this node get JSON.

use bytes::Bytes;
use prost::Message;
use serde::Serialize;

/// What the envelope begins with.
const MAGIC: &[u8] = b"k8s\0";

/// The envelope.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "bytes", tag = "2")]
    raw: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiVersions {
    #[prost(string, repeated, tag = "1")]
    versions: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    #[serde(rename = "serverAddressByClientCIDRs")]
    addresses: Vec<Address>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct Address {
    #[prost(string, tag = "1")]
    #[serde(rename = "clientCIDR")]
    client: String,
    #[prost(string, tag = "2")]
    #[serde(rename = "serverAddress")]
    server: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct ApiGroupList {
    #[prost(message, repeated, tag = "1")]
    groups: Vec<ApiGroup>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiGroup {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    versions: Vec<GroupVersion>,
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_version: Option<GroupVersion>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion {
    #[prost(string, tag = "1")]
    group_version: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiResourceList {
    #[prost(string, tag = "1")]
    group_version: String,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<ApiResource>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiResource {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "6")]
    singular_name: String,
    #[prost(bool, tag = "2")]
    namespaced: bool,
    #[prost(string, tag = "8")]
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[prost(string, tag = "9")]
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(message, optional, tag = "4")]
    verbs: Option<Verbs>,
    #[prost(string, repeated, tag = "5")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    short_names: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    #[prost(string, tag = "10")]
    #[serde(skip_serializing_if = "String::is_empty")]
    storage_version_hash: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(transparent)]
struct Verbs {
    #[prost(string, repeated, tag = "1")]
    items: Vec<String>,
}

/// An object with its kind.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named<T> {
    kind: String,
    api_version: String,
    #[serde(flatten)]
    object: T,
}

/// Returns an answer as JSON.
///
/// # Errors
/// Why it is none that can be read.
pub(super) fn json(answer: Bytes) -> Result<Bytes, String> {
    let Some(envelope) = answer.strip_prefix(MAGIC) else { return Ok(answer) };
    let envelope = Envelope::decode(envelope).map_err(|error| error.to_string())?;
    let TypeMeta { api_version, kind } = envelope.type_meta.unwrap_or_default();
    let raw = envelope.raw;
    match &*kind {
        "APIVersions" => write::<ApiVersions>(kind, api_version, raw),
        "APIGroupList" => write::<ApiGroupList>(kind, api_version, raw),
        "APIGroup" => write::<ApiGroup>(kind, api_version, raw),
        "APIResourceList" => write::<ApiResourceList>(kind, api_version, raw),
        _ => Err(format!("it is a '{kind}', expected something of discovery")),
    }
}

fn write<T: Message + Default + Serialize>(
    kind: String,
    api_version: String,
    raw: Bytes,
) -> Result<Bytes, String> {
    let object = T::decode(raw).map_err(|error| error.to_string())?;
    // The group of the oldest has no name, and the version goes without saying.
    let api_version = if api_version.is_empty() { "v1".to_owned() } else { api_version };
    let json = serde_json::to_vec(&Named { kind, api_version, object });
    json.map(Bytes::from).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
