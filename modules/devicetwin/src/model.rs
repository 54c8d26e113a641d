//! Objects of devices and models, and what mappers are told of them (WIRE.md §§7.5, 7.6).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dmi::words as w;

/// A device's or a model's object: who it is, and its spec as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// `<namespace>/<name>`.
    pub(crate) id: Box<str>,
    /// Kubernetes' own identity of it.
    pub(crate) uid: Box<str>,
    /// The protocol that it is reached by.
    pub(crate) protocol: Box<str>,
    /// The model of a device.
    pub(crate) model: Box<str>,
    /// The spec, as JSON.
    pub(crate) spec: Box<str>,
}

/// What is kept of a device's object: whom it concerns, and by what to see that it has changed. Its spec
/// stands in the store, and is read there when a mapper has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The protocol that it is reached by.
    pub(crate) protocol: Box<str>,
    /// The id of its model.
    pub(crate) model: Box<str>,
    /// Digests of Kubernetes' own identity of it, and of the spec.
    uid: u64,
    spec: u64,
}

impl Known {
    /// Takes what is kept of an object.
    pub(crate) fn of(object: &Object) -> Self {
        let digest = |text: &str| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish()
        };
        Self {
            protocol: object.protocol.clone(),
            model: object.model_id().into(),
            uid: digest(&object.uid),
            spec: digest(&object.spec),
        }
    }

    /// Tells whether this is another object than the other one, whose name is the same.
    pub(crate) const fn is_another(&self, other: &Self) -> bool {
        self.uid != other.uid
    }
}

impl Object {
    /// Returns its namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.id.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Returns its name.
    pub(crate) fn name(&self) -> &str {
        self.id.split_once('/').map_or("", |(_, name)| name)
    }

    /// Returns the id of a device's model.
    pub(crate) fn model_id(&self) -> String {
        format!("{}/{}", self.namespace(), self.model)
    }
}

#[derive(Deserialize)]
struct Whole<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Metadata {
    name: Box<str>,
    #[serde(default)]
    namespace: Box<str>,
    #[serde(default)]
    uid: Box<str>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Head {
    device_model_ref: Reference,
    protocol: Option<Protocol>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference {
    name: Box<str>,
}

/// A device has settings with the name, a model the name alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Protocol {
    Name(Box<str>),
    #[serde(rename_all = "camelCase")]
    Config {
        #[serde(default)]
        protocol_name: Box<str>,
    },
}

/// Reads an object.
///
/// # Errors
/// A text that says what is wrong with it.
pub(crate) fn read(object: &[u8]) -> Result<Object, String> {
    let Whole { metadata, spec } = serde_json::from_slice(object)
        .map_err(|error| format!("an object is not as expected: {error}"))?;
    let Metadata { name, namespace, uid } = metadata;
    let is_name = |text: &str| !text.is_empty() && !text.contains('/');
    if !is_name(&name) || !is_name(&namespace) {
        let short = |text: &str| text.chars().take(64).collect::<String>();
        let (namespace, name) = (short(&namespace), short(&name));
        return Err(format!("object '{namespace}/{name}': expected a namespace and a name"));
    }
    let id = format!("{namespace}/{name}");
    let spec = spec.map_or("{}", RawValue::get);
    let head: Head =
        serde_json::from_str(spec).map_err(|error| format!("the spec of '{id}': {error}"))?;
    let protocol = match head.protocol {
        Some(Protocol::Name(name) | Protocol::Config { protocol_name: name }) => name,
        None => Box::default(),
    };
    Ok(Object {
        id: id.into(),
        uid,
        protocol,
        model: head.device_model_ref.name,
        spec: spec.into(),
    })
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeviceSpec {
    protocol: Option<w::ProtocolConfig>,
    properties: Vec<w::DeviceProperty>,
    methods: Vec<w::DeviceMethod>,
    state_report: Option<StateReport>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StateReport {
    report_to_cloud: bool,
    report_cycle: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ModelSettings {
    properties: Vec<ModelVisitors>,
    protocol_config_data: Option<w::CustomizedValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ModelVisitors {
    name: String,
    visitors: Option<w::ProtocolConfig>,
}

/// Makes what a mapper is told of a device: its own settings over those of its model.
///
/// # Errors
/// A text that says what in one of the two cannot be told.
pub(crate) fn device(object: &Object, model: &Object) -> Result<w::Device, String> {
    let wrong = |id: &str, error| format!("the spec of '{id}': {error}");
    let spec: DeviceSpec =
        serde_json::from_str(&object.spec).map_err(|error| wrong(&object.id, error))?;
    let shared: ModelSettings =
        serde_json::from_str(&model.spec).map_err(|error| wrong(&model.id, error))?;
    let mut protocol = spec.protocol;
    if let (Some(own), Some(shared)) = (&mut protocol, shared.protocol_config_data) {
        own.config_data = Some(over(shared, own.config_data.take()));
    }
    let mut properties = spec.properties;
    for property in &mut properties {
        let known = shared.properties.iter().find(|known| known.name == property.name);
        let Some(mut visitors) = known.and_then(|known| known.visitors.clone()) else { continue };
        if let Some(own) = property.visitors.take() {
            if !own.protocol_name.is_empty() {
                visitors.protocol_name = own.protocol_name;
            }
            let shared = visitors.config_data.take().unwrap_or_default();
            visitors.config_data = Some(over(shared, own.config_data));
        }
        property.visitors = Some(visitors);
    }
    let StateReport { report_to_cloud, report_cycle } = spec.state_report.unwrap_or_default();
    Ok(w::Device {
        name: object.name().to_owned(),
        namespace: object.namespace().to_owned(),
        spec: Some(w::DeviceSpec {
            device_model_reference: object.model.as_ref().into(),
            protocol,
            properties,
            methods: spec.methods,
        }),
        status: Some(w::DeviceStatus { twins: Vec::new(), report_to_cloud, report_cycle }),
    })
}

fn over(mut shared: w::CustomizedValue, own: Option<w::CustomizedValue>) -> w::CustomizedValue {
    shared.data.extend(own.unwrap_or_default().data);
    shared
}

/// Makes what a mapper is told of a model.
///
/// # Errors
/// A text that says what in it cannot be told.
pub(crate) fn model(object: &Object) -> Result<w::DeviceModel, String> {
    let spec = serde_json::from_str(&object.spec)
        .map_err(|error| format!("the spec of '{}': {error}", object.id))?;
    let (name, namespace) = (object.name().to_owned(), object.namespace().to_owned());
    Ok(w::DeviceModel { name, spec: Some(spec), namespace })
}
