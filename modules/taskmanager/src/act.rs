//! The steps of jobs, done. Each can be done again after a death in its middle.

mod config;
mod pull;
mod upgrade;

use ipc_proto::Module;
use ipc_proto::control::Request;
use module_runtime::{Halts, Peers};
use serde_json::Value;

use crate::ask::Supervisor;
use crate::config::{COMMAND, INSTALLED, Places};
use crate::core::Outcome;
use crate::health::Before;
use crate::host;
use crate::job::Action;
use crate::spec::Spec;

/// What steps are done with.
#[derive(Clone, Debug)]
pub(crate) struct Hands {
    pub(crate) peers: Peers,
    pub(crate) places: Places,
    pub(crate) supervisor: Supervisor,
    pub(crate) halts: Halts,
}

/// This version, as jobs write them.
pub(crate) const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

impl Hands {
    /// Does a step.
    pub(crate) async fn run(&self, action: Action, spec: &Spec, notes: &Value) -> Outcome {
        let done = match (action, spec) {
            (_, Spec::Look(items)) => host::look(items).await.map(|()| Outcome::default()),
            (Action::Check, Spec::Prepull(job)) => {
                host::look(&job.items).await.map(|()| Outcome::default())
            }
            (Action::Pull, Spec::Prepull(job)) => return self.pull_all(job).await,
            (_, Spec::Prepull(_)) => Ok(Outcome::default()),
            (Action::Check, Spec::Config(job)) => self.check_config(job).await,
            (Action::Update, Spec::Config(job)) => self.update(job, notes).await,
            (Action::RollBack, Spec::Config(job)) => self.put_config_back(job, notes).await,
            (_, Spec::Config(_)) => self.back_up("").await,
            (_, Spec::Upgrade(job)) => return self.upgrade_step(action, job, notes).await,
        };
        done.unwrap_or_else(failed)
    }

    /// Keeps what a job is about to change, where KubeEdge's tools keep it, and notes how all is.
    /// The database stays out: what the cloud was told is stored must be there after a way back
    /// too, and its tables are those of every version.
    async fn back_up(&self, extend: &str) -> Result<Outcome, String> {
        let before = Before::of(&self.supervisor.status().await?);
        let folder = self.places.backup(VERSION);
        let places = self.places.clone();
        let kept = off_the_loop(move || {
            std::fs::create_dir_all(&folder)?;
            crate::files::keep_text(&places.config, &folder.join("edgecore.yaml"))?;
            crate::files::keep_program(&places.installed(), &folder.join(INSTALLED))?;
            let command = places.command();
            if command.exists() {
                crate::files::keep_program(&command, &folder.join(COMMAND))?;
            }
            Ok(())
        });
        kept.await.map_err(|error| format!("cannot back up: {error}"))?;
        let notes = serde_json::to_value(before).map_err(|error| error.to_string())?;
        Ok(Outcome { extend: extend.to_owned(), notes: Some(notes), failure: None })
    }

    /// Reads how all was at the back-up.
    fn before(notes: &Value) -> Result<Before, String> {
        serde_json::from_value(notes.clone())
            .map_err(|_| "there is no back-up of this job".to_owned())
    }

    /// Has modules started anew, this one not among them. Returns which, and since when.
    async fn restart(&self, modules: &[Module]) -> Result<(Vec<Module>, i64), String> {
        let began = module_runtime::unix_millis();
        let others: Vec<_> =
            modules.iter().copied().filter(|it| *it != Module::Taskmanager).collect();
        if !others.is_empty() {
            self.supervisor.order(&Request::Restart { modules: others.clone() }).await?;
        }
        Ok((others, began))
    }
}

/// Returns the outcome of a step that failed.
fn failed(why: String) -> Outcome {
    Outcome { failure: Some(why), ..Outcome::default() }
}

/// Does what waits for the disk in a thread of its own, so that the beat goes on.
async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
