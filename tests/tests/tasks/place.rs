//! A node without pods that takes jobs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::{Rig, SOON, Setup, wait_until};
use ipc_proto::Module;
use minicloud::Config;
use serde_json::{Value, json};

use super::orders::{order, steps, wait_step};

/// What the cloud calls jobs that change the configuration.
pub(crate) const CONFIG: &str = "configupdatejob";

/// The node and its cloud.
pub(crate) struct Place {
    pub(crate) rig: Rig,
    pub(crate) cloud: Cloud,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let cloud = Cloud::start(Config::default())?;
        let mut setup = Setup::new()?;
        let own = rustix::process::geteuid().as_raw();
        setup = setup.with(json!({"modules": {"edgehub": {"user": own}}}));
        for module in Module::ALL {
            let wanted = [Module::Metamanager, Module::Edgehub, Module::Taskmanager];
            let enabled = wanted.contains(&module);
            setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
        }
        cloud.lead(&mut setup);
        let rig = setup.start()?;
        wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
        Ok(Self { rig, cloud })
    }

    /// Returns the configuration's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.rig.setup().folder.path().join("edgecore.yaml")
    }

    pub(crate) fn configuration(&self) -> Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(self.file())?)?)
    }

    pub(crate) fn order(&self, job: &str, fields: &Value) -> Result<()> {
        self.order_within(job, fields, 20)
    }

    /// Orders a job for which the cloud has so many seconds.
    pub(crate) fn order_within(&self, job: &str, fields: &Value, seconds: u32) -> Result<()> {
        let spec = json!({"nodeNames": [NODE], "updateFields": fields, "timeoutSeconds": seconds});
        order(&self.cloud, CONFIG, job, spec)
    }

    /// Waits until a job's last step is told, and returns all of them.
    pub(crate) fn end(&self, job: &str, step: &str) -> Result<Vec<(String, bool)>> {
        wait_step(&self.cloud, CONFIG, job, step)
            .with_context(|| self.rig.module_log(Module::Taskmanager))?;
        steps(&self.cloud, CONFIG, job)
    }
}
