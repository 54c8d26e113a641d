//! Remembers which messages took effect, so that one that comes twice takes effect once.

use std::collections::{HashSet, VecDeque};

use ipc_proto::MessageId;

/// The identities of the latest messages, up to a bound.
///
/// Between two living processes the connection itself drops what comes twice; this is for the
/// messages that a peer sends again after one of the two has died. The bound has to be at least
/// the peer's queue (`QueueBounds::messages`): more than that a peer never sends again.
#[derive(Debug)]
pub struct Recent {
    bound: usize,
    order: VecDeque<MessageId>,
    known: HashSet<MessageId>,
}

impl Recent {
    /// Makes an empty memory of at most `bound` messages, at least 1.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { bound: bound.max(1), order: VecDeque::new(), known: HashSet::new() }
    }

    /// Notes a message; tells whether it is new.
    pub fn note(&mut self, id: &MessageId) -> bool {
        if !self.known.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id.clone());
        if self.order.len() > self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Tells whether a message was noted and is still remembered.
    #[must_use]
    pub fn knows(&self, id: &MessageId) -> bool {
        self.known.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_new_once_and_the_oldest_is_forgotten_first() {
        let ids = [1, 2, 3].map(|byte| MessageId::from_random([byte; 16]));
        let mut recent = Recent::new(2);
        assert!(recent.note(&ids[0]));
        assert!(!recent.note(&ids[0]));
        assert!(recent.note(&ids[1]));
        assert!(recent.note(&ids[2]));
        assert!(!recent.knows(&ids[0]));
        assert!(recent.knows(&ids[1]));
    }
}
