//! `edgectl doctor` on a node, and on a machine that is none.

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::Cloud;
use edgecore_tests::rig::operator::{Said, edgectl};
use edgecore_tests::rig::{SOON, Setup, wait_until};
use minicloud::Config;
use serde_json::Value;

/// Returns what the check of this name found, and how bad that is.
fn finding<'a>(report: &'a Value, check: &str) -> Result<(&'a str, &'a str)> {
    let mut findings = report["findings"].as_array().into_iter().flatten();
    let found = findings.find(|it| it["check"] == check).context("no such check")?;
    let word = |key: &str| found[key].as_str().context("no text");
    Ok((word("level")?, word("found")?))
}

#[test]
fn a_node_is_told_what_works_and_what_is_missing() -> Result<()> {
    let cloud = Cloud::start(Config::default())?;
    let mut setup = Setup::new()?;
    cloud.lead(&mut setup);
    let rig = setup.start()?;
    let config = rig.setup().folder.path().join("edgecore.yaml");
    let config = config.to_str().context("a name in UTF-8")?.to_owned();
    let ask = || rig.edgectl(&["doctor", "-o", "json", "--config", &config]);
    wait_until("the doctor finds the node connected", SOON, || {
        let report = ask().ok().and_then(|said| serde_json::from_str::<Value>(&said.out).ok());
        report.is_some_and(|it| finding(&it, "agent").is_ok_and(|(level, _)| level == "ok"))
    })?;
    let said = ask()?;
    let report: Value = serde_json::from_str(&said.out)?;
    for check in ["configuration", "dns", "cloud port", "certificate", "database", "ports"] {
        assert_eq!(finding(&report, check)?.0, "ok", "{check}: {report}");
    }
    // the rig has no container runtime
    let (level, found) = finding(&report, "container runtime")?;
    assert!(level == "error" && found.contains("containerd.sock"), "{found}");
    assert_eq!(said.code, 1);
    Ok(())
}

#[test]
fn a_machine_that_is_no_node_is_told_to_join() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = edgectl(&folder.path().join("run"), &["doctor", "--config"])?;
    let said = Said::of(command.arg(folder.path().join("edgecore.yaml")).output()?)?;
    assert_eq!(said.code, 1);
    assert!(said.out.contains("edgectl join"), "{}", said.out);
    assert!(said.out.contains("agent: it does not run"), "{}", said.out);
    Ok(())
}
