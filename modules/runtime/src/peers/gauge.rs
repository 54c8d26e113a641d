//! What each link holds and what has passed over it, where the main loop can look without asking.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use ipc_proto::lifeline::{Load, Traffic};

/// What a link last told.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    waiting: AtomicU32,
    unsettled: AtomicU32,
    bytes: AtomicU64,
    connected: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    connections: AtomicU64,
}

/// What has passed over a link so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) connections: u64,
}

impl Gauge {
    pub(super) fn set(
        &self,
        waiting: usize,
        unsettled: usize,
        bytes: u64,
        connected: bool,
        passed: Passed,
    ) {
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.waiting.store(small(waiting), Relaxed);
        self.unsettled.store(small(unsettled), Relaxed);
        self.bytes.store(bytes, Relaxed);
        self.connected.store(connected, Relaxed);
        self.sent.store(passed.sent, Relaxed);
        self.received.store(passed.received, Relaxed);
        self.connections.store(passed.connections, Relaxed);
    }
}

/// Returns what links hold together.
pub(super) fn load<'g>(gauges: impl Iterator<Item = &'g Gauge>) -> Load {
    let mut load = Load::default();
    for gauge in gauges {
        load.waiting += gauge.waiting.load(Relaxed);
        load.unsettled += gauge.unsettled.load(Relaxed);
    }
    load
}

/// Returns what has passed over links together.
pub(super) fn traffic<'g>(gauges: impl Iterator<Item = &'g Gauge>) -> Traffic {
    let mut traffic = Traffic::default();
    for gauge in gauges {
        traffic.sent += gauge.sent.load(Relaxed);
        traffic.received += gauge.received.load(Relaxed);
        traffic.queued_bytes += gauge.bytes.load(Relaxed);
        traffic.peers += u32::from(gauge.connected.load(Relaxed));
        traffic.connections += gauge.connections.load(Relaxed);
    }
    traffic
}
