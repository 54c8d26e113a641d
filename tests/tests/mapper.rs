//! Mappers: programs on the node that speak with devices and, by gRPC, with devicetwin.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::bus::Place;
use edgecore_tests::rig::devices::{device, heard, heard_on, model};
use edgecore_tests::rig::mapper::{Manner, Mapper, Refusal};
use edgecore_tests::rig::mosquitto::publish;
use edgecore_tests::rig::privilege::is_root;
use edgecore_tests::rig::{SOON, process, wait_for, wait_until};
use ipc_proto::Module;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Another device, of another protocol.
fn other_device() -> Value {
    let mut device = device();
    device["metadata"]["name"] = json!("sensor2");
    device["spec"]["protocol"]["protocolName"] = json!("opcua");
    device
}

fn wanting(mut device: Value, temperature: &str) -> Value {
    device["spec"]["properties"][0]["desired"]["value"] = json!(temperature);
    device
}

fn reading(device: &str, value: &str) -> Value {
    json!({"deviceName": device, "deviceNamespace": "default", "reportedDevice": {"twins": [
        {"propertyName": "temperature", "reported": {"value": value}}]}})
}

/// Returns the temperature that a mapper is told to set.
fn wanted(request: &Value) -> &Value {
    &request["device"]["spec"]["properties"][0]["desired"]["value"]
}

#[test]
fn a_mapper_hears_of_models_and_devices_that_come_change_and_go() -> Result<()> {
    let place = Place::of_device()?;
    let mapper = place.mapper("m")?;
    let reply = mapper.register("toy", "modbus", true)?;
    let spec = &reply["deviceList"][0]["spec"];
    assert_eq!(spec["deviceModelReference"], "sensor-model");
    assert_eq!(reply["modelList"][0]["name"], "sensor-model");

    let mut second = device();
    second["metadata"]["name"] = json!("another");
    place.apply(second)?;
    let request = mapper.wait_call("RegisterDevice")?;
    assert_eq!(request["device"]["name"], "another");
    // It differs from the first by its name alone.
    assert_eq!(&request["device"]["spec"], spec);

    place.apply(wanting(device(), "25"))?;
    assert_eq!(wanted(&mapper.wait_call("UpdateDevice")?), "25");
    let mut changed = model();
    changed["spec"]["properties"][0]["maximum"] = json!("200");
    place.apply(changed)?;
    let request = mapper.wait_call("UpdateDeviceModel")?;
    assert_eq!(request["model"]["spec"]["properties"][0]["maximum"], "200");

    let mut new = model();
    new["metadata"]["name"] = json!("new-model");
    place.apply(new)?;
    let mut third = device();
    third["metadata"]["name"] = json!("third");
    third["spec"]["deviceModelRef"]["name"] = json!("new-model");
    place.apply(third)?;
    assert_eq!(mapper.wait_call("CreateDeviceModel")?["model"]["name"], "new-model");
    assert_eq!(mapper.wait_call("RegisterDevice")?["device"]["name"], "third");

    place.delete("default/device/third")?;
    let gone = json!({"deviceName": "third", "deviceNamespace": "default"});
    assert_eq!(mapper.wait_call("RemoveDevice")?, gone);
    Ok(())
}

#[test]
fn a_report_of_a_mapper_reaches_the_cloud_and_one_that_lacks_anything_harms_nobody() -> Result<()> {
    let place = Place::of_device()?;
    let mapper = place.mapper("m")?;
    let pid = place.rig.pid_of(Module::Devicetwin)?;
    mapper.register("toy", "modbus", true)?;
    let whole = reading("sensor1", "21");
    let twin = |fields: Value| {
        let mut report = reading("sensor1", "21");
        report["reportedDevice"]["twins"][0] = fields;
        report
    };
    let without = |field: &str| {
        let mut report = whole.clone();
        report.as_object_mut().map(|fields| fields.remove(field));
        report
    };
    let lacking = [
        (json!({}), Some(5)),
        (without("deviceName"), Some(5)),
        (without("deviceNamespace"), Some(5)),
        (without("reportedDevice"), None),
        (twin(json!({})), Some(3)),
        (twin(json!({"propertyName": "temperature"})), None),
        (twin(json!({"propertyName": "temperature", "reported": {}})), None),
        (twin(json!({"propertyName": "temperature", "observedDesired": {"value": "20"}})), None),
    ];
    for (report, code) in lacking {
        let answer = mapper.ask("ReportDeviceStatus", &report)?;
        assert_eq!(answer.err().map(|refusal| refusal.code), code, "{report}");
    }
    for state in [json!({}), json!({"deviceName": "sensor1", "deviceNamespace": "default"})] {
        let refused = mapper.ask("ReportDeviceStates", &state)?.err().map(|it| it.code);
        assert!(refused.is_some(), "{state}");
    }
    for mapper_info in [json!({}), json!({"mapper": {"name": "x"}}), json!({"withData": true})] {
        let Err(Refusal { code, reason }) = mapper.ask("MapperRegister", &mapper_info)? else {
            panic!("{mapper_info} is taken");
        };
        assert_eq!(code, 3);
        assert!(reason.contains("the mapper"), "{reason}");
    }
    mapper.insist("ReportDeviceStatus", &whole)?;
    place.wait_for_value("21")?;
    assert_eq!(place.rig.pid_of(Module::Devicetwin)?, pid);
    Ok(())
}

#[test]
fn a_mapper_that_registered_is_served_after_the_death_of_devicetwin_and_from_a_new_socket()
-> Result<()> {
    let place = Place::of_device()?;
    let mapper = place.mapper("m")?;
    mapper.register("toy", "modbus", true)?;
    place.rig.signal(Module::Devicetwin, Signal::KILL)?;
    // All is told again: what the mapper was told before died with the one who told it.
    assert_eq!(mapper.wait_call("RegisterDevice")?["device"]["name"], "sensor1");
    place.apply(wanting(device(), "26"))?;
    assert_eq!(wanted(&mapper.wait_call("UpdateDevice")?), "26");

    let moved = place.mapper("n")?;
    moved.register("toy", "modbus", true)?;
    place.rig.signal(Module::Devicetwin, Signal::KILL)?;
    assert_eq!(wanted(&moved.wait_call("RegisterDevice")?), "26");
    Ok(())
}

#[test]
fn a_mapper_that_died_is_told_everything_when_it_is_back() -> Result<()> {
    let place = Place::of_device()?;
    let mapper = place.mapper("m")?;
    mapper.register("toy", "modbus", true)?;
    drop(mapper);
    place.apply(wanting(device(), "27"))?;
    place.wait_for_twins("the death is noticed", |report| {
        let mapper = &report["mappers"][0];
        let reason = mapper["reason"].as_str().unwrap_or_default();
        mapper["state"] == "trouble" && reason.contains("has ended")
    })?;
    let mapper = place.mapper("m")?;
    assert_eq!(mapper.wait_call("CreateDeviceModel")?["model"]["name"], "sensor-model");
    assert_eq!(wanted(&mapper.wait_call("RegisterDevice")?), "27");
    place.wait_for_twins("it is well again", |report| report["mappers"][0]["state"] == "ok")
}

#[test]
fn a_mapper_that_does_not_know_its_device_is_told_of_it_again() -> Result<()> {
    let place = Place::of_device()?;
    let mapper = place.mapper("m")?;
    mapper.register("toy", "modbus", true)?;
    mapper.behave(Manner::Refusing(5));
    let asked = mapper.wait_question()?;
    assert_eq!(asked, json!({"deviceName": "sensor1", "deviceNamespace": "default"}));
    assert_eq!(mapper.wait_call("RegisterDevice")?["device"]["name"], "sensor1");
    Ok(())
}

/// Checks that another mapper and an application are served.
fn others_are_served(place: &Place, other: &Mapper, value: u32) -> Result<()> {
    place.apply(wanting(other_device(), &value.to_string()))?;
    ensure!(wanted(&other.wait_call("UpdateDevice")?) == &json!(value.to_string()));
    other.insist("ReportDeviceStatus", &reading("sensor2", &value.to_string()))?;
    let mut results = place.hear("twin/update/result")?;
    place.update(value)?;
    // A mapper that floods is heard on the same topic.
    loop {
        let result = heard(&mut results)?;
        if result["event_id"] == "e3" {
            let actual = &result["twin"]["temperature"]["actual"]["value"];
            ensure!(actual == &json!(value.to_string()), "{result}");
            return Ok(());
        }
    }
}

/// A process that calls devicetwin without end.
struct Flood(Child);

impl Flood {
    fn start(place: &Place) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flood"));
        command.arg(place.rig.setup().folder.path().join("dmi/dmi.sock"));
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_mapper_that_hangs_refuses_or_floods_hurts_only_itself() -> Result<()> {
    let place = Place::of_device()?;
    place.apply(other_device())?;
    place.wait_for_devices(2)?;
    let bad = place.mapper("bad")?;
    bad.register("bad", "modbus", true)?;
    let other = place.mapper("other")?;
    other.register("other", "opcua", true)?;
    let pid = place.rig.pid_of(Module::Devicetwin)?;

    bad.behave(Manner::Hung);
    place.apply(wanting(device(), "30"))?;
    assert_eq!(wanted(&bad.wait_call("UpdateDevice")?), "30");
    others_are_served(&place, &other, 31)?;
    bad.behave(Manner::Refusing(13));
    // The call that hangs ends in its time; the next one is answered.
    assert_eq!(wanted(&bad.wait_call("RegisterDevice")?), "30");
    place.wait_for_twins("the refusal is shown", |report| {
        let reason = report["mappers"][0]["reason"].as_str().unwrap_or_default();
        reason.contains("Internal")
    })?;
    others_are_served(&place, &other, 32)?;
    bad.behave(Manner::Good);

    let _flood = Flood::start(&place)?;
    place.wait_for_twins("the flood is there", |report| {
        report["badInput"]["unknownDevices"].as_u64().is_some_and(|count| count > 100)
    })?;
    others_are_served(&place, &other, 33)?;
    assert_eq!(place.rig.pid_of(Module::Devicetwin)?, pid);
    let open = process::descriptors(pid)?.len();
    assert!(open < 60, "{open} descriptors, though one mapper may have 8 connections");
    Ok(())
}

#[test]
fn a_socket_without_permission_is_named_with_the_way_out() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let place = Place::of_device()?;
    let mapper = place.mapper("m")?;
    // As a mapper that runs as root makes it.
    std::fs::set_permissions(mapper.socket(), Permissions::from_mode(0o755))?;
    mapper.register("toy", "modbus", true)?;
    place.apply(wanting(device(), "28"))?;
    place.wait_for_twins("it is named", |report| {
        let reason = report["mappers"][0]["reason"].as_str().unwrap_or_default();
        reason.contains("no permission to connect to") && reason.contains("devicetwin.user")
    })?;
    std::fs::set_permissions(mapper.socket(), Permissions::from_mode(0o777))?;
    assert_eq!(wanted(&mapper.wait_call("RegisterDevice")?), "28");
    Ok(())
}

/// What was recorded between a mapper, applications and the Go edgecore.
struct Recorded {
    way: String,
    method: String,
    message: Value,
}

fn recorded() -> Result<Vec<Recorded>> {
    let lines = include_str!("../fixtures/devices/dmi.jsonl").lines();
    let read = |line: &str| {
        let mut line: Value = serde_json::from_str(line)?;
        let text = |name| line[name].as_str().map(str::to_owned).context("not recorded so");
        Ok(Recorded { way: text("way")?, method: text("method")?, message: line["message"].take() })
    };
    lines.map(read).collect()
}

/// Takes out what is different each time.
fn plain(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let own = matches!(field.as_str(), Some("e1" | "e2" | "e3" | "e4"));
                *field = match &**name {
                    "timestamp" | "lastOnlineTime" => Value::Null,
                    "event_id" if !own => Value::Null,
                    _ => plain(field.take()),
                };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = plain(item.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

/// Tells whether applications publish on this topic.
fn is_of_applications(topic: &str) -> bool {
    let ends = ["twin/get", "twin/update", "state/update", "membership/get"];
    ends.iter().any(|end| topic.ends_with(end))
}

#[test]
fn what_was_recorded_of_applications_and_mappers_happens_again() -> Result<()> {
    let place = Place::of_device()?;
    let topics = include_str!("../fixtures/devices/mqtt.txt").lines();
    let topics: Vec<_> = topics.filter_map(|line| line.split_once(' ')).collect();
    let mut said = topics.iter().filter(|(topic, payload)| {
        // To a mapper's report without a property Go answered that to applications.
        !is_of_applications(topic) && !payload.contains("key:twin does not exist")
    });
    let mut all = edgecore_tests::rig::mosquitto::subscribe(place.port(), "$hw/events/#", &[])?;
    let mut expect = |count: usize| {
        for (topic, payload) in said.by_ref().take(count) {
            let heard = loop {
                let (heard, payload) = heard_on(&mut all)?;
                if !is_of_applications(&heard) {
                    break (heard, plain(payload));
                }
            };
            let expected = (topic.to_string(), plain(serde_json::from_str(payload)?));
            ensure!(heard == expected, "heard {heard:?}\nexpected {expected:?}");
        }
        Ok(())
    };
    for (topic, payload) in topics.iter().filter(|(topic, _)| is_of_applications(topic)) {
        publish(place.port(), topic, payload, &[])?;
    }
    expect(5)?;
    place.delete("default/device/sensor1")?;
    expect(1)?;
    // The cloud forgets a model that comes back while the word of its end still waits.
    wait_until("the cloud has said all", SOON, || {
        let sessions = place.cloud.with(|cloud| async move { cloud.sessions().await });
        sessions.is_ok_and(|all| all.iter().all(|it| it.waiting == 0 && !it.in_flight))
    })?;
    place.apply(device())?;
    expect(1)?;
    replay_the_mapper(&place)?;
    // Three reports with three messages each, the state, and the end of the device.
    expect(11)?;
    ensure!(said.next().is_none(), "not all was replayed");
    Ok(())
}

/// Says what the recorded mapper said and checks what it heard.
fn replay_the_mapper(place: &Place) -> Result<()> {
    let mapper = place.mapper("m")?;
    let recorded = recorded()?;
    let mut replies = recorded.iter().filter(|line| line.way == "reply");
    let mut unanswered = 0;
    for Recorded { method, message, .. } in recorded.iter().filter(|line| line.way == "to edge") {
        let Some(expected) = replies.next() else {
            unanswered += 1;
            continue;
        };
        let mut last = Value::Null;
        let same = wait_for(&format!("{method} is answered as recorded"), SOON, || {
            // The model may come later than the device.
            last = if method == "MapperRegister" {
                mapper.register("toy", "modbus", true).ok()?
            } else {
                mapper.insist(method, message).ok()?
            };
            (last == expected.message).then_some(())
        });
        same.with_context(|| format!("{last}\nexpected {}", expected.message))?;
    }
    ensure!(unanswered == 1, "one report without an answer was recorded");
    let status = include_str!("../fixtures/devices/devicestatus.json");
    let status = plain(serde_json::from_str(status)?);
    wait_for("the cloud has the recorded status", SOON, || {
        (plain(place.status().ok()?) == status).then_some(())
    })
    .with_context(|| format!("{:?}", place.status()))?;
    place.apply(wanting(device(), "31"))?;
    let told: Vec<_> = recorded.iter().filter(|line| line.way == "to mapper").collect();
    ensure!(mapper.wait_call("UpdateDevice")? == told[0].message);
    place.delete("default/devicemodel/sensor-model")?;
    ensure!(mapper.wait_call("RemoveDeviceModel")? == told[1].message);
    place.delete("default/device/sensor1")?;
    ensure!(mapper.wait_call("RemoveDevice")? == told[2].message);
    Ok(())
}
