//! What applications on the node say and ask, by MQTT (WIRE.md §7.1).

use super::{Core, Effect, Now, Receipt, Refused, Said, publish, publish_on, refusal};
use crate::payload::{
    Base, DeviceState, Members, MsgTwins, StateResult, StateUpdate, TwinUpdate, Twins,
};
use crate::twin::Origin;

/// The longest payload in bytes: a thousand properties with long values.
pub(crate) const MAX_PAYLOAD: usize = 1024 * 1024;

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask<'a> {
    TwinUpdate,
    TwinGet,
    StateUpdate,
    Members(&'a str),
}

/// Reads a topic, position by position: any name can also be a word of the topic.
fn parse(topic: &str) -> Option<(String, Ask<'_>)> {
    let parts: Vec<_> = topic.splitn(9, '/').collect();
    let ["$hw", "events", rest @ ..] = &parts[..] else { return None };
    match rest {
        ["node", node, "membership", "get"] => Some((String::new(), Ask::Members(node))),
        ["device", namespace, name, what, action] => {
            let ask = match (*what, *action) {
                ("twin", "update") => Ask::TwinUpdate,
                ("twin", "get") => Ask::TwinGet,
                ("state", "update") => Ask::StateUpdate,
                _ => return None,
            };
            Some((format!("{namespace}/{name}"), ask))
        }
        _ => None,
    }
}

impl Core {
    /// Takes a message of an application. It is settled when what it says is stored.
    pub(crate) fn on_topic(
        &mut self,
        now: Now,
        topic: &str,
        payload: &str,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        let Some((id, ask)) = parse(topic) else {
            let short: String = topic.chars().take(256).collect();
            self.counts.refused(&Refused::bad(format!("topic '{short}' is none of devices")));
            out.push(Effect::Settle(receipt));
            return;
        };
        let mut event_id = Box::default();
        let done = self.take(now, (&id, ask), payload, receipt, &mut event_id, out);
        let Err(refused) = done else { return };
        self.counts.refused(&refused);
        let base = Base { event_id, timestamp: now.unix_ms };
        match ask {
            Ask::TwinUpdate => refusal(&id, "twin/update/result", base, &refused, out),
            Ask::TwinGet => refusal(&id, "twin/get/result", base, &refused, out),
            Ask::StateUpdate | Ask::Members(_) => {}
        }
        out.push(Effect::Settle(receipt));
    }

    fn take(
        &mut self,
        now: Now,
        (id, ask): (&str, Ask<'_>),
        payload: &str,
        receipt: Receipt,
        event: &mut Box<str>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let length = payload.len();
        if length > MAX_PAYLOAD {
            let reason = format!("payload of {length} bytes, expected at most {MAX_PAYLOAD}");
            return Err(Refused::bad(reason));
        }
        match ask {
            Ask::TwinUpdate => {
                let TwinUpdate { event_id, twin } = read(payload)?;
                event.clone_from(&event_id);
                let reason = "the payload has no 'twin', expected a table of properties";
                let twin = twin.ok_or_else(|| Refused::bad(reason.to_owned()))?;
                let said = Said { origin: Origin::Edge, id, event_id: &event_id, twins: &twin };
                self.update(now, &said, receipt, out)
            }
            Ask::TwinGet => {
                let Base { event_id, .. } = read(payload)?;
                event.clone_from(&event_id);
                let entry = self.devices.get(id).ok_or_else(|| Refused::unknown(id))?;
                let device = entry.device.open();
                let alive = device.twins.iter().filter(|twin| !twin.is_deleted());
                let twin: MsgTwins =
                    alive.map(|twin| (twin.name.clone(), Some(twin.message(false)))).collect();
                let base = Base { event_id, timestamp: now.unix_ms };
                publish(id, "twin/get/result", &Twins { base, twin: &twin }, out);
                out.push(Effect::Settle(receipt));
                Ok(())
            }
            Ask::StateUpdate => {
                let StateUpdate { event_id, state } = read(payload)?;
                *event = event_id;
                self.set_state(now, id, state.as_deref().unwrap_or_default(), receipt, out)
            }
            Ask::Members(node) => {
                if *node != *self.node {
                    let short: String = node.chars().take(256).collect();
                    return Err(Refused::bad(format!("node '{short}' is not this one")));
                }
                let Base { event_id, .. } = read(payload)?;
                let devices = self.devices.iter().map(|(id, entry)| entry.device.open().member(id));
                let base = Base { event_id, timestamp: now.unix_ms };
                let members = Members { base, devices: devices.collect() };
                let topic = format!("$hw/events/node/{node}/membership/get/result");
                publish_on(topic, &members, out);
                out.push(Effect::Settle(receipt));
                Ok(())
            }
        }
    }

    /// Notes the state that a device is said to be in.
    pub(crate) fn set_state(
        &mut self,
        now: Now,
        id: &str,
        state: &str,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let seen = match state.to_ascii_lowercase().as_str() {
            "online" | "ok" => time_text(now.unix_ms),
            "offline" | "unknown" | "unhealthy" => String::new(),
            _ => {
                let short: String = state.chars().take(64).collect();
                let expected = "online, offline, ok, unknown or unhealthy";
                return Err(Refused::bad(format!("state '{short}': expected {expected}")));
            }
        };
        let base = self.base(now);
        let entry = self.devices.get_mut(id).ok_or_else(|| Refused::unknown(id))?;
        let mut device = entry.device.open();
        device.state = state.into();
        device.last_online = seen.into();
        device.last_report = now.unix_ms;
        device.state_untold = true;
        let state = DeviceState {
            name: &device.name,
            state: &device.state,
            last_online_time: &device.last_online,
        };
        entry.device = device.pack();
        let mut then = Vec::new();
        publish(id, "state/update/result", &StateResult { base, device: state }, &mut then);
        then.push(Effect::Settle(receipt));
        self.store(now, id, then, out);
        Ok(())
    }
}

fn read<'a, T: serde::Deserialize<'a>>(payload: &'a str) -> Result<T, Refused> {
    serde_json::from_str(payload)
        .map_err(|error| Refused::bad(format!("the payload is not as expected: {error}")))
}

/// Writes a time as the cloud reads it, in whole seconds.
fn time_text(unix_ms: i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000));
    let text = time.map(|time| time.format(&time::format_description::well_known::Rfc3339));
    text.map(Result::unwrap_or_default).unwrap_or_default()
}
