//! What is done only when the disk has what it rests on.

use std::collections::VecDeque;

use crate::core::{Act, ConnectionId};

/// What waits for the disk, in order.
#[derive(Debug, Default)]
pub(crate) struct Gate(VecDeque<(u64, Act)>);

impl Gate {
    /// Takes what is to be done when the disk has come to `mark`.
    pub(crate) fn hold(&mut self, mark: u64, acts: Vec<Act>) {
        self.0.extend(acts.into_iter().map(|act| (mark, act)));
    }

    /// Returns the next that is to be done when the disk has come to `synced`.
    pub(crate) fn next(&mut self, synced: u64) -> Option<Act> {
        self.0.front().filter(|(mark, _)| *mark <= synced)?;
        self.0.pop_front().map(|(_, act)| act)
    }

    /// Tells whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what is meant for a connection that has ended. The next one to the external broker has
    /// the same name, and an acknowledgement of this one's would there be of another message.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.0.retain(|(_, act)| !act.is_for(connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::TO_BROKER;
    use crate::mqtt::{Packet, Reason};

    #[test]
    fn an_acknowledgement_goes_to_the_connection_that_brought_the_message_or_nowhere() {
        let puback = |to, id| Act::Send(to, Packet::Puback { id, reason: Reason::SUCCESS });
        let mut gate = Gate::default();
        gate.hold(1, vec![puback(TO_BROKER, 5), Act::Next(TO_BROKER), puback(7, 5)]);
        gate.hold(2, vec![Act::Settle(1)]);
        assert_eq!(gate.next(0), None);
        gate.forget(TO_BROKER);
        assert_eq!(gate.next(1), Some(puback(7, 5)));
        assert_eq!(gate.next(1), None);
        assert_eq!(gate.next(2), Some(Act::Settle(1)));
        assert!(gate.is_empty());
    }
}
