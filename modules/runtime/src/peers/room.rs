//! The bound on what a module may hold for one peer, and the queue in front of it.

use std::sync::Arc;

use ipc_proto::lifeline::QueueBounds;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The room of one queue. Messages and bytes are bounded by one count: every message takes at
/// least its share of the bytes (bytes ÷ messages), so neither bound can be passed. A message that
/// is larger than all room takes all of it, and so goes alone.
#[derive(Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    total: u32,
    least: u32,
}

/// A message's place in the room; freed when dropped.
pub(crate) type Place = OwnedSemaphorePermit;

impl Room {
    pub(crate) fn new(bounds: QueueBounds) -> Self {
        let messages = bounds.messages.max(1);
        let least = (bounds.bytes / messages).max(1);
        let total = least.saturating_mul(messages).min(bounds.bytes).max(1);
        Self { free: Arc::new(Semaphore::new(total as usize)), total, least }
    }

    fn cost(&self, bytes: u32) -> u32 {
        bytes.clamp(self.least, self.total)
    }

    /// Takes a place, if there is one now.
    pub(crate) fn try_take(&self, bytes: u32) -> Option<Place> {
        Arc::clone(&self.free).try_acquire_many_owned(self.cost(bytes)).ok()
    }

    /// Waits for a place; who waits first gets it first.
    pub(crate) async fn take(&self, bytes: u32) -> Option<Place> {
        Arc::clone(&self.free).acquire_many_owned(self.cost(bytes)).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bounds_hold(
            messages in 0_u32..50,
            bytes in 0_u32..5000,
            sizes in prop::collection::vec(0_u32..6000, 0..100),
        ) {
            let room = Room::new(QueueBounds { messages, bytes });
            let mut held = Vec::new();
            for size in sizes {
                if let Some(place) = room.try_take(size) {
                    held.push((size, place));
                }
            }
            let sum: u32 = held.iter().map(|(size, _)| *size).sum();
            prop_assert!(held.len() <= messages.max(1) as usize);
            prop_assert!(sum <= bytes || held.len() == 1);
        }
    }

    #[test]
    fn small_messages_fill_it_to_the_bound() {
        let room = Room::new(QueueBounds { messages: 3, bytes: 100 });
        let places: Vec<_> = std::iter::from_fn(|| room.try_take(1)).collect();
        assert_eq!(places.len(), 3);
    }

    #[test]
    fn a_message_larger_than_all_room_goes_alone() {
        let room = Room::new(QueueBounds { messages: 3, bytes: 100 });
        let place = room.try_take(1000).expect("the room is empty");
        assert!(room.try_take(1).is_none());
        drop(place);
        assert!(room.try_take(1).is_some());
    }
}
