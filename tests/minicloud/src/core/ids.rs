//! Identities that the cloud hands out: of messages and of objects.

use ipc_proto::MessageId;

/// A source of identities that is as random as the seed it was given: the same seed gives the same
/// identities, so that a test can be repeated.
#[derive(Debug)]
pub struct Ids {
    state: u64,
}

impl Ids {
    /// Starts a source.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Draws 64 bits (SplitMix64).
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Draws the id of a message.
    pub fn message(&mut self) -> MessageId {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.draw().to_be_bytes());
        random[8..].copy_from_slice(&self.draw().to_be_bytes());
        MessageId::from_random(random)
    }

    /// Draws the uid of an object.
    pub fn uid(&mut self) -> String {
        self.message().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_look_like_uuids() {
        let mut ids = Ids::new(1);
        let (one, two) = (ids.uid(), ids.uid());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(Ids::new(1).uid(), one);
    }
}
