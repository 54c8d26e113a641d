//! Asking a peer until it answers, over any number of its lives.

use std::time::Duration;

use ipc_proto::{Message, Module};

use super::{Delivery, Peers, RequestError};

/// How long a peer may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(500);

impl Peers {
    /// Sends a request until it is answered, for things that may be done twice. `make` makes the
    /// message anew for each try.
    ///
    /// # Errors
    /// [`RequestError`] when asking again would not help: the peer refuses, answers with an error,
    /// or does not run on this node.
    pub async fn insist(
        &self,
        to: Module,
        make: impl Fn(&Self) -> Message,
    ) -> Result<Delivery, RequestError> {
        loop {
            match self.request(to, make(self), PATIENCE).await {
                Err(RequestError::TimedOut { .. } | RequestError::PeerDied { .. }) => {}
                answered => return answered,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
