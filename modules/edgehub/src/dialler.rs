//! The life of the link as a task: certificate, dial, renewal, pause, and again for ever. One link
//! at a time; the next is dialled when the one before has ended.

use std::time::{Duration, Instant};

use module_runtime::chance;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::certs::{self, Identity};
use crate::config::Config;
use crate::core::{Failure, Redial};
use crate::transport::{Carrier, End, Link, Transport};
use crate::trouble::Trouble;

/// Pauses between tries to renew: doubled from the first to the last.
const RENEWAL_PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// The calendar is looked at so often, for the clock may be set meanwhile.
const CALENDAR: Duration = Duration::from_secs(3600);

/// A certificate is not asked for anew more often than this, whatever is wrong with the one at hand.
const START_OVER: Duration = Duration::from_secs(60);

/// How far the way to the cloud is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting before the next dial.
    #[default]
    Waiting,
    /// Fetching a certificate, or dialling.
    Dialling,
    /// A link stands.
    Linked,
}

/// What the operator is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    /// Links that came to stand since the process started.
    pub(crate) connects: u64,
    /// What was wrong last, until the cloud serves this node again.
    pub(crate) reason: Option<String>,
    /// When the certificate expires, as RFC 3339.
    pub(crate) expires: Option<String>,
}

/// The task that keeps a link standing.
#[derive(Debug)]
pub(crate) struct Dialler<T> {
    config: Config,
    transport: T,
    links: mpsc::Sender<Link>,
    standing: watch::Sender<Standing>,
    redial: Redial,
    started_over: Option<Instant>,
}

impl<T: Transport> Dialler<T> {
    pub(crate) fn new(
        config: Config,
        transport: T,
        links: mpsc::Sender<Link>,
        standing: watch::Sender<Standing>,
    ) -> Self {
        Self { config, transport, links, standing, redial: Redial::new(), started_over: None }
    }

    /// Keeps a link standing until nobody takes links any more.
    pub(crate) async fn run(mut self) {
        while !self.links.is_closed() {
            self.standing.send_modify(|standing| standing.phase = Phase::Dialling);
            let pause = match self.dial().await {
                Ok((identity, link, carrier)) => self.keep(identity, link, carrier).await,
                Err(trouble) => {
                    let refused = matches!(trouble, Trouble::Refused(_));
                    let failure = if refused { Failure::Refused } else { Failure::Other };
                    self.say(&trouble);
                    self.redial.failed(now(), failure, chance())
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn dial(&mut self) -> Result<(Identity, Link, Carrier), Trouble> {
        let identity = certs::ensure(&self.config, unix_seconds()).await?;
        let expires = identity.facts.expires();
        self.standing.send_modify(|standing| standing.expires = Some(expires.clone()));
        match self.transport.dial(&identity).await {
            Ok((link, carrier)) => Ok((identity, link, carrier)),
            Err(trouble) if trouble.wants_new_certificate() => {
                self.start_over().await?;
                let expired = identity.facts.is_expired(unix_seconds());
                Err(if expired { Trouble::Expired(expires) } else { trouble })
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Asks for a new certificate, if there is a token and it was not tried just now.
    async fn start_over(&mut self) -> Result<(), Trouble> {
        let just_now = |at: Instant| now().duration_since(at) < START_OVER;
        if self.started_over.is_some_and(just_now) {
            return Ok(());
        }
        self.started_over = Some(now());
        if certs::start_over(&self.config).await?.is_some() {
            info!("the cloud issued a certificate of its present CA");
        }
        Ok(())
    }

    /// Hands a link over and looks after its certificate until it ends. Returns how long to wait
    /// then.
    async fn keep(&mut self, identity: Identity, link: Link, carrier: Carrier) -> Duration {
        let since = now();
        let end = link.end.clone();
        self.standing.send_modify(|standing| {
            standing.phase = Phase::Linked;
            standing.connects += 1;
        });
        info!(cloud = %self.config.hub, "connected");
        let _nobody_takes_it = self.links.send(link).await;
        let ended = tokio::select! {
            ended = carrier => ended,
            never = renewals(&self.config, identity, &end, &self.standing) => match never {},
        };
        let trouble = ended.unwrap_or_else(|error| Trouble::Broken(error.to_string()));
        self.say(&trouble);
        self.redial.lost(now(), now().duration_since(since), chance())
    }

    /// Tells operator and log why there is no link; the log once for each reason.
    fn say(&self, trouble: &Trouble) {
        let sentence = trouble.sentence();
        let is_new = self.standing.borrow().reason.as_ref() != Some(&sentence);
        if is_new {
            warn!("not connected: {sentence}");
        }
        self.standing.send_modify(|standing| {
            standing.phase = Phase::Waiting;
            standing.reason = Some(sentence);
        });
    }
}

/// Renews the certificate when its time comes, and then ends the link, so that the next one is made
/// with the new certificate.
async fn renewals(
    config: &Config,
    identity: Identity,
    end: &End,
    standing: &watch::Sender<Standing>,
) -> std::convert::Infallible {
    let (mut pause, longest) = RENEWAL_PAUSES;
    loop {
        let due = identity.facts.renew_at().saturating_sub(unix_seconds());
        if !config.rotate || due > 0 {
            let due = Duration::from_secs(u64::try_from(due).unwrap_or(0).max(1));
            tokio::time::sleep(if config.rotate { due.min(CALENDAR) } else { CALENDAR }).await;
            continue;
        }
        match certs::renew(config, &identity).await {
            Ok(renewed) => {
                let expires = renewed.facts.expires();
                standing.send_modify(|standing| standing.expires = Some(expires));
                end.because(Trouble::Renewed);
                return std::future::pending().await;
            }
            Err(trouble) => warn!("the certificate was not renewed: {}", trouble.sentence()),
        }
        tokio::time::sleep(pause.mul_f64(0.5 + chance() / 2.0)).await;
        pause = (pause * 2).min(longest);
    }
}

fn now() -> Instant {
    Instant::now()
}

fn unix_seconds() -> i64 {
    module_runtime::unix_millis() / 1000
}
