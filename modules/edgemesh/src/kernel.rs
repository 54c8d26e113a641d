//! The kernel path: services as one nftables table of edgemesh's own.
//!
//! The table is replaced whole when edgemesh starts and follows change by change from then on, each
//! time in one transaction. It stays when edgemesh dies, so that traffic goes on, and goes with the
//! last service; nothing outside of it is touched.

mod nft;
mod service;
mod table;
mod watch;
mod words;

use std::collections::BTreeMap;

use tracing::{info, warn};

pub(crate) use nft::Nft;
pub(crate) use service::{Plan, plan};
use table::{NAME, TABLE, Table, removal};
use watch::Watch;

use crate::model::Name;

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
    nft: Nft,
    table: Table,
    state: State,
    /// Nothing where the kernel does not tell.
    watch: Option<Watch>,
}

impl Kernel {
    /// Takes the program that speaks to the kernel. Nothing is changed before the first plans. Has
    /// to be called in the runtime.
    pub(crate) fn new(nft: Nft) -> Self {
        let watch = Watch::begin().inspect_err(|error| warn!("{error:#}")).ok();
        Self { nft, table: Table::default(), state: State::Unknown, watch }
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
    pub(crate) async fn update(&mut self, changes: BTreeMap<Name, Plan>) -> anyhow::Result<()> {
        let difference = self.table.update(changes);
        if self.table.len() == 0 {
            return self.remove().await;
        }
        if self.state == State::InStep {
            let Some(script) = difference else { return Ok(()) };
            match self.apply(&script).await {
                Ok(()) => return Ok(()),
                // someone else may have changed the table
                Err(error) => warn!("{error:#}; replacing the whole table"),
            }
        }
        self.state = State::Unknown;
        self.apply(&self.table.full()).await?;
        self.state = State::InStep;
        info!(services = self.table.len(), "the table '{TABLE}' is in the kernel");
        Ok(())
    }

    async fn remove(&mut self) -> anyhow::Result<()> {
        if self.state != State::Absent {
            self.state = State::Unknown;
            self.apply(&removal()).await?;
            self.state = State::Absent;
        }
        Ok(())
    }

    async fn apply(&self, script: &str) -> anyhow::Result<()> {
        let applied = self.nft.apply(script).await;
        if let Some(watch) = &self.watch {
            watch.forget();
        }
        applied
    }
}

#[cfg(test)]
mod tests;
