//! The messages between mappers and the edge, as protobuf's JSON: written down from the interface,
//! apart from what the program under test takes them for.

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use serde_json::{Map, Value, json};

/// A message in each line, its fields with their types (texts have none) and numbers. `*` stands
/// for many, braces for a map from texts.
const MESSAGES: &str = "
MapperRegisterRequest withData:bool=1 mapper:MapperInfo=2
MapperRegisterResponse modelList:DeviceModel*=1 deviceList:Device*=2
MapperInfo name=1 version=2 apiVersion=3 protocol=4 address:bytes=5 state=6
DeviceModel name=1 spec:DeviceModelSpec=2 namespace=3
DeviceModelSpec properties:ModelProperty*=1
ModelProperty name=1 description=2 type=3 accessMode=4 minimum=5 maximum=6 unit=7
Device name=1 spec:DeviceSpec=2 status:DeviceStatus=3 namespace=4
DeviceSpec deviceModelReference=1 protocol:Config=2 properties:DeviceProperty*=3 methods:DeviceMethod*=4
DeviceMethod name=1 description=2 propertyNames:string*=3
DeviceProperty name=1 desired:TwinProperty=2 visitors:Config=3 reportCycle:int64=4 collectCycle:int64=5 reportToCloud:bool=6 pushMethod:PushMethod=7
Config protocolName=1 configData:CustomizedValue=2
CustomizedValue data:{Any}=1
PushMethod http:PushMethodHTTP=1 mqtt:PushMethodMQTT=2 dbMethod:DBMethod=3 otel:PushMethodOTEL=4 anomalyDetection:CustomizedValue=5
PushMethodHTTP hostname=1 port:int64=2 requestpath=3 timeout:int64=4
PushMethodMQTT address=1 topic=2 qos:int32=3 retained:bool=4
PushMethodOTEL endpointURL=1
DBMethod influxdb2:DBMethodInfluxdb2=1 redis:DBMethodRedis=2 tdengine:DBMethodTDEngine=3 mysql:DBMethodMySQL=4
DBMethodInfluxdb2 influxdb2ClientConfig:Influxdb2ClientConfig=1 influxdb2DataConfig:Influxdb2DataConfig=2
Influxdb2ClientConfig url=1 org=2 bucket=3
Influxdb2DataConfig measurement=1 tag:{string}=2 fieldKey=3
DBMethodRedis redisClientConfig:RedisClientConfig=1
RedisClientConfig addr=1 db:int32=2 poolsize:int32=3 minIdleConns:int32=4
DBMethodTDEngine tdEngineClientConfig:TDEngineClientConfig=1
TDEngineClientConfig addr=1 dbname=2
DBMethodMySQL mysqlClientConfig:MySQLClientConfig=1
MySQLClientConfig addr=1 database=2 userName=3
ReportDeviceStatusRequest deviceName=1 reportedDevice:DeviceStatus=2 deviceNamespace=3
DeviceStatus twins:Twin*=1 reportToCloud:bool=2 reportCycle:int64=3
Twin propertyName=1 observedDesired:TwinProperty=2 reported:TwinProperty=3
TwinProperty value=1 metadata:{string}=2
ReportDeviceStatesRequest deviceName=1 deviceNamespace=2 state=3
RegisterDeviceRequest device:Device=1
UpdateDeviceRequest device:Device=1
RemoveDeviceRequest deviceName=1 deviceNamespace=2
GetDeviceRequest deviceName=1 deviceNamespace=2
GetDeviceResponse device:Device=1
CreateDeviceModelRequest model:DeviceModel=1
UpdateDeviceModelRequest model:DeviceModel=1
RemoveDeviceModelRequest modelName=1 modelNamespace=2
RegisterDeviceResponse deviceName=1 deviceNamespace=2
CreateDeviceModelResponse deviceModelName=1 deviceModelNamespace=2
RemoveDeviceResponse
UpdateDeviceResponse
RemoveDeviceModelResponse
UpdateDeviceModelResponse
ReportDeviceStatusResponse
ReportDeviceStatesResponse
Entry key=1
FloatValue value:float=1
StringValue value=1
BoolValue value:bool=1
";

/// What the type of a packed value begins with.
const PACKED: &str = "type.googleapis.com/google.protobuf.";

/// A field: its name, type and number.
struct Field(&'static str, &'static str, u64);

fn fields(message: &str) -> Result<impl Iterator<Item = Field> + Clone> {
    let mut lines = MESSAGES.lines().map(str::split_whitespace);
    let line = lines.find(|line| line.clone().next() == Some(message));
    let line = line.with_context(|| format!("'{message}' is no message of the interface"))?;
    Ok(line.skip(1).filter_map(|field| {
        let (field, number) = field.split_once('=')?;
        let (name, kind) = field.split_once(':').unwrap_or((field, "string"));
        Some(Field(name, kind, number.parse().ok()?))
    }))
}

/// Writes a message.
///
/// # Errors
/// When the interface has no such message or field.
pub(super) fn encode(message: &str, value: &Value) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let value = value.as_object().with_context(|| format!("{message}: {value} is no object"))?;
    for (name, value) in value {
        let field = fields(message)?.find(|field| field.0 == name);
        let Field(_, kind, number) = field.with_context(|| format!("{message} has no {name}"))?;
        if let Some(kind) = kind.strip_suffix('*') {
            for value in value.as_array().into_iter().flatten() {
                put(kind, number, value, &mut out)?;
            }
        } else if let Some(kind) = map_of(kind) {
            for (key, value) in value.as_object().into_iter().flatten() {
                let mut entry = encode("Entry", &json!({"key": key}))?;
                put(kind, 2, value, &mut entry)?;
                put_bytes(number, &entry, &mut out);
            }
        } else {
            put(kind, number, value, &mut out)?;
        }
    }
    Ok(out)
}

fn map_of(kind: &str) -> Option<&str> {
    kind.strip_prefix('{')?.strip_suffix('}')
}

fn put(kind: &str, number: u64, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    let text = || value.as_str().with_context(|| format!("{value} is no text"));
    match kind {
        "string" => put_bytes(number, text()?.as_bytes(), out),
        "bytes" => put_bytes(number, &BASE64.decode(text()?.as_bytes())?, out),
        "bool" => put_varint(number, u64::from(value.as_bool().context("no boolean")?), out),
        "int32" | "int64" => {
            let whole = value.as_i64().or_else(|| value.as_str()?.parse().ok());
            let whole = whole.with_context(|| format!("{value} is no whole number"))?;
            put_varint(number, whole.cast_unsigned(), out);
        }
        "float" => {
            #[expect(clippy::cast_possible_truncation, reason = "it is one of 32 bits")]
            let float = value.as_f64().context("no number")? as f32;
            varint(number << 3 | 5, out);
            out.extend(float.to_le_bytes());
        }
        "Any" => {
            let name = value["@type"].as_str().context("a packed value has a type")?;
            let packed = name.strip_prefix(PACKED).context("an unknown type")?;
            let inner = encode(packed, &json!({"value": value["value"]}))?;
            let mut any = Vec::new();
            put_bytes(1, name.as_bytes(), &mut any);
            put_bytes(2, &inner, &mut any);
            put_bytes(number, &any, out);
        }
        message => put_bytes(number, &encode(message, value)?, out),
    }
    Ok(())
}

fn put_bytes(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend(bytes);
}

fn put_varint(number: u64, value: u64, out: &mut Vec<u8>) {
    varint(number << 3, out);
    varint(value, out);
}

#[expect(clippy::cast_possible_truncation, reason = "the lowest bits are meant")]
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a message.
///
/// # Errors
/// When it is none of the interface.
pub(super) fn decode(message: &str, mut bytes: &[u8]) -> Result<Value> {
    let mut object = Map::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let field = fields(message)?.find(|field| field.2 == tag >> 3);
        let field = field.with_context(|| format!("{message} has no field {}", tag >> 3))?;
        let Field(name, kind, _) = field;
        if let Some(kind) = kind.strip_suffix('*') {
            let list = object.entry(name).or_insert_with(|| json!([]));
            list.as_array_mut().context("a list")?.push(get(kind, tag, &mut bytes)?);
        } else if let Some(kind) = map_of(kind) {
            let (key, value) = entry(kind, take_bytes(&mut bytes)?)?;
            object.entry(name).or_insert_with(|| json!({}))[key] = value;
        } else {
            object.insert(name.to_owned(), get(kind, tag, &mut bytes)?);
        }
    }
    Ok(object.into())
}

fn get(kind: &str, tag: u64, bytes: &mut &[u8]) -> Result<Value> {
    let expected = match kind {
        "bool" | "int32" | "int64" => 0,
        "float" => 5,
        _ => 2,
    };
    ensure!(tag & 7 == expected, "field {} of type {kind} is written as {}", tag >> 3, tag & 7);
    Ok(match kind {
        "string" => std::str::from_utf8(take_bytes(bytes)?)?.into(),
        "bytes" => BASE64.encode(take_bytes(bytes)?).into(),
        "bool" => (take_varint(bytes)? != 0).into(),
        "int32" => take_varint(bytes)?.cast_signed().into(),
        "int64" => take_varint(bytes)?.cast_signed().to_string().into(),
        "float" => f32::from_le_bytes(*take_array(bytes)?).into(),
        "Any" => {
            let mut any = take_bytes(bytes)?;
            let mut parts = [&[][..]; 2];
            while !any.is_empty() {
                let number = usize::try_from(take_varint(&mut any)? >> 3)?;
                let part = parts.get_mut(number - 1).context("a packed value has two parts")?;
                *part = take_bytes(&mut any)?;
            }
            let name = std::str::from_utf8(parts[0])?;
            let packed = name.strip_prefix(PACKED).context("an unknown type")?;
            let mut any = decode(packed, parts[1])?;
            any["@type"] = name.into();
            any
        }
        message => decode(message, take_bytes(bytes)?)?,
    })
}

fn entry(kind: &str, mut bytes: &[u8]) -> Result<(String, Value)> {
    let (mut key, mut value) = (String::new(), Value::Null);
    while !bytes.is_empty() {
        match take_varint(&mut bytes)? {
            0x0a => key = String::from_utf8(take_bytes(&mut bytes)?.to_vec())?,
            tag => value = get(kind, tag, &mut bytes)?,
        }
    }
    Ok((key, value))
}

fn take_array<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<&'a [u8; N]> {
    let (head, rest) = bytes.split_first_chunk().context("the message ends too early")?;
    *bytes = rest;
    Ok(head)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = usize::try_from(take_varint(bytes)?)?;
    let (head, rest) = bytes.split_at_checked(length).context("the message ends too early")?;
    *bytes = rest;
    Ok(head)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = *take_array(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a number of more than 64 bits")
}
