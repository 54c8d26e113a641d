//! The node towards the cloud: what edged tells of it, whatever happens to the link.

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::{Rig, SOON, Setup, wait_for};
use ipc_proto::Module;
use minicloud::Config;
use minicloud::fault::Fault;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How often edged renews the lease of its own accord (WIRE.md §6).
const BEAT: time::Duration = time::Duration::seconds(10);

/// A node whose edged is the real one, without a container runtime.
fn node(cloud: &Cloud) -> Result<Rig> {
    let own = rustix::process::geteuid().as_raw();
    let mut setup = Setup::new()?.with(json!({"modules": {"edgehub": {"user": own}}}));
    cloud.lead(&mut setup);
    setup.start()
}

fn lease(cloud: &Cloud) -> Option<Value> {
    let path = format!("kube-node-lease/lease/{NODE}");
    cloud.with(|cloud| async move { cloud.object(&path).await }).ok().flatten()
}

/// Waits until the lease was renewed after `last`, and returns when.
fn renewal(cloud: &Cloud, last: Option<OffsetDateTime>) -> Result<OffsetDateTime> {
    wait_for("the lease is renewed", SOON, || {
        let renewed = lease(cloud)?["spec"]["renewTime"].as_str()?.to_owned();
        let renewed = OffsetDateTime::parse(&renewed, &Rfc3339).ok()?;
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
