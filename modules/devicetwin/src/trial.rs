//! A trial of whatever comes from outside: fuzz targets and tests put bytes in, and each is to be
//! taken or refused, once, with what is stored readable again. The module itself has no use for it.

use std::time::Instant;

use ipc_proto::MessageId;
use module_runtime::Now;
use prost::Message;

use crate::core::{Core, Effect, Receipt};
use crate::device::{Device, Rows};
use crate::dmi::words as w;

/// What an application, the first byte chooses on which topic, says of a device.
pub fn payload(data: &[u8]) {
    let Some((choice, payload)) = data.split_first() else { return };
    let topics = ["d/twin/update", "d/twin/get", "d/state/update", "none/twin/update"];
    let topic = topics[usize::from(*choice) % topics.len()];
    let topic = format!("$hw/events/device/default/{topic}");
    let mut trial = Trial::new();
    trial.goes(|core, now, out| {
        core.on_topic(now, &topic, &String::from_utf8_lossy(payload), RECEIPT, out);
    });
    assert_eq!(trial.ended, 1, "each message is settled once");
}

/// What the cloud says: the first byte chooses what it is about.
pub fn object(data: &[u8]) {
    let Some((choice, content)) = data.split_first() else { return };
    let mut trial = Trial::new();
    trial.goes(|core, now, out| match choice % 6 {
        0 => core.on_device(now, content, out),
        1 => core.on_devices(now, content, out),
        2 => core.on_model(now, content, out),
        3 => core.on_models(now, content, out),
        4 => core.on_membership(now, content, out),
        _ => core.on_cloud_twin(now, "default/d", content, RECEIPT, out),
    });
    assert_eq!(trial.ended, u32::from(choice % 6 == 5), "each message is settled once");
}

/// What a mapper says: the first byte chooses the method.
pub fn call(data: &[u8]) {
    let Some((choice, message)) = data.split_first() else { return };
    let mut trial = Trial::new();
    match choice % 3 {
        0 => {
            let Ok(request) = w::MapperRegisterRequest::decode(message) else { return };
            if let Ok(info) = trial.core.mappers.register(request) {
                let response = trial.core.mappers.list(&info.protocol, b"[]");
                let bytes = response.encode_to_vec();
                let again = w::MapperRegisterResponse::decode(&*bytes);
                assert_eq!(again, Ok(response), "written and read once more");
            }
            trial.goes(|core, now, out| core.pump(now, out));
        }
        1 => {
            let Ok(report) = w::ReportDeviceStatusRequest::decode(message) else { return };
            trial.goes(|core, now, out| core.on_report(now, report, RECEIPT, out));
            assert_eq!(trial.ended, 1, "each call is answered once");
        }
        _ => {
            let Ok(state) = w::ReportDeviceStatesRequest::decode(message) else { return };
            trial.goes(|core, now, out| core.on_state(now, &state, RECEIPT, out));
            assert_eq!(trial.ended, 1, "each call is answered once");
        }
    }
}

const RECEIPT: Receipt = Receipt(1);

/// A node with one device, whose store and cloud answer at once.
struct Trial {
    core: Core,
    now: Now,
    ended: u32,
}

impl Trial {
    fn new() -> Self {
        let now = Now { at: Instant::now(), unix_ms: 1_795_408_033_822 };
        let core = Core::new("edge1", || MessageId::from_random([7; 16]));
        let mut trial = Self { core, now, ended: 0 };
        let members = br#"{"added_devices":[{"id":"default/d","name":"d"}]}"#;
        trial.goes(|core, now, out| {
            core.on_link(now, true, out);
            core.on_membership(now, members, out);
        });
        trial
    }

    /// Lets the core decide and answers it until it has nothing more to do.
    fn goes(&mut self, decide: impl FnOnce(&mut Core, Now, &mut Vec<Effect>)) {
        let now = self.now;
        let mut effects = Vec::new();
        decide(&mut self.core, now, &mut effects);
        while !effects.is_empty() {
            let mut out = Vec::new();
            for effect in effects {
                self.answer(effect, &mut out);
            }
            self.core.pump(now, &mut out);
            effects = out;
        }
        assert_eq!(self.core.untold(), 0, "the cloud has confirmed all");
    }

    fn answer(&mut self, effect: Effect, out: &mut Vec<Effect>) {
        match effect {
            Effect::Store(number, rows) => {
                let json = serde_json::to_vec(&rows).expect("rows have text keys");
                let read: Rows =
                    serde_json::from_slice(&json).expect("what is written can be read");
                let again = Device::from_rows(read).rows(&rows.id);
                assert_eq!(again, *rows, "written and read once more");
                self.core.on_stored(self.now, (&rows.id, number), true, out);
            }
            Effect::Remove(id) => self.core.on_removed(self.now, &id, true),
            Effect::Report(id, sent, _) => self.core.on_reported(self.now, &id, &sent, true),
            Effect::Call(protocol, _) => self.core.mappers.called(self.now.at, &protocol, Ok(())),
            Effect::Settle(RECEIPT) | Effect::Refuse(RECEIPT, _) => self.ended += 1,
            Effect::Settle(_) | Effect::Refuse(..) | Effect::Publish(..) => {}
        }
    }
}
