//! Another version of the agent. The new program is never put in the installed one's place before
//! it has proved itself: the supervisor becomes the program that stands beside it, for a time. If
//! anything ends in that time — supervisor, host, this module — what starts next is the installed
//! program, the old one. How far a trial has come is told by which files there are:
//!
//! - `edgecore.fetched`: the new program is here and was looked at;
//! - `edgecore.trial`: it was tried, or is being tried;
//! - neither, and the installed program is that file: it was taken.
//!
//! Where the operator's command stands beside the installed program, the image has to have the one
//! that goes with the new program; it waits as `edgectl.fetched`, and takes its place after that.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_proto::Module;
use ipc_proto::control::Request;
use ipc_proto::image::{CopyOut, Wanted};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{Hands, VERSION, failed, off_the_loop};
use crate::ask::program;
use crate::config::{COMMAND, INSTALLED};
use crate::core::Outcome;
use crate::files;
use crate::health::Before;
use crate::host;
use crate::job::Action;
use crate::spec::Upgrade;

/// Where the programs are in an image: KubeEdge's place.
const IN_IMAGE: &str = "/usr/local/bin";

/// What divides KubeEdge's version from our own in what the program says of itself.
const OWN: &str = "+edgecore.";

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

    /// Gets the new programs out of their image and looks at them.
    async fn get(&self, job: &Upgrade) -> Result<Outcome, String> {
        let places = &self.places;
        if places.is_on_trial() {
            return Err("another upgrade is on trial".to_owned());
        }
        let (folder, cannot) =
            (places.in_box(), |error| format!("cannot get the program: {error}"));
        let left = self.left_over();
        let emptied = folder.clone();
        let cleared = off_the_loop(move || {
            left.iter().try_for_each(|file| files::remove(file))?;
            files::empty_folder(&emptied)
        });
        cleared.await.map_err(cannot)?;
        self.halts.at("cleared");
        let mut wanted = vec![(INSTALLED, places.fetched())];
        if places.command().exists() {
            wanted.push((COMMAND, places.command_fetched()));
        }
        let names = wanted.iter().map(|(name, _)| format!("{IN_IMAGE}/{name}"));
        let out = CopyOut { files: names.collect(), into: folder.to_string_lossy().into() };
        let came = self
            .fetch(&Wanted {
                image: job.image.clone(),
                digest: job.digest.clone(),
                copy: Some(out),
                secret: None,
            })
            .await;
        self.halts.at("in the box");
        let took_it = came.is_ok();
        let taken = off_the_loop(move || {
            let take = |(name, to): &(&str, PathBuf)| files::take_program(&folder, name, to);
            let taken = if took_it { wanted.iter().try_for_each(take) } else { Ok(()) };
            files::remove_folder(&folder)?;
            taken
        });
        let taken = taken.await;
        came?;
        taken.map_err(|error| format!("the program in {} is not taken: {error}", job.image))?;
        self.halts.at("fetched");
        let own = self.look_at(&places.fetched(), job).await?;
        if places.command_fetched().exists() {
            look_at_command(&places.command_fetched(), &own, job).await?;
        }
        Ok(Outcome::default())
    }

    /// Returns what an upgrade may have left beside the installed program.
    fn left_over(&self) -> [PathBuf; 3] {
        let places = &self.places;
        [places.fetched(), places.on_trial(), places.command_fetched()]
    }

    /// Looks whether a program runs here, is ours, of the version wanted, and takes this node's
    /// configuration. Returns our own version of it.
    async fn look_at(&self, file: &Path, job: &Upgrade) -> Result<String, String> {
        let says = program(file, [OsStr::new("--version")]).await?;
        let says = says.trim();
        let (kubeedge, own) = says
            .strip_prefix("KubeEdge ")
            .and_then(|version| version.split_once(OWN))
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
        taken.map_err(|why| format!("{says} does not take this configuration: {why}"))?;
        Ok(own.to_owned())
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
            return Ok(self.settle(job).await);
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
        self.halts.at("named");
        let program = places.on_trial().to_string_lossy().into();
        let seconds = job.patience.saturating_mul(2).saturating_add(10);
        self.supervisor.order(&Request::Try { program, seconds }).await?;
        self.halts.at("tried");
        // This process ends with the others, and its successor goes on on trial.
        let modules = before.running().to_vec();
        self.supervisor.order(&Request::Restart { modules }).await?;
        std::future::pending().await
    }

    /// On trial: has whoever still runs the old program started anew, waits until all is well, and
    /// takes the program.
    async fn prove(&self, job: &Upgrade, before: &Before) -> Result<Outcome, String> {
        self.halts.at("on trial");
        let began = files::named(&self.places.on_trial()).unwrap_or(0);
        let mut stale = before.older(&self.supervisor.status().await?, began);
        stale.retain(|module| *module != Module::Taskmanager);
        if !stale.is_empty() {
            self.supervisor.order(&Request::Restart { modules: stale }).await?;
        }
        let patience = Duration::from_secs(job.patience);
        before.is_again(&self.supervisor, before.running(), began, patience).await?;
        self.halts.at("proved");
        let (from, to) = (self.places.on_trial(), self.places.installed());
        off_the_loop(move || files::publish(&from, &to))
            .await
            .map_err(|error| format!("cannot install the new program: {error}"))?;
        self.halts.at("installed");
        Ok(self.settle(job).await)
    }

    /// Does what is left when the new program is installed. From here there is no way back, so what
    /// does not work is only said.
    async fn settle(&self, job: &Upgrade) -> Outcome {
        let (from, to) = (self.places.command_fetched(), self.places.command());
        let taken =
            off_the_loop(move || if from.exists() { files::publish(&from, &to) } else { Ok(()) });
        if let Err(error) = taken.await {
            warn!("edgectl stays as it was: {error}");
        }
        self.halts.at("settled");
        if let Err(why) = self.supervisor.order(&Request::Reload).await {
            warn!("the supervisor runs what is installed when the trial is over: {why}");
        }
        info!("version {} is installed", job.version);
        Outcome::default()
    }

    /// Has the installed program run again, if another does, and clears away what was fetched.
    async fn go_back(&self, job: &Upgrade, notes: &Value) -> Result<Outcome, String> {
        let places = &self.places;
        if places.on_trial().exists() {
            // Where the supervisor is the installed program already, this changes nothing.
            self.supervisor.order(&Request::Reload).await?;
            self.halts.at("back");
        }
        let before = Self::before(&notes["before"]);
        if places.is_on_trial() {
            // This process ends with the others, and its successor is of the installed program.
            let modules = before?.running().to_vec();
            self.supervisor.order(&Request::Restart { modules }).await?;
            return std::future::pending().await;
        }
        let left = self.left_over();
        off_the_loop(move || left.iter().try_for_each(|file| files::remove(file)))
            .await
            .map_err(|error| format!("cannot clear away the new program: {error}"))?;
        self.halts.at("cleared away");
        // Without notes nothing was tried.
        let Ok(before) = before else { return Ok(Outcome::default()) };
        before.runs_again(&self.supervisor, &[], 0, Duration::from_secs(job.patience)).await?;
        Ok(Outcome::default())
    }
}

/// Looks whether the operator's command runs here and goes with the program of version `own`.
async fn look_at_command(file: &Path, own: &str, job: &Upgrade) -> Result<(), String> {
    let says = program(file, [OsStr::new("--version")]).await?;
    let (says, expected) = (says.trim(), format!("{COMMAND} {own}"));
    if says == expected {
        return Ok(());
    }
    Err(format!("{} holds '{says}', expected '{expected}'", job.image))
}
