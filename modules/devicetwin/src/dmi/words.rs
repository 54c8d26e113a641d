//! The messages between the edge and mappers (DMI v1beta1, WIRE.md §7.6). The numbers are the
//! interface's. What stands in a device's object under the same names is read straight into them.

mod custom;
mod push;

use std::collections::BTreeMap;

use prost::Message;
use serde::Deserialize;

pub(crate) use custom::CustomizedValue;
pub(crate) use push::*;

/// A mapper says that it is there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MapperRegisterRequest {
    #[prost(bool, tag = "1")]
    pub(crate) with_data: bool,
    #[prost(message, optional, tag = "2")]
    pub(crate) mapper: Option<MapperInfo>,
}

/// What the node has for it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MapperRegisterResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) model_list: Vec<DeviceModel>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) device_list: Vec<Device>,
}

/// A mapper.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MapperInfo {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    #[prost(string, tag = "3")]
    pub(crate) api_version: String,
    #[prost(string, tag = "4")]
    pub(crate) protocol: String,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) address: Vec<u8>,
    #[prost(string, tag = "6")]
    pub(crate) state: String,
}

/// A model.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeviceModel {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) spec: Option<DeviceModelSpec>,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
}

/// What a model says of its devices.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DeviceModelSpec {
    #[prost(message, repeated, tag = "1")]
    pub(crate) properties: Vec<ModelProperty>,
}

/// A property that every device of a model has.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ModelProperty {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) description: String,
    #[prost(string, tag = "3")]
    #[serde(rename = "type")]
    pub(crate) r#type: String,
    #[prost(string, tag = "4")]
    pub(crate) access_mode: String,
    #[prost(string, tag = "5")]
    pub(crate) minimum: String,
    #[prost(string, tag = "6")]
    pub(crate) maximum: String,
    #[prost(string, tag = "7")]
    pub(crate) unit: String,
}

/// A device.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Device {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) spec: Option<DeviceSpec>,
    #[prost(message, optional, tag = "3")]
    pub(crate) status: Option<DeviceStatus>,
    #[prost(string, tag = "4")]
    pub(crate) namespace: String,
}

/// What a device is to be.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DeviceSpec {
    #[prost(string, tag = "1")]
    pub(crate) device_model_reference: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) protocol: Option<ProtocolConfig>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) properties: Vec<DeviceProperty>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) methods: Vec<DeviceMethod>,
}

/// Properties that are set together.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DeviceMethod {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) description: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) property_names: Vec<String>,
}

/// A property of a device.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DeviceProperty {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) desired: Option<TwinProperty>,
    #[prost(message, optional, tag = "3")]
    pub(crate) visitors: Option<ProtocolConfig>,
    #[prost(int64, tag = "4")]
    pub(crate) report_cycle: i64,
    #[prost(int64, tag = "5")]
    pub(crate) collect_cycle: i64,
    #[prost(bool, tag = "6")]
    pub(crate) report_to_cloud: bool,
    #[prost(message, optional, tag = "7")]
    pub(crate) push_method: Option<PushMethod>,
}

/// How a device, or one property of it, is reached.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ProtocolConfig {
    #[prost(string, tag = "1")]
    pub(crate) protocol_name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) config_data: Option<CustomizedValue>,
}

/// A value.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct TwinProperty {
    #[prost(string, tag = "1")]
    pub(crate) value: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A mapper reports values.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReportDeviceStatusRequest {
    #[prost(string, tag = "1")]
    pub(crate) device_name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) reported_device: Option<DeviceStatus>,
    #[prost(string, tag = "3")]
    pub(crate) device_namespace: String,
}

/// The values of a device.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DeviceStatus {
    #[prost(message, repeated, tag = "1")]
    pub(crate) twins: Vec<Twin>,
    #[prost(bool, tag = "2")]
    pub(crate) report_to_cloud: bool,
    #[prost(int64, tag = "3")]
    pub(crate) report_cycle: i64,
}

/// The values of a property.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Twin {
    #[prost(string, tag = "1")]
    pub(crate) property_name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) observed_desired: Option<TwinProperty>,
    #[prost(message, optional, tag = "3")]
    pub(crate) reported: Option<TwinProperty>,
}

/// A mapper reports how a device is.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReportDeviceStatesRequest {
    #[prost(string, tag = "1")]
    pub(crate) device_name: String,
    #[prost(string, tag = "2")]
    pub(crate) device_namespace: String,
    #[prost(string, tag = "3")]
    pub(crate) state: String,
}

/// A mapper is told of a device.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeviceRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) device: Option<Device>,
}

/// A mapper is told of a model.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) model: Option<DeviceModel>,
}

/// A mapper is told that something is gone, or asked about it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NameRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
}

/// An answer of which nothing is used.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Empty {}
