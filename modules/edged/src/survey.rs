//! What the container runtime runs, and which pods this node could not run: told without the engine,
//! for who looks at a node before and after an agent is replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cgroup::Driver;
use crate::config::Sections;
use crate::cri::{Runtime, Trouble, words as w};
use crate::pod::names::SOURCE;
use crate::pod::{self, spec::Pod};

/// Where pods come from that the cloud gave.
const OF_CLOUD: &str = "api";

/// How long a container runtime may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the container runtime's `name` and `version`, and under `clash` why it and this
/// configuration do not go together, if so. `section` is what the configuration tells this module.
///
/// # Errors
/// When the configuration is wrong, or the runtime does not answer within five seconds.
pub fn runtime(section: Value) -> anyhow::Result<Value> {
    let sections: Sections = serde_json::from_value(section)?;
    let config = sections.check()?;
    let own = config.groups.as_ref().map(|groups| groups.driver);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(async move {
        let runtime = Runtime::new(config.socket);
        let version = w::VersionRequest { version: "0.1.0".to_owned() };
        let asked = async {
            let told = runtime.version(version).await?;
            Ok::<_, Trouble>((told, Driver::of(&runtime).await))
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        let (told, driver) = answer.context("it did not answer within 5 s")??;
        let clash = own.zip(driver).and_then(|(own, theirs)| own.clash(theirs));
        Ok(json!({
            "name": told.runtime_name, "version": told.runtime_version, "clash": clash,
        }))
    })
}

/// Returns the containers that run, one JSON object each: `id`, `pod`, `name`, `attempt`,
/// `startedAt` in nanoseconds of Unix, and whether its pod is `static`. `section` is what the
/// configuration tells this module.
///
/// # Errors
/// When the configuration is wrong, or the runtime does not answer.
pub fn containers(section: Value) -> anyhow::Result<Vec<Value>> {
    let sections: Sections = serde_json::from_value(section)?;
    let socket = sections.check()?.socket;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = tokio.block_on(async move { list(&Runtime::new(socket)).await });
    found.context("the container runtime does not tell what runs")
}

async fn list(runtime: &Runtime) -> Result<Vec<Value>, Trouble> {
    let (sandboxes, containers) = runtime.list(BTreeMap::new()).await?;
    let mut found = Vec::new();
    for sandbox in sandboxes {
        let id = || sandbox.id.clone();
        let request = w::PodSandboxStatusRequest { pod_sandbox_id: id() };
        let Some(answer) = there(runtime.sandbox_status(request).await)? else { continue };
        let source = answer.status.unwrap_or_default().annotations.remove(SOURCE);
        let pod = sandbox.metadata.clone().unwrap_or_default();
        let runs = |it: &&w::Container| it.state() == w::ContainerState::Running;
        for container in containers.iter().filter(runs).filter(|it| it.pod_sandbox_id == id()) {
            let request = w::ContainerStatusRequest { container_id: container.id.clone() };
            let Some(answer) = there(runtime.container_status(request).await)? else { continue };
            let own = container.metadata.clone().unwrap_or_default();
            found.push(json!({
                "id": container.id, "pod": format!("{}/{}", pod.namespace, pod.name),
                "name": own.name, "attempt": own.attempt,
                "startedAt": answer.status.unwrap_or_default().started_at,
                "static": source.as_ref().is_some_and(|source| source != OF_CLOUD),
            }));
        }
    }
    Ok(found)
}

/// What is not found has ended meanwhile.
fn there<T>(answer: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(trouble) if trouble.is_not_found() => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// Returns what of a pod this node cannot do, given as an object of the cluster.
///
/// # Errors
/// When it is no pod.
pub fn unsupported(pod: &[u8]) -> serde_json::Result<Option<String>> {
    let pod: Pod = serde_json::from_slice(pod)?;
    let Pod { metadata, .. } = &pod;
    let name = format!("{}/{}", metadata.namespace, metadata.name);
    Ok(pod::unsupported(&pod).map(|why| format!("{name}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_cannot_run_here_is_named_with_the_reason() {
        let pod = |spec: Value| {
            let metadata = json!({"name": "p", "namespace": "n", "uid": "u"});
            unsupported(json!({"metadata": metadata, "spec": spec}).to_string().as_bytes())
        };
        let plain = json!({"containers": [{"name": "c", "image": "i"}]});
        assert_eq!(pod(plain.clone()).unwrap(), None);
        let mut users = plain;
        users["hostUsers"] = false.into();
        let said = pod(users).unwrap().unwrap();
        assert!(said.starts_with("n/p: ") && said.ends_with("hostUsers: false"), "{said}");
    }
}
