//! Another version of the agent. The new program is never put in the installed one's place before
//! it has proved itself: the supervisor becomes the program that stands beside it, for a time. If
//! anything ends in that time — supervisor, host, this module — what starts next is the installed
//! program, the old one. How far a trial has come is told by which files there are:
//!
//! - `edgecore.fetched`: the new program is here and was looked at;
//! - `edgecore.trial`: it was tried, or is being tried;
//! - neither, and the installed program is that file: it was taken.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use ipc_proto::Module;
use ipc_proto::control::Request;
use ipc_proto::image::{CopyOut, Wanted};
use serde_json::{Value, json};
use tracing::info;

use super::{Hands, VERSION, failed, off_the_loop};
use crate::ask::program;
use crate::core::Outcome;
use crate::files;
use crate::health::Before;
use crate::host;
use crate::job::Action;
use crate::spec::Upgrade;

/// Where the program is in an image: KubeEdge's place.
const IN_IMAGE: &str = "/usr/local/bin/edgecore";

/// Its name, out of the image.
const PROGRAM: &str = "edgecore";

impl Hands {
    /// Does a step of an upgrade.
    pub(super) async fn upgrade_step(
        &self,
        action: Action,
        job: &Upgrade,
        notes: &Value,
    ) -> Outcome {
        let done = match action {
            Action::Check => match host::look(&job.items).await {
                Ok(()) => self.get(job).await,
                Err(why) => Err(why),
            },
            Action::Init => self.get(job).await,
            Action::BackUp => self.note_and_back_up().await,
            Action::Upgrade => self.try_and_take(job, notes).await,
            Action::RollBack => self.go_back(job, notes).await,
            Action::WaitingConfirmation | Action::Pull | Action::Update => Ok(Outcome::default()),
        };
        let mut outcome = done.unwrap_or_else(failed);
        outcome.extend = match action {
            Action::BackUp | Action::Upgrade => format!("{VERSION},{}", job.version),
            Action::RollBack => format!("{},{VERSION}", job.version),
            Action::Init
            | Action::Check
            | Action::WaitingConfirmation
            | Action::Pull
            | Action::Update => String::new(),
        };
        outcome
    }

    /// Gets the new program out of its image and looks at it.
    async fn get(&self, job: &Upgrade) -> Result<Outcome, String> {
        let places = &self.places;
        if places.is_on_trial() {
            return Err("another upgrade is on trial".to_owned());
        }
        let (folder, cannot) =
            (places.in_box(), |error| format!("cannot get the program: {error}"));
        let [fetched, trial] = [places.fetched(), places.on_trial()];
        let emptied = folder.clone();
        let cleared = off_the_loop(move || {
            files::remove(&fetched)?;
            files::remove(&trial)?;
            files::empty_folder(&emptied)
        });
        cleared.await.map_err(cannot)?;
        let out = CopyOut { file: IN_IMAGE.into(), into: folder.to_string_lossy().into() };
        let wanted = Wanted {
            image: job.image.clone(),
            digest: job.digest.clone(),
            copy: Some(out),
            secret: None,
        };
        let came = self.fetch(&wanted).await;
        let fetched = places.fetched();
        let took_it = came.is_ok();
        let taken = off_the_loop(move || {
            let taken =
                if took_it { files::take_program(&folder, PROGRAM, &fetched) } else { Ok(()) };
            files::remove_folder(&folder)?;
            taken
        });
        let taken = taken.await;
        came?;
        taken.map_err(|error| format!("the program in {} is not taken: {error}", job.image))?;
        self.look_at(&places.fetched(), job).await?;
        Ok(Outcome::default())
    }

    /// Looks whether a program runs here, is ours, of the version wanted, and takes this node's
    /// configuration.
    async fn look_at(&self, file: &Path, job: &Upgrade) -> Result<(), String> {
        let says = program(file, [OsStr::new("--version")]).await?;
        let says = says.trim();
        let (kubeedge, own) = says
            .strip_prefix("KubeEdge ")
            .and_then(|version| version.split_once("+edgecore."))
            .ok_or_else(|| format!("{} holds another program: it says '{says}'", job.image))?;
        let wanted = job.version.trim_start_matches('v');
        if own != wanted && kubeedge.trim_start_matches('v') != wanted {
            return Err(format!("{} holds '{says}', expected version {}", job.image, job.version));
        }
        let words = ["config", "--config"].map(OsStr::new).into_iter();
        let more = [
            self.places.config.as_os_str(),
            OsStr::new("--supervisor-config"),
            self.places.supervisor_config.as_os_str(),
        ];
        let taken = program(file, words.chain(more)).await;
        taken.map(drop).map_err(|why| format!("{says} does not take this configuration: {why}"))
    }

    /// Backs up, and notes which file is the new program.
    async fn note_and_back_up(&self) -> Result<Outcome, String> {
        let new = files::identity(&self.places.fetched());
        let new = new.ok_or("the new program is not here any more: order the upgrade anew")?;
        let mut outcome = self.back_up("").await?;
        outcome.notes = outcome.notes.map(|before| json!({ "before": before, "program": new }));
        Ok(outcome)
    }

    /// Has the supervisor become the new program for a time; takes it when all is well with it.
    async fn try_and_take(&self, job: &Upgrade, notes: &Value) -> Result<Outcome, String> {
        let places = &self.places;
        let before = Self::before(&notes["before"])?;
        let is_new = |file: &Path| files::identity(file) == notes["program"].as_u64();
        if places.is_on_trial() {
            return self.prove(job, &before).await;
        }
        if is_new(&places.installed()) {
            info!("version {} is installed", job.version);
            return Ok(Outcome::default());
        }
        if places.on_trial().exists() {
            return Err(format!("version {} did not hold", job.version));
        }
        if !is_new(&places.fetched()) {
            return Err("the new program is not here any more: order the upgrade anew".to_owned());
        }
        let (from, to) = (places.fetched(), places.on_trial());
        off_the_loop(move || files::publish(&from, &to))
            .await
            .map_err(|error| format!("cannot name the program on trial: {error}"))?;
        let program = places.on_trial().to_string_lossy().into();
        let seconds = job.patience.saturating_mul(2).saturating_add(10);
        self.supervisor.order(&Request::Try { program, seconds }).await?;
        // This process ends with the others, and its successor goes on on trial.
        let modules = before.running().to_vec();
        self.supervisor.order(&Request::Restart { modules }).await?;
        std::future::pending().await
    }

    /// On trial: has whoever still runs the old program started anew, waits until all is well, and
    /// takes the program.
    async fn prove(&self, job: &Upgrade, before: &Before) -> Result<Outcome, String> {
        let began = files::named(&self.places.on_trial()).unwrap_or(0);
        let mut stale = before.older(&self.supervisor.status().await?, began);
        stale.retain(|module| *module != Module::Taskmanager);
        if !stale.is_empty() {
            self.supervisor.order(&Request::Restart { modules: stale }).await?;
        }
        let patience = Duration::from_secs(job.patience);
        before.is_again(&self.supervisor, before.running(), began, patience).await?;
        let (from, to) = (self.places.on_trial(), self.places.installed());
        off_the_loop(move || files::publish(&from, &to))
            .await
            .map_err(|error| format!("cannot install the new program: {error}"))?;
        info!("version {} is installed", job.version);
        self.supervisor.order(&Request::Reload).await?;
        Ok(Outcome::default())
    }

    /// Has the installed program run again, if another does, and clears away what was fetched.
    async fn go_back(&self, job: &Upgrade, notes: &Value) -> Result<Outcome, String> {
        let places = &self.places;
        if places.on_trial().exists() {
            // Where the supervisor is the installed program already, this changes nothing.
            self.supervisor.order(&Request::Reload).await?;
        }
        let before = Self::before(&notes["before"]);
        if places.is_on_trial() {
            // This process ends with the others, and its successor is of the installed program.
            let modules = before?.running().to_vec();
            self.supervisor.order(&Request::Restart { modules }).await?;
            return std::future::pending().await;
        }
        let [fetched, trial] = [places.fetched(), places.on_trial()];
        off_the_loop(move || {
            files::remove(&fetched)?;
            files::remove(&trial)
        })
        .await
        .map_err(|error| format!("cannot clear away the new program: {error}"))?;
        // Without notes nothing was tried.
        let Ok(before) = before else { return Ok(Outcome::default()) };
        before.runs_again(&self.supervisor, &[], 0, Duration::from_secs(job.patience)).await?;
        Ok(Outcome::default())
    }
}
