//! Random identities, from the kernel.

use std::cell::RefCell;

use ipc_proto::{Instance, MessageId};
use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes drawn at once: what the kernel gives in one uninterrupted call.
const DRAWN: usize = 256;

struct Pool {
    bytes: [u8; DRAWN],
    used: usize,
}

thread_local! {
    /// One system call serves sixteen message ids.
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; DRAWN], used: DRAWN }) };
}

impl Pool {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > DRAWN {
            fill(&mut self.bytes);
            self.used = 0;
        }
        let taken = &self.bytes[self.used..self.used + N];
        self.used += N;
        taken.try_into().expect("a slice of N bytes is N bytes long")
    }
}

fn fill(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::io::retry_on_intr(|| getrandom(&mut bytes[filled..], GetRandomFlags::empty()))
                .expect("getrandom exists since Linux 3.17 and fails for no valid buffer");
    }
}

/// Draws the identity of a new message.
#[must_use]
pub fn message_id() -> MessageId {
    MessageId::from_random(POOL.with_borrow_mut(Pool::take))
}

/// Draws the identity of a process's life, for a process that no supervisor gave one.
#[must_use]
pub fn instance() -> Instance {
    Instance(u64::from_ne_bytes(POOL.with_borrow_mut(Pool::take)))
}

/// Draws a number from [0, 1).
#[must_use]
pub fn chance() -> f64 {
    let drawn = u32::try_from(instance().0 >> 32).unwrap_or(0);
    f64::from(drawn) / (f64::from(u32::MAX) + 1.0)
}
