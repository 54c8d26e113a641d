//! The node towards the cloud: what edged tells of it, whatever happens to the link.

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::{Rig, SOON, Setup, wait_for};
use ipc_proto::Module;
use minicloud::Config;
use minicloud::fault::Fault;
use rustix::process::Signal;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How often edged renews the lease of its own accord (WIRE.md §6).
const BEAT: time::Duration = time::Duration::seconds(10);

/// A node whose edged is the real one, without a container runtime. It tells of events.
fn node(cloud: &Cloud) -> Result<Rig> {
    let own = rustix::process::geteuid().as_raw();
    let mut setup = Setup::new()?.with(json!({"modules": {"edgehub": {"user": own}}}));
    cloud.lead(&mut setup);
    setup.edgecore["modules"]["edged"]["reportEvent"] = json!(true);
    setup.start()
}

/// Returns a condition of the node, as the cloud has it.
fn condition(cloud: &Cloud, kind: &str) -> Option<Value> {
    let path = format!("null/node/{NODE}");
    let node = cloud.with(|cloud| async move { cloud.object(&path).await }).ok().flatten()?;
    node["status"]["conditions"].as_array()?.iter().find(|it| it["type"] == kind).cloned()
}

/// Returns the events of the node that the cloud has.
fn events(cloud: &Cloud) -> Result<Vec<Value>> {
    let of_kind = |cloud: &minicloud::core::Cloud| {
        cloud.cluster().of_kind("event").map(|(_, event)| event.clone()).collect()
    };
    let all: Vec<Value> = cloud.with(|cloud| async move { cloud.look(of_kind).await })?;
    Ok(all.into_iter().filter(|it| it["involvedObject"]["kind"] == "Node").collect())
}

/// Waits until the lease was renewed after `last`, and returns when.
fn renewal(cloud: &Cloud, last: Option<OffsetDateTime>) -> Result<OffsetDateTime> {
    wait_for("the lease is renewed", SOON, || {
        let renewed = OffsetDateTime::parse(&cloud.lease().ok()??, &Rfc3339).ok()?;
        last.is_none_or(|last| renewed > last).then_some(renewed)
    })
}

#[test]
fn the_lease_is_renewed_when_the_cloud_is_back_and_not_at_the_next_beat() -> Result<()> {
    let cloud = Cloud::start(Config::default())?;
    let rig = node(&cloud)?;
    let mut last = renewal(&cloud, None)?;
    for _ in 0..3 {
        let restart = Fault::Restart { down_millis: 300 };
        let joined = cloud.next_session(cloud.session()?);
        cloud.with(|cloud| async move { cloud.fault(None, restart).await })?;
        joined.done()?;
        let renewed = renewal(&cloud, Some(last)).with_context(|| rig.module_log(Module::Edged))?;
        assert!(renewed - last < BEAT, "renewed at {last}, then at {renewed}");
        last = renewed;
    }
    Ok(())
}

#[test]
fn a_module_that_dies_shows_in_the_nodes_conditions_and_events() -> Result<()> {
    const MODULES: &str = "EdgecoreModules";
    let cloud = Cloud::start(Config::default())?;
    let rig = node(&cloud)?;
    wait_for("all is well", SOON, || {
        condition(&cloud, MODULES)
            .filter(|it| it["status"] == "True" && it["reason"] == "ModulesRun")
    })?;
    for (module, word) in [(Module::Edgemesh, "edgemesh"), (Module::Edged, "edged")] {
        rig.signal(module, Signal::KILL)?;
        let wanted = format!("{word} ended: signal 9");
        wait_for("the condition says it", SOON, || {
            let condition = condition(&cloud, MODULES)?;
            let says = condition["message"].as_str()?.contains(&wanted);
            (says && condition["status"] == "False" && condition["reason"] == "ModuleDied")
                .then_some(())
        })
        .with_context(|| rig.module_log(Module::Edged))?;
        let wanted = format!("{word} of edgecore ended: signal 9");
        wait_for("an event says it", SOON, || {
            let events = events(&cloud).ok()?;
            let found = |it: &&Value| {
                it["reason"] == "ModuleDied"
                    && it["message"].as_str().is_some_and(|message| message.starts_with(&wanted))
            };
            events.iter().find(found).map(drop)
        })?;
    }
    let reasons: Vec<_> = events(&cloud)?.into_iter().map(|it| it["reason"].clone()).collect();
    assert!(reasons.contains(&json!("Starting")), "{reasons:?}");
    Ok(())
}

/// Returns the node's uid.
fn uid(cloud: &Cloud) -> Option<Value> {
    let path = format!("null/node/{NODE}");
    let node = cloud.with(|cloud| async move { cloud.object(&path).await }).ok().flatten()?;
    Some(node["metadata"]["uid"].clone()).filter(Value::is_string)
}

#[test]
fn a_node_that_was_given_up_says_how_it_is_as_soon_as_it_is_back() -> Result<()> {
    let cloud = Cloud::start(Config::default())?;
    let rig = node(&cloud)?;
    let said = wait_for("the node says how it is", SOON, || condition(&cloud, "Ready"))?;
    let joined = cloud.next_session(cloud.session()?);
    // What the node controller writes when the lease is too old.
    let path = format!("null/node/{NODE}");
    let mut object =
        cloud.with(|cloud| async move { cloud.object(&path).await })?.context("no node")?;
    for condition in object["status"]["conditions"].as_array_mut().context("no conditions")? {
        condition["status"] = "Unknown".into();
        condition["reason"] = "NodeStatusUnknown".into();
    }
    cloud.with(|cloud| async move { cloud.apply(object).await })?;
    assert_eq!(condition(&cloud, "Ready").context("no condition")?["status"], "Unknown");
    let restart = Fault::Restart { down_millis: 300 };
    cloud.with(|cloud| async move { cloud.fault(None, restart).await })?;
    joined.done()?;
    wait_for("the node says it again", SOON, || {
        condition(&cloud, "Ready").filter(|it| it["status"] == said["status"])
    })
    .with_context(|| rig.module_log(Module::Edged))?;
    Ok(())
}

#[test]
fn a_node_that_was_deleted_registers_again_at_once() -> Result<()> {
    let cloud = Cloud::start(Config::default())?;
    let rig = node(&cloud)?;
    renewal(&cloud, None)?;
    let (mut last, path) = (uid(&cloud).context("no node")?, format!("null/node/{NODE}"));
    for _ in 0..2 {
        let path = path.clone();
        cloud.with(|cloud| async move { cloud.delete(&path, false).await })?;
        last = wait_for("there is another node", SOON, || uid(&cloud).filter(|uid| *uid != last))
            .with_context(|| rig.module_log(Module::Edged))?;
        wait_for("its lease is its own", SOON, || {
            let of = |cloud: &minicloud::core::Cloud| {
                let mut leases = cloud.cluster().of_kind("lease");
                leases.next().map(|(_, it)| it["metadata"]["ownerReferences"][0]["uid"].clone())
            };
            cloud.with(|cloud| async move { cloud.look(of).await }).ok()?.filter(|uid| *uid == last)
        })?;
    }
    Ok(())
}
