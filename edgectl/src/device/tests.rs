//! Devices as the database and devicetwin tell of them.

use serde_json::json;

use super::*;

fn devices() -> Devices {
    let stored = json!({
        "rows": [{"id": "default/sensor1", "name": "sensor1", "state": "online",
            "last_online": "2026-11-23T04:31:25Z", "twins": [
            {"name": "temperature", "expected": "20", "actual": "23", "attr_type": "int",
                "expected_meta": "{\"timestamp\":1795408284847}",
                "actual_meta": "{\"timestamp\":1795408284847}",
                "expected_version": "{\"cloud\":0,\"edge\":3}",
                "actual_version": "{\"cloud\":0,\"edge\":3}", "optional": true, "metadata": "{}"},
            {"name": "gone", "attr_type": "deleted"}]},
            {"id": "default/told", "name": "told"}],
        "objects": [{"metadata": {"name": "sensor1", "namespace": "default"}, "spec": {
            "deviceModelRef": {"name": "sensor-model"}, "protocol": {"protocolName": "modbus"},
            "properties": [{"name": "temperature", "desired": {"value": "31"}},
                {"name": "enable", "desired": {"value": "true"}}]}}],
    });
    let report = json!({"unconfirmed": 1, "mappers": [
        {"name": "toy", "protocol": "modbus", "state": "trouble", "reason": "nobody listens"}]});
    Devices::of(Stored::deserialize(stored).unwrap(), Some(&report))
}

#[test]
fn a_line_tells_of_a_device_and_of_its_mapper() {
    assert_eq!(
        list(&devices(), Style::PLAIN),
        "NAME             STATE   PROTOCOL  MAPPER         REPORTED  LAST REPORT\n\
         default/sensor1  online  modbus    toy (trouble)  1/2       2026-11-23T04:31:24.847Z\n\
         default/told     -       -         -              0/0       -\n\
         \nThe cloud has not confirmed all of 1 device.\n"
    );
}

#[test]
fn the_details_tell_what_is_wanted_and_what_was_reported() {
    let text = details(&devices().devices[0], Style::PLAIN);
    assert!(text.contains("Mapper: toy (trouble): nobody listens\n"), "{text}");
    let table = "PROPERTY     TYPE  DESIRED  REPORTED  VERSION  TIME\n\
                 temperature  int   31       23        3        2026-11-23T04:31:24.847Z\n\
                 enable       -     true     -         -        -\n";
    assert!(text.ends_with(table), "{text}");
    let text = details(&devices().devices[1], Style::PLAIN);
    assert!(text.contains("Known by: membership only"), "{text}");
}

#[test]
fn programs_read_both_sides_with_their_versions() {
    let device = serde_json::to_value(&devices().devices[0]).unwrap();
    assert_eq!(
        device["properties"][0],
        json!({"name": "temperature", "type": "int", "desired": "31",
            "expected": {"value": "20", "time": "2026-11-23T04:31:24.847Z",
                "version": {"cloud": 0, "edge": 3}},
            "reported": {"value": "23", "time": "2026-11-23T04:31:24.847Z",
                "version": {"cloud": 0, "edge": 3}}})
    );
    assert_eq!((&device["hasObject"], &device["protocol"]), (&json!(true), &json!("modbus")));
}
