//! Databases that the Go edgecore wrote.

use super::*;
use crate::row::{DeviceRows, Words};

/// The definitions of the tables that are not ours. Go asks for no more: an index of ours on one of
/// them stays when the file is given back.
fn definitions(connection: &Connection) -> Vec<(String, String)> {
    let sql = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL ORDER BY name";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).filter(|(name, _): &(String, _)| !name.starts_with("outbox")).collect()
}

fn rows(connection: &Connection, table: &str) -> Vec<Vec<rusqlite::types::Value>> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|at| row.get(at)).collect()).unwrap();
    rows.map(Result::unwrap).collect()
}

const TABLES: [&str; 7] =
    ["meta", "meta_v2", "device", "device_attr", "device_twin", "sub_topics", "target_urls"];

#[test]
fn a_recorded_database_is_taken_over_as_it_is_and_can_be_given_back() {
    let mut bench = Bench::recorded("kubeedge-1.23.sql");
    let tables = definitions(&bench.connection());
    let before = TABLES.map(|table| rows(&bench.connection(), table));
    bench.start();
    assert_eq!(bench.health(), None);
    assert!(bench.object("default/pod/cap-pod").unwrap().starts_with(b"{\"kind\":\"Pod\""));
    assert!(bench.object("null/node/edge1").is_some());
    let Ok(Answer::Array(pods)) = bench.ask(Question::Records("/v1, Resource=pods".into())) else {
        panic!()
    };
    let pods: Vec<serde_json::Value> = serde_json::from_slice(&pods).unwrap();
    assert_eq!(pods[0]["metadata"]["name"], "cap-pod");
    let Ok(Answer::Array(topics)) = bench.ask(Question::Words(Words::Topics)) else { panic!() };
    assert_eq!(topics, r#"["default/up"]"#);
    bench.stop();
    assert_eq!(definitions(&bench.connection()), tables);
    assert_eq!(TABLES.map(|table| rows(&bench.connection(), table)), before);
}

#[test]
fn an_empty_database_gets_the_tables_that_the_recorded_one_has() {
    let recorded = Bench::recorded("kubeedge-1.23.sql");
    let bench = Bench::opened();
    assert_eq!(definitions(&bench.connection()), definitions(&recorded.connection()));
}

#[test]
fn a_token_that_go_stored_is_found_by_the_request_that_it_belongs_to() {
    let mut bench = Bench::recorded("kubeedge-1.23.sql");
    bench.start();
    assert_eq!(bench.health(), None);
    let request = Content::from_raw(
        br#"{"spec":{"audiences":null,"expirationSeconds":3607,"boundObjectRef":{"kind":"Pod",
        "apiVersion":"v1","name":"cap-pod","uid":"de31d34e-61c5-4a83-af01-9e3731860a67"}}}"#
            .as_slice()
            .into(),
    );
    let resource = Resource::parse(&Group::Meta, "default/serviceaccounttoken/default");
    let account = Name::of(&resource).unwrap();
    let (question, key) = crate::core::token::question(&account, &request).unwrap();
    let Ok(Answer::One(Some(token))) = bench.ask(question) else { panic!() };
    assert!(token.starts_with(br#"{"apiVersion":"authentication.k8s.io/v1""#));
    assert_eq!(bench.object(&key), None, "Go keeps it under another key");
}

#[test]
fn twins_that_go_stored_come_back_as_one_document() {
    let mut bench = Bench::recorded("kubeedge-1.23.sql");
    bench.start();
    assert_eq!(bench.health(), None);
    let Ok(Answer::One(Some(twin))) = bench.ask(Question::Twin("default/sensor1".into())) else {
        panic!()
    };
    let mut device: DeviceRows = serde_json::from_slice(&twin).unwrap();
    assert_eq!((&*device.twins[0].name, &*device.twins[0].actual), ("temperature", "22"));
    assert!(device.twins[0].optional);
    device.twins[0].actual = "23".to_owned();
    bench.commit(vec![Change::PutTwin(Box::new(device.clone()))]);
    let Ok(Answer::Array(twins)) = bench.ask(Question::Twins) else { panic!() };
    assert_eq!(serde_json::from_slice::<Vec<DeviceRows>>(&twins).unwrap(), [device]);
    bench.commit(vec![Change::RemoveTwin("default/sensor1".into())]);
    assert_eq!(bench.ask(Question::Twins), Ok(Answer::Array("[]".into())));
}

#[test]
fn the_older_spelling_is_read_and_written_beside_the_newer_one() {
    let mut bench = Bench::recorded("kubeedge-1.22.sql");
    bench.start();
    assert_eq!(bench.health(), None);
    assert!(bench.object("null/node/edge1").is_some(), "nodes were kept in namespace default");
    let Ok(Answer::Array(pods)) = bench.ask(Question::Records("/v1, Resource=pods".into())) else {
        panic!()
    };
    assert!(pods.starts_with(b"[{"), "{pods:?}");
    let web = name(Kind::Pod, "web");
    bench.commit(vec![put(&web, 77, "{}")]);
    bench.stop();
    let sql = "SELECT groupversionresource, resourceversion, group_version_resource, \
               resource_version FROM meta_v2 WHERE key = '/core/v1/pods/ns/web'";
    let row: (String, i64, String, i64) = bench
        .connection()
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap();
    let resource = "/v1, Resource=pods".to_owned();
    assert_eq!(row, (resource.clone(), 77, resource, 77));
    // The older Go edgecore writes its columns alone; the newer ones follow at the next start.
    let write = "UPDATE meta_v2 SET resourceversion = 80 WHERE key = '/core/v1/pods/ns/web'";
    bench.connection().execute_batch(write).unwrap();
    bench.start();
    assert_eq!(bench.health(), None);
    bench.stop();
    let sql = "SELECT resource_version FROM meta_v2 WHERE key = '/core/v1/pods/ns/web'";
    let version: i64 = bench.connection().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(version, 80);
}
