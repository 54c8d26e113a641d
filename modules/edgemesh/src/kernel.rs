//! The kernel path: services as one nftables table of edgemesh's own.
//!
//! The table is replaced whole when edgemesh starts and follows change by change from then on, each
//! time in one transaction. It stays when edgemesh dies, so that traffic goes on, and goes with the
//! last service; nothing outside of it is touched.

mod expressions;
mod flows;
mod service;
mod skeleton;
mod table;
mod transaction;
mod watch;
mod words;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, anyhow};
use rustix::net::{SocketFlags, netlink as protocols};
use tracing::{debug, info, warn};

pub(crate) use service::{Doors, Plan, plan, plan_pods};
use table::{Difference, Table};
use transaction::NAME;
use watch::Watch;
use words::Step;

use crate::model::Name;
use crate::netlink;

/// Removes the table, whatever made it, when nobody serves any more.
///
/// # Errors
/// When the kernel has no packet filter, or refuses.
pub(crate) fn remove() -> anyhow::Result<()> {
    let socket = netlink::open(Some(protocols::NETFILTER), 0, SocketFlags::empty());
    carry_out(&socket.context("the kernel has no packet filter")?, &[Step::Remove])
}

/// What the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Whatever a process before this one left, or someone else's doing.
    Unknown,
    /// What the table says.
    InStep,
    /// No table, because there are no services.
    Absent,
}

/// The table in the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: OwnedFd,
    table: Table,
    state: State,
    /// Nothing where the kernel does not tell.
    watch: Option<Watch>,
}

impl Kernel {
    /// Opens the way to the kernel. Nothing is changed before the first plans. Has to be called in
    /// the runtime.
    ///
    /// # Errors
    /// When the kernel has no packet filter.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let socket = netlink::open(Some(protocols::NETFILTER), 0, SocketFlags::empty()).context(
            "the kernel has no packet filter: services have names, but cannot be reached",
        )?;
        let watch = Watch::begin().inspect_err(|error| warn!("{error:#}")).ok();
        Ok(Self { socket, table: Table::default(), state: State::Unknown, watch })
    }

    /// Returns the number of services in the table.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Waits until someone else has removed the table; the next update makes it again. Cancelling
    /// it loses nothing.
    pub(crate) async fn gone(&mut self) {
        match &self.watch {
            Some(watch) if self.state == State::InStep => watch.gone(NAME).await,
            _ => std::future::pending().await,
        }
        self.state = State::Unknown;
    }

    /// Brings new plans into the kernel, an empty one for a service that is gone.
    ///
    /// # Errors
    /// When the kernel takes neither the difference nor the whole. It has then what it had before,
    /// and the next call brings all that is missing.
    pub(crate) fn update(&mut self, changes: BTreeMap<Name, Plan>) -> anyhow::Result<()> {
        let Difference { steps, flows } = self.table.update(changes);
        self.follow(&steps)?;
        match flows::forget_stale(&flows) {
            Ok(0) => {}
            Ok(count) => debug!(count, "flows to endpoints that are gone are forgotten"),
            Err(error) => warn!("flows to endpoints that are gone may go on: {error}"),
        }
        Ok(())
    }

    fn follow(&mut self, steps: &[Step]) -> anyhow::Result<()> {
        if self.table.len() == 0 {
            return self.remove();
        }
        if self.state == State::InStep {
            if steps.is_empty() {
                return Ok(());
            }
            match self.apply(steps) {
                Ok(()) => return Ok(()),
                // someone else may have changed the table
                Err(error) => warn!("{error:#}; replacing the whole table"),
            }
        }
        self.state = State::Unknown;
        self.apply(&self.table.full())?;
        self.state = State::InStep;
        info!(services = self.table.len(), "the table 'inet {NAME}' is in the kernel");
        Ok(())
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        if self.state != State::Absent {
            self.state = State::Unknown;
            self.apply(&[Step::Remove])?;
            self.state = State::Absent;
        }
        Ok(())
    }

    fn apply(&self, steps: &[Step]) -> anyhow::Result<()> {
        let applied = carry_out(&self.socket, steps);
        if let Some(watch) = &self.watch {
            watch.forget();
        }
        applied
    }
}

/// Carries steps out: all of them or none.
fn carry_out(socket: &OwnedFd, steps: &[Step]) -> anyhow::Result<()> {
    netlink::tell(socket, &transaction::encode(steps)).map_err(|(number, error)| {
        let number = usize::try_from(number).unwrap_or_default();
        let step = number.checked_sub(1).and_then(|it| steps.get(it));
        let step = step.map_or("the transaction".to_owned(), |step| format!("{step:?}"));
        let step: String = step.chars().take(COMPLAINT).collect();
        anyhow!(error).context(format!("the kernel refuses {step}"))
    })
}

/// How much of a refused step is told, in letters.
const COMPLAINT: usize = 300;

#[cfg(test)]
mod tests;
