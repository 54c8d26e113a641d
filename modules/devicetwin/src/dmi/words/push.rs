//! Where a mapper sends values beside the edge.

use std::collections::BTreeMap;

use prost::Message;
use serde::Deserialize;

use super::CustomizedValue;

/// Where a mapper sends a property's values beside the edge.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PushMethod {
    #[prost(message, optional, tag = "1")]
    pub(crate) http: Option<PushMethodHttp>,
    #[prost(message, optional, tag = "2")]
    pub(crate) mqtt: Option<PushMethodMqtt>,
    #[prost(message, optional, tag = "3")]
    pub(crate) db_method: Option<DbMethod>,
    #[prost(message, optional, tag = "4")]
    pub(crate) otel: Option<PushMethodOtel>,
    #[prost(message, optional, tag = "5")]
    pub(crate) anomaly_detection: Option<CustomizedValue>,
}

/// An HTTP server.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PushMethodHttp {
    #[prost(string, tag = "1")]
    #[serde(rename = "hostName")]
    pub(crate) hostname: String,
    #[prost(int64, tag = "2")]
    pub(crate) port: i64,
    #[prost(string, tag = "3")]
    #[serde(rename = "requestPath")]
    pub(crate) requestpath: String,
    #[prost(int64, tag = "4")]
    pub(crate) timeout: i64,
}

/// A broker.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PushMethodMqtt {
    #[prost(string, tag = "1")]
    pub(crate) address: String,
    #[prost(string, tag = "2")]
    pub(crate) topic: String,
    #[prost(int32, tag = "3")]
    pub(crate) qos: i32,
    #[prost(bool, tag = "4")]
    pub(crate) retained: bool,
}

/// A collector of telemetry.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PushMethodOtel {
    #[prost(string, tag = "1")]
    #[serde(rename = "endpointURL")]
    pub(crate) endpoint_url: String,
}

/// A database.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DbMethod {
    #[prost(message, optional, tag = "1")]
    pub influxdb2: Option<Influxdb2>,
    #[prost(message, optional, tag = "2")]
    pub(crate) redis: Option<Redis>,
    #[prost(message, optional, tag = "3")]
    #[serde(rename = "TDEngine")]
    pub(crate) tdengine: Option<TdEngine>,
    #[prost(message, optional, tag = "4")]
    pub(crate) mysql: Option<MySql>,
}

/// InfluxDB.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Influxdb2 {
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "influxdb2ClientConfig")]
    pub(crate) client: Option<Influxdb2Client>,
    #[prost(message, optional, tag = "2")]
    #[serde(rename = "influxdb2DataConfig")]
    pub(crate) data: Option<Influxdb2Data>,
}

/// Where in InfluxDB.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Influxdb2Data {
    #[prost(string, tag = "1")]
    pub(crate) measurement: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) tag: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    pub(crate) field_key: String,
}

/// Which InfluxDB.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Influxdb2Client {
    #[prost(string, tag = "1")]
    pub(crate) url: String,
    #[prost(string, tag = "2")]
    pub(crate) org: String,
    #[prost(string, tag = "3")]
    pub(crate) bucket: String,
}

/// Redis.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Redis {
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "redisClientConfig")]
    pub(crate) client: Option<RedisClient>,
}

/// Which Redis.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RedisClient {
    #[prost(string, tag = "1")]
    pub(crate) addr: String,
    #[prost(int32, tag = "2")]
    pub(crate) db: i32,
    #[prost(int32, tag = "3")]
    pub(crate) poolsize: i32,
    #[prost(int32, tag = "4")]
    pub(crate) min_idle_conns: i32,
}

/// TDengine.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct TdEngine {
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "TDEngineClientConfig")]
    pub(crate) client: Option<TdEngineClient>,
}

/// Which TDengine.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct TdEngineClient {
    #[prost(string, tag = "1")]
    pub(crate) addr: String,
    #[prost(string, tag = "2")]
    #[serde(rename = "dbName")]
    pub(crate) dbname: String,
}

/// MySQL.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct MySql {
    #[prost(message, optional, tag = "1")]
    #[serde(rename = "mysqlClientConfig")]
    pub(crate) client: Option<MySqlClient>,
}

/// Which MySQL.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct MySqlClient {
    #[prost(string, tag = "1")]
    pub(crate) addr: String,
    #[prost(string, tag = "2")]
    pub(crate) database: String,
    #[prost(string, tag = "3")]
    pub(crate) user_name: String,
}
