//! A trial of what the cloud says: fuzz targets and tests put bytes in, and each message is to be
//! handed on or answered, once. The module itself has no use for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipc_proto::frame::Outcome;
use ipc_proto::{MessageId, json};
use module_runtime::Now;

use crate::certs::{Facts, Token};
use crate::core::{Bucket, Core, Effect, Outgoing};
use crate::hub::salvage_id;

/// Messages of one link, one in a line.
///
/// # Panics
/// When one is neither handed on nor coped with, or an answer cannot be written.
pub fn messages(data: &[u8]) {
    let now = Now { at: Instant::now(), unix_ms: 1_795_408_033_822 };
    let mut core = Core::new(now.at, Duration::from_secs(15), Bucket::new(1000, 1000), draw);
    core.link_up(now);
    for line in data.split(|byte| *byte == b'\n').take(32) {
        let before = core.load().2;
        match json::decode(&Bytes::copy_from_slice(line)) {
            Ok(message) => core.came_down(now, message),
            Err(_) => match salvage_id(line) {
                Some(id) => core.unreadable(now, id),
                None => continue,
            },
        }
        let mut handed_on = 0;
        let mut settled = Vec::new();
        while let Some(effect) = core.effect() {
            if let Effect::Deliver(_, message) = effect {
                handed_on += 1;
                settled.push(message.header.id);
            }
        }
        assert!(core.load().2 <= before + handed_on, "what is in work was handed on");
        for id in settled {
            core.settled(now, &id, Outcome::Done);
        }
        assert_eq!(core.load().2, before, "what is settled is in work no more");
        while let Some(outgoing) = core.next(now) {
            if let Outgoing::Message(message) = outgoing {
                json::encode(&message).expect("what is answered can be written");
            }
        }
    }
}

/// What comes with certificates: a token of the operator's, and certificates of the cloud's service.
///
/// # Panics
/// When a time cannot be told.
pub fn certificates(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(token) = Token::parse(text)
    {
        assert!(!token.bearer().contains(['\r', '\n', ' ']), "it is one word of a header");
        assert!(!token.pins(data), "no text has its own hash in it");
    }
    if let Some(facts) = Facts::read(data) {
        assert!(!facts.expires().is_empty());
        let _due = (facts.renew_at(), facts.is_expired(0), facts.not_before_unsigned());
    }
}

fn draw() -> MessageId {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let mut id = [0; 16];
    id[8..].copy_from_slice(&DRAWN.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    MessageId::from_random(id)
}
