//! The tables of devices: `device`, `device_attr` and `device_twin`, one document for each device.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::trouble::Trouble;
use crate::row::{AttributeRow, DeviceRows, TwinRow};

pub(super) fn put(connection: &Connection, device: &DeviceRows) -> rusqlite::Result<()> {
    remove(connection, &device.id)?;
    let DeviceRows { id, name, description, state, last_online, attributes, twins } = device;
    connection
        .prepare_cached(
            "INSERT INTO device (id, name, description, state, last_online) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![id, name, description, state, last_online])?;
    for AttributeRow { name, description, value, optional, attr_type, metadata } in attributes {
        connection
            .prepare_cached(
                "INSERT INTO device_attr \
                 (deviceid, name, description, value, optional, attr_type, metadata) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![id, name, description, value, optional, attr_type, metadata])?;
    }
    for twin in twins {
        put_twin(connection, id, twin)?;
    }
    Ok(())
}

fn put_twin(connection: &Connection, id: &str, twin: &TwinRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO device_twin \
             (deviceid, name, description, expected, actual, expected_meta, actual_meta, \
              expected_version, actual_version, optional, attr_type, metadata) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            id,
            twin.name,
            twin.description,
            twin.expected,
            twin.actual,
            twin.expected_meta,
            twin.actual_meta,
            twin.expected_version,
            twin.actual_version,
            twin.optional,
            twin.attr_type,
            twin.metadata
        ])
        .map(drop)
}

pub(super) fn remove(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM device WHERE id = ?1",
        "DELETE FROM device_attr WHERE deviceid = ?1",
        "DELETE FROM device_twin WHERE deviceid = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([id])?;
    }
    Ok(())
}

pub(super) fn get(connection: &Connection, id: &str) -> Result<Option<Bytes>, Trouble> {
    match read(connection, id)? {
        Some(device) => encode(&device).map(|text| Some(text.into())),
        None => Ok(None),
    }
}

/// Returns all devices as one JSON array.
pub(super) fn all(connection: &Connection, bound: usize) -> Result<Bytes, Trouble> {
    let mut statement = connection.prepare_cached("SELECT id FROM device ORDER BY id")?;
    let ids = statement.query_map([], |row| text(row, 0))?.collect::<Result<Vec<_>, _>>()?;
    let mut array = vec![b'['];
    for device in ids.iter().filter_map(|id| read(connection, id).transpose()) {
        if array.len() > 1 {
            array.push(b',');
        }
        array.extend(encode(&device?)?);
        if array.len() >= bound {
            return Err(Trouble::Failing(format!(
                "the list of devices is longer than the {bound} bytes of one message"
            )));
        }
    }
    array.push(b']');
    Ok(array.into())
}

fn encode(device: &DeviceRows) -> Result<Vec<u8>, Trouble> {
    serde_json::to_vec(device).map_err(|error| Trouble::Failing(error.to_string()))
}

fn read(connection: &Connection, id: &str) -> rusqlite::Result<Option<DeviceRows>> {
    let sql = "SELECT name, description, state, last_online FROM device WHERE id = ?1";
    let device = connection
        .prepare_cached(sql)?
        .query_row([id], |row| {
            Ok(DeviceRows {
                id: id.to_owned(),
                name: text(row, 0)?,
                description: text(row, 1)?,
                state: text(row, 2)?,
                last_online: text(row, 3)?,
                ..DeviceRows::default()
            })
        })
        .optional()?;
    let Some(mut device) = device else { return Ok(None) };
    let sql = "SELECT name, description, value, optional, attr_type, metadata \
               FROM device_attr WHERE deviceid = ?1 ORDER BY id";
    device.attributes =
        connection.prepare_cached(sql)?.query_map([id], attribute)?.collect::<Result<_, _>>()?;
    let sql = "SELECT name, description, expected, actual, expected_meta, actual_meta, \
               expected_version, actual_version, optional, attr_type, metadata \
               FROM device_twin WHERE deviceid = ?1 ORDER BY id";
    device.twins =
        connection.prepare_cached(sql)?.query_map([id], twin)?.collect::<Result<_, _>>()?;
    Ok(Some(device))
}

fn attribute(row: &Row<'_>) -> rusqlite::Result<AttributeRow> {
    Ok(AttributeRow {
        name: text(row, 0)?,
        description: text(row, 1)?,
        value: text(row, 2)?,
        optional: row.get::<_, Option<bool>>(3)?.unwrap_or_default(),
        attr_type: text(row, 4)?,
        metadata: text(row, 5)?,
    })
}

fn twin(row: &Row<'_>) -> rusqlite::Result<TwinRow> {
    Ok(TwinRow {
        name: text(row, 0)?,
        description: text(row, 1)?,
        expected: text(row, 2)?,
        actual: text(row, 3)?,
        expected_meta: text(row, 4)?,
        actual_meta: text(row, 5)?,
        expected_version: text(row, 6)?,
        actual_version: text(row, 7)?,
        optional: row.get::<_, Option<bool>>(8)?.unwrap_or_default(),
        attr_type: text(row, 9)?,
        metadata: text(row, 10)?,
    })
}

/// Reads a column that the Go edgecore may have left null.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(row.get::<_, Option<String>>(column)?.unwrap_or_default())
}
