//! How a worker makes the surroundings of its containers: folders, volumes and the sandbox.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;

use tracing::warn;

use super::act::{Failure, HOLD};
use super::{REFRESH, Worker};
use crate::cgroup::Kernel;
use crate::cri::words as w;
use crate::notes::About;
use crate::pod::plan::is_ahead;
use crate::pod::seen::State;
use crate::pod::{make, names, unsupported};
use crate::status::rfc3339;
use crate::volumes::{self, pod_folder};

/// How long volumes that are not there are left alone: what they need may come any moment.
const VOLUME_HOLD: i64 = 2000;

/// The longest name that the kernel takes for a host, in bytes.
const KERNEL_NAME: usize = 64;

impl Worker {
    /// Stops the sandboxes from before, also those that died: only a stop gives their addresses back.
    async fn stop_old_sandboxes(&self) -> Result<(), Failure> {
        for old in &self.seen.sandboxes {
            let request = w::StopPodSandboxRequest { pod_sandbox_id: old.id.clone() };
            match self.host.runtime.stop_sandbox(request).await {
                Err(trouble) if !trouble.is_not_found() => {
                    return Err(Failure::new("", format!("Failed to stop a sandbox: {trouble}")));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Makes the volumes and a sandbox.
    pub(super) async fn make_sandbox(&mut self, attempt: u32) -> Result<(), Failure> {
        if let Some(what) = unsupported(&self.pod) {
            return Err(Failure { hold: 6 * HOLD, ..Failure::new("", what) });
        }
        let clash = self.host.facts.borrow().clash.clone();
        if !clash.is_empty() {
            return Err(self.no_sandbox(clash));
        }
        self.stop_old_sandboxes().await?;
        self.choose_handler().await?;
        let config = &self.host.config;
        let name = make::kernel_name(&self.pod, &config.cluster_domain);
        if name.len() > KERNEL_NAME {
            let length = name.len();
            let message = format!(
                "Failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long \
                ({KERNEL_NAME} characters is the max, {length} characters requested)"
            );
            return Err(self.no_sandbox(message));
        }
        let logs = names::log_folder(&config.logs, &self.pod);
        let folder = pod_folder(&config.root, &self.pod.metadata.uid);
        for (folder, mode) in [(&logs, 0o755), (&folder, 0o750)] {
            let made = fs::DirBuilder::new().recursive(true).mode(mode).create(folder);
            made.map_err(|error| {
                Failure::new("", format!("cannot make {}: {error}", folder.display()))
            })?;
        }
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.host.notes.normal(About::pod(&self.pod), "SandboxChanged", message);
        }
        self.make_group()?;
        self.put_volumes().await?;
        let memory = self.host.facts.borrow().memory;
        let host_dns = fs::read_to_string(&self.host.config.resolv_conf).unwrap_or_default();
        let settings = self.settings(make::Dns::parse(&host_dns), memory);
        let seen = rfc3339(self.start);
        let config = Some(make::sandbox(&self.pod, &settings, attempt, &seen));
        let runtime_handler = self.handler.clone();
        let request = w::RunPodSandboxRequest { config, runtime_handler };
        let made = self.host.runtime.run_sandbox(request).await;
        let failed = |trouble| self.no_sandbox(format!("Failed to create pod sandbox: {trouble}"));
        made.map(drop).map_err(failed)
    }

    /// Notes why there is no sandbox.
    pub(super) fn no_sandbox(&self, message: String) -> Failure {
        let about = About::pod(&self.pod);
        self.host.notes.warning(about, "FailedCreatePodSandBox", message.clone());
        Failure::new("", message)
    }

    /// Makes the pod's control group, so that what it may use is bounded before anything of it runs.
    fn make_group(&self) -> Result<(), Failure> {
        let config = &self.host.config;
        let Some(groups) = &config.groups else { return Ok(()) };
        groups.make(&self.pod, config.defence.every).map_err(|error| {
            let message = format!("unable to ensure pod container exists: {error}");
            let about = About::pod(&self.pod);
            self.host.notes.warning(about, "FailedCreatePodContainer", message.clone());
            Failure::new("", message)
        })
    }

    pub(super) fn settings(&self, host_dns: make::Dns, memory: i64) -> make::Settings<'_> {
        let config = &self.host.config;
        make::Settings {
            host_dns,
            cluster_dns: &config.cluster_dns,
            cluster_domain: &config.cluster_domain,
            logs: Some(&config.logs),
            root: Some(&config.root),
            seccomp_default: config.seccomp_default,
            groups: config.groups.as_ref(),
            memory,
            quota_period: config.defence.every.quota_period,
            kernel: Kernel::read(),
        }
    }

    pub(super) async fn put_volumes(&mut self) -> Result<(), Failure> {
        let (host, facts) = (&self.host, self.facts());
        let from = (&host.store, &host.csi);
        let put = volumes::prepare(from, &host.config.root, &self.pod, &facts).await;
        let failed = |why: String| {
            self.host.notes.warning(About::pod(&self.pod), "FailedMount", why.clone());
            Failure { hold: VOLUME_HOLD, ..Failure::new("", why) }
        };
        let folders = put.map_err(failed)?;
        host.csi.keep(&self.pod, &folders);
        self.folders = Some(folders);
        self.refreshed = module_runtime::unix_millis();
        Ok(())
    }

    /// Brings the files of a running pod up to date when that is due, and lets claimed volumes grow;
    /// returns when it is next.
    pub(super) async fn refresh_files(&mut self, now: i64) -> Option<i64> {
        let runs = self.seen.containers.iter().any(|it| it.state == State::Running);
        let changes = self.pod.spec.volumes.iter().any(|volume| {
            volume.config_map.is_some()
                || volume.secret.is_some()
                || volume.projected.is_some()
                || volume.downward_api.is_some()
                || volume.persistent_volume_claim.is_some()
        });
        if !runs || !changes || self.pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        if is_ahead(self.refreshed + REFRESH, REFRESH, now) {
            return Some(self.refreshed + REFRESH);
        }
        if let Err(failure) = self.put_volumes().await {
            warn!(pod = %self.pod.metadata.name, "{}", failure.message);
            self.refreshed = now;
        }
        Some(now + REFRESH)
    }
}
