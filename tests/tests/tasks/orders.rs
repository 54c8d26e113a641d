//! What the cloud orders, and what it is told.

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::pods::LONG;
use edgecore_tests::rig::wait_for;
use minicloud::core::Push;
use serde_json::Value;

/// Has the cloud send something to the node's taskmanager.
pub(crate) fn push(cloud: &Cloud, resource: String, operation: &str, content: Value) -> Result<()> {
    let push = Push {
        source: "taskmanager".to_owned(),
        group: "taskmanager".to_owned(),
        operation: operation.to_owned(),
        resource,
        version: String::new(),
        content,
    };
    cloud.with(|cloud| async move { cloud.push(NODE, push).await })
}

/// Orders a job of the newer API, as the cloud does: its first step.
pub(crate) fn order(cloud: &Cloud, kind: &str, job: &str, spec: Value) -> Result<()> {
    push(cloud, format!("operations.kubeedge.io/v1alpha2/{kind}/{job}/node/{NODE}"), "Check", spec)
}

/// Returns what the node reported about a resource.
pub(crate) fn reports(cloud: &Cloud, resource: &str) -> Result<Vec<Value>> {
    let received = cloud.with(|cloud| async move { cloud.received(0).await })?;
    let about = received.iter().filter(|it| it.message.route.resource.to_string() == resource);
    about.map(|it| Ok(it.message.content.decode::<Value>()?)).collect()
}

/// Waits for a job's report about a step, and returns it.
pub(crate) fn wait_step(cloud: &Cloud, kind: &str, job: &str, step: &str) -> Result<Value> {
    let resource = format!("operations.kubeedge.io/v1alpha2/{kind}/{job}/node/{NODE}");
    wait_for(&format!("{job} reports {step}"), LONG, || {
        let all = reports(cloud, &resource).ok()?;
        all.into_iter().rev().find(|it| it["action"] == step)
    })
    .with_context(|| format!("{:?}", reports(cloud, &resource)))
}

/// Returns a job's steps and whether they worked, each once.
pub(crate) fn steps(cloud: &Cloud, kind: &str, job: &str) -> Result<Vec<(String, bool)>> {
    let resource = format!("operations.kubeedge.io/v1alpha2/{kind}/{job}/node/{NODE}");
    let mut steps: Vec<(String, bool)> = Vec::new();
    for report in reports(cloud, &resource)? {
        let step = report["action"].as_str().context("a step has a name")?.to_owned();
        let step = (step, report["succ"] == true);
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    Ok(steps)
}

pub(crate) fn way(steps: &[(&str, bool)]) -> Vec<(String, bool)> {
    steps.iter().map(|(step, worked)| ((*step).to_owned(), *worked)).collect()
}
