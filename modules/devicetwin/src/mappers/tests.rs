//! Mappers that do as the test says.

use super::*;

struct World {
    mappers: Mappers,
    now: Instant,
}

fn object(id: &str, protocol: &str, spec: &str) -> Object {
    Object {
        id: id.into(),
        uid: "1".into(),
        protocol: protocol.into(),
        model: "m".into(),
        spec: spec.into(),
    }
}

impl World {
    /// A mapper that was told of two devices.
    fn new() -> Self {
        let mut world = Self { mappers: Mappers::default(), now: Instant::now() };
        let address = BASE64.encode(b"/run/mapper.sock").into();
        let info = Info { name: "x".into(), protocol: "modbus".into(), address, ..Info::default() };
        world.mappers.take(info, true).unwrap();
        world.mappers.put_model(object("default/m", "modbus", "{}"));
        for id in ["default/a", "default/b"] {
            world.mappers.put_device(&object(id, "modbus", "{}"));
        }
        for _ in 0..3 {
            world.call().unwrap();
            world.answer(Ok(()));
        }
        world
    }

    fn call(&mut self) -> Option<What> {
        let (_, call) = self.mappers.pump(self.now).pop()?;
        Some(call.what)
    }

    fn answer(&mut self, result: Result<(), CallError>) {
        self.mappers.called(self.now, "modbus", result);
    }

    /// Goes on to the next time at which something is due.
    fn wait(&mut self) {
        self.now = self.mappers.deadline().unwrap();
    }
}

fn unreachable() -> Result<(), CallError> {
    Err(CallError::Unreachable("gone".to_owned()))
}

#[test]
fn a_mapper_that_hangs_hears_of_the_latest_state_alone_and_of_what_is_gone() {
    let mut world = World::new();
    world.mappers.put_device(&object("default/a", "modbus", r#"{"methods":[]}"#));
    assert!(matches!(world.call(), Some(What::UpdateDevice(_))));
    for count in 0..100 {
        let spec = format!(r#"{{"methods":[{{"name":"{count}"}}]}}"#);
        world.mappers.put_device(&object("default/a", "modbus", &spec));
    }
    world.mappers.remove_device("default/b");
    assert_eq!(world.call(), None, "one call at a time");
    world.answer(unreachable());
    assert_eq!(world.call(), None, "it is left alone");
    world.wait();
    let mut told = Vec::new();
    while let Some(what) = world.call() {
        told.push(what);
        world.answer(Ok(()));
    }
    let [What::CreateModel(_), What::RegisterDevice(device), What::RemoveDevice(gone)] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(*device.id, *"default/a");
    assert_eq!(gone.name, "b");
}

#[test]
fn a_mapper_with_nothing_to_hear_is_asked_for_its_devices_in_turn() {
    let mut world = World::new();
    assert_eq!(world.call(), None);
    for name in ["a", "b", "a"] {
        world.wait();
        assert_eq!(world.call(), Some(What::GetDevice(named(&format!("default/{name}")))));
        world.answer(Ok(()));
        assert_eq!(world.call(), None);
    }
    // It cannot be asked, but it is there.
    world.wait();
    world.call().unwrap();
    world.answer(Err(CallError::Unsupported));
    assert_eq!((world.call(), &world.mappers.by_protocol["modbus"].trouble), (None, &None));
    // It has forgotten the device.
    world.wait();
    world.call().unwrap();
    world.answer(Err(CallError::Refused("unknown".to_owned())));
    let Some(What::RegisterDevice(device)) = world.call() else { panic!("not told again") };
    assert_eq!(*device.id, *"default/a");
    world.answer(Ok(()));
    // It has died.
    world.wait();
    world.call().unwrap();
    world.answer(unreachable());
    assert_eq!(world.mappers.by_protocol["modbus"].trouble.as_deref(), Some("gone"));
    world.wait();
    assert!(matches!(world.call(), Some(What::CreateModel(_))), "it is told everything");
}

#[test]
fn a_device_of_another_protocol_changes_hands() {
    let mut world = World::new();
    let address = BASE64.encode(b"/run/other.sock").into();
    let info = Info { name: "y".into(), protocol: "opcua".into(), address, ..Info::default() };
    world.mappers.take(info, true).unwrap();
    world.mappers.put_device(&object("default/a", "opcua", "{}"));
    let calls = world.mappers.pump(world.now).into_iter();
    let calls: Vec<_> = calls.map(|(protocol, call)| (protocol, call.what)).collect();
    assert_eq!(calls[0], ("modbus".into(), What::RemoveDevice(named("default/a"))));
    assert!(matches!(&calls[1], (protocol, What::CreateModel(_)) if **protocol == *"opcua"));
}
