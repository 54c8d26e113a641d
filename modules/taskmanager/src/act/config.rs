//! Another configuration: made by our own program out of the old file, looked at by it as at a
//! reload, put in place at once, and put back when the agent is not as well with it.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use ipc_proto::Module;
use ipc_proto::control::Request;
use serde_json::Value;

use super::{Hands, VERSION, off_the_loop};
use crate::ask::program;
use crate::core::Outcome;
use crate::files;
use crate::spec::Config;

impl Hands {
    /// Looks whether the configuration can be what the job wants.
    pub(super) async fn check_config(&self, job: &Config) -> Result<Outcome, String> {
        let text = self.edited(&self.places.config, job).await?;
        let staged = self.stage(text).await?;
        let read = self.read(&staged).await;
        let removed = off_the_loop(move || files::remove(&staged)).await;
        read?;
        removed.map_err(|error| format!("cannot remove a file: {error}"))?;
        Ok(Outcome::default())
    }

    /// Changes the configuration. It starts from the back-up, so that it does the same each time.
    pub(super) async fn update(&self, job: &Config, notes: &Value) -> Result<Outcome, String> {
        let before = Self::before(notes)?;
        let kept = self.places.backup(VERSION).join("edgecore.yaml");
        let text = self.edited(&kept, job).await?;
        let staged = self.stage(text).await?;
        let touched = touched(&self.read(&kept).await?, &self.read(&staged).await?);
        self.halts.at("staged");
        self.publish(&staged).await?;
        self.halts.at("published");
        self.supervisor.order(&Request::Reload).await?;
        self.halts.at("reloaded");
        let (anew, began) = self.restart(&touched).await?;
        self.halts.at("restarted");
        let patience = Duration::from_secs(job.patience);
        before.is_again(&self.supervisor, &anew, began, patience).await?;
        Ok(Outcome::default())
    }

    /// Puts the configuration back.
    pub(super) async fn put_config_back(
        &self,
        job: &Config,
        notes: &Value,
    ) -> Result<Outcome, String> {
        let before = Self::before(notes)?;
        let kept = self.places.backup(VERSION).join("edgecore.yaml");
        let changed = self.edited(&kept, job).await?;
        let staged = self.stage(changed).await?;
        // What cannot be read never was in force.
        let touched = match self.read(&staged).await {
            Ok(changed) => touched(&changed, &self.read(&kept).await?),
            Err(_) => Vec::new(),
        };
        let old =
            files::text(&kept).map_err(|error| format!("cannot read the back-up: {error}"))?;
        let staged = self.stage(old).await?;
        self.publish(&staged).await?;
        self.halts.at("put back");
        self.supervisor.order(&Request::Reload).await?;
        let (anew, began) = self.restart(&touched).await?;
        let patience = Duration::from_secs(job.patience);
        before.runs_again(&self.supervisor, &anew, began, patience).await?;
        Ok(Outcome::default())
    }

    async fn stage(&self, text: String) -> Result<std::path::PathBuf, String> {
        let file = self.places.config.clone();
        let staged = off_the_loop(move || files::stage(&file, &text)).await;
        staged.map_err(|error| {
            format!("cannot write beside {}: {error}", self.places.config.display())
        })
    }

    async fn publish(&self, staged: &Path) -> Result<(), String> {
        let (from, to) = (staged.to_owned(), self.places.config.clone());
        let published = off_the_loop(move || files::publish(&from, &to)).await;
        published.map_err(|error| format!("cannot write {}: {error}", self.places.config.display()))
    }

    /// Returns the text of a configuration with a job's keys set.
    async fn edited(&self, file: &Path, job: &Config) -> Result<String, String> {
        let pairs: Vec<String> =
            job.fields.iter().map(|(key, value)| format!("--set={key}={value}")).collect();
        let words = ["config", "--config"].map(OsStr::new).into_iter();
        let words = words.chain([file.as_os_str()]).chain(pairs.iter().map(OsStr::new));
        program(&self.places.installed(), words).await
    }

    /// Returns what a configuration tells the supervisor.
    async fn read(&self, file: &Path) -> Result<Value, String> {
        let words = ["config", "--config"].map(OsStr::new).into_iter();
        let more = [OsStr::new("--supervisor-config"), self.places.supervisor_config.as_os_str()];
        let words = words.chain([file.as_os_str()]).chain(more);
        let text = program(&self.places.installed(), words).await?;
        serde_json::from_str(&text).map_err(|error| format!("our program prints no JSON: {error}"))
    }
}

/// Returns the modules that are told something else, and run.
fn touched(old: &Value, new: &Value) -> Vec<Module> {
    let same_frame = old["node"] == new["node"];
    let is_touched = |module: &Module| {
        let place = |config: &Value| config["modules"][module.index()].clone();
        let enabled = place(new)["enabled"] == true;
        enabled && (!same_frame || place(old) != place(new))
    };
    Module::ALL.into_iter().filter(is_touched).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn modules_are_touched_that_run_and_are_told_something_else() {
        let config = |node: &str, heartbeat: u32, stream: bool| {
            let modules = Module::ALL.map(|module| match module {
                Module::Edgehub => json!({"enabled": true, "config": heartbeat}),
                Module::Edgestream => json!({"enabled": stream, "config": heartbeat}),
                Module::Metamanager
                | Module::Devicetwin
                | Module::Edged
                | Module::Eventbus
                | Module::Servicebus
                | Module::Taskmanager
                | Module::Metaserver
                | Module::Edgemesh => json!({"enabled": false}),
            });
            json!({"node": node, "modules": modules})
        };
        let old = config("n", 15, true);
        assert_eq!(touched(&old, &old), []);
        assert_eq!(touched(&old, &config("n", 16, false)), [Module::Edgehub]);
        let both = [Module::Edgehub, Module::Edgestream];
        assert_eq!(touched(&old, &config("m", 15, true)), both);
    }
}
