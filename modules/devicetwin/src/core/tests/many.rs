//! Many devices, and devices that come again under their name.

use super::*;

/// Numbers of the rows that are on their way to the store.
fn flying(out: &mut Vec<Effect>) -> Vec<(Box<str>, u64)> {
    let rows = out.drain(..).filter_map(|effect| {
        let Effect::Store(number, rows) = effect else { return None };
        Some((rows.id.clone(), number))
    });
    rows.collect()
}

fn device(name: &str, uid: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {"protocol": {"protocolName": "modbus"}, "deviceModelRef": {"name": "m"}}})
}

#[test]
fn ten_thousand_devices_that_come_at_once_are_stored_in_turns_and_announced_once() {
    let mut world = World::new();
    let set: Vec<_> = (0..10_000).map(|number| device(&format!("d{number}"), "1")).collect();
    let set = Value::from(set).to_string();
    world.core.on_devices(world.now, set.as_bytes(), &mut world.out);
    let told = world.out.iter().filter(|effect| matches!(effect, Effect::Publish(..)));
    assert_eq!(told.count(), 1);
    let added = &world.published("membership/updated").unwrap()["added_devices"];
    assert_eq!(added.as_array().unwrap().len(), 10_000);
    let mut stored = 0;
    let mut turn = flying(&mut world.out);
    while !turn.is_empty() {
        assert!(turn.len() <= STORES);
        for (id, number) in turn {
            world.core.on_stored(world.now, (&id, number), true, &mut world.out);
            stored += 1;
        }
        turn = flying(&mut world.out);
    }
    assert_eq!(stored, 10_000);
    // The same set once more is no news.
    world.core.on_devices(world.now, set.as_bytes(), &mut world.out);
    assert_eq!(world.out, []);
}

#[test]
fn a_device_at_rest_takes_little_room() {
    let mut device = Device::new("sensor", "");
    for name in ["temperature", "humidity", "pressure", "battery", "enable"] {
        let side = crate::twin::Side {
            value: Some("1795408033".into()),
            at: 1_795_408_033_822,
            version: crate::payload::Version { cloud: 3, edge: 70_000 },
        };
        let sides = [Some(side.clone()), Some(side)];
        let [expected, actual] = sides;
        device.put(Twin { expected, actual, ..Twin::new(name) });
    }
    let room = device.pack().len() + size_of::<Entry>();
    assert!(room <= 512, "{room} bytes");
}

#[test]
fn answers_about_a_device_that_is_gone_are_none_about_one_of_its_name() {
    let mut world = World::new();
    world.core.on_link(world.now, true, &mut world.out);
    let set = json!([device("d", "1")]).to_string();
    world.core.on_devices(world.now, set.as_bytes(), &mut world.out);
    world.stored(true);
    world.says("twin/update", UPDATE);
    world.stored(true);
    let (old, _) = world.reported().unwrap();
    world.says("twin/update", &UPDATE.replace("22", "23"));
    let old_rows = flying(&mut world.out).pop().unwrap().1;

    world.core.on_device_gone(world.now, "default/d", &mut world.out);
    world.core.on_device(world.now, device("d", "2").to_string().as_bytes(), &mut world.out);
    let new_rows = flying(&mut world.out).pop().unwrap().1;
    world.core.on_stored(world.now, ("default/d", new_rows), true, &mut world.out);
    let receipt = world.says("twin/update", UPDATE);
    // The store's late answer to the old one's rows.
    world.core.on_stored(world.now, ("default/d", old_rows), true, &mut world.out);
    assert!(!world.settled(receipt), "its own rows are not stored yet");
    world.stored(true);
    assert!(world.settled(receipt));
    let (new, _) = world.reported().unwrap();
    // The same property in the same version: the cloud's answer is to another device.
    assert_eq!(new.says, old.says);
    world.confirm(&old, true);
    assert!(world.reported().is_none(), "the new one's report is still on its way");
    for _ in 0..2 {
        assert_eq!(world.core.untold(), 1);
        let sent = world.reported().map_or(new.clone(), |(sent, _)| sent);
        world.confirm(&sent, true);
    }
    assert_eq!(world.core.untold(), 0);
}
