//! What the servers of one cloud share.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::core::Cloud;
use crate::hub::core::Effect;
use crate::owner::{Command, Conditions};
use crate::pki::{Authority, Tls};
use crate::time::Time;

/// The way to the owner, and what holds for all connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) conditions: watch::Receiver<Conditions>,
    pub(crate) authority: Arc<Authority>,
    /// The TLS settings with valid certificates, and with expired ones.
    pub(crate) certificates: Arc<(Tls, Tls)>,
    pub(crate) clock: Clock,
    /// Whether a connection needs the certificate of its own node.
    pub(crate) authorize: bool,
    /// How long certificates of nodes are valid.
    pub(crate) certificate_life: Duration,
    /// How long bootstrap tokens are valid.
    pub(crate) token_life: Duration,
}

impl Shared {
    /// Returns the TLS settings of the moment.
    pub(crate) fn tls(&self, of: impl FnOnce(&Tls) -> &Arc<ServerConfig>) -> Arc<ServerConfig> {
        let (valid, expired) = &*self.certificates;
        let tls = if self.conditions.borrow().expired_server { expired } else { valid };
        Arc::clone(of(tls))
    }

    /// Looks at the cloud.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        view: impl FnOnce(&Cloud, Time) -> T + Send + 'static,
    ) -> Result<T> {
        let (reply, result) = oneshot::channel();
        let look = Box::new(move |cloud: &Cloud, now| {
            // Whoever asked may have gone.
            reply.send(view(cloud, now)).ok();
        });
        self.commands.send(Command::Look(look)).await.ok().context("the cloud has ended")?;
        result.await.context("the cloud has ended")
    }

    /// Has something done with the cloud and returns what came of it.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Cloud, Time, &mut Vec<Effect>) -> T + Send + 'static,
    ) -> Result<T> {
        let (reply, result) = oneshot::channel();
        let act = Box::new(move |cloud: &mut Cloud, now, out: &mut Vec<Effect>| {
            // Whoever asked may have gone.
            reply.send(act(cloud, now, out)).ok();
        });
        self.commands.send(Command::Act(act)).await.ok().context("the cloud has ended")?;
        result.await.context("the cloud has ended")
    }
}
