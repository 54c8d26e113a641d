//! Limits of a module's process: what the configuration says is what the kernel enforces.

use std::fs;

use anyhow::{Context, Result};
use edgecore_tests::rig::{Rig, Setup};
use ipc_proto::Module;
use serde_json::json;

const MODULE: Module = Module::Devicetwin;

/// Returns the soft limit of this name in `/proc/<pid>/limits`.
fn limit(rig: &Rig, name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{}/limits", rig.pid_of(MODULE)?))?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name)).context("no such limit")?;
    rest.split_whitespace().next().map(ToOwned::to_owned).context("no value")
}

#[test]
fn open_files_are_bounded() -> Result<()> {
    let rig = Setup::new()?.with(json!({"modules": {MODULE.name(): {"openFiles": 77}}})).start()?;
    assert_eq!(limit(&rig, "Max open files")?, "77");
    let said = rig.module(MODULE)?.confinement.context("it tells")?;
    assert_eq!(said.open_files, Some(77));
    Ok(())
}

#[test]
fn memory_is_bounded_by_a_control_group_or_by_the_address_space() -> Result<()> {
    let bound: u64 = 300 << 20;
    let patch = json!({"modules": {MODULE.name(): {"memoryMax": "300Mi"}}});
    let rig = Setup::new()?.with(patch).start()?;
    let status = rig.module(MODULE)?;
    assert_eq!(status.memory_max, Some(bound));
    match status.cgroup {
        Some(group) => {
            let file = format!("/sys/fs/cgroup/{}/memory.max", group.trim_start_matches('/'));
            assert_eq!(fs::read_to_string(&file)?.trim(), bound.to_string(), "{file}");
        }
        None => assert_eq!(limit(&rig, "Max address space")?, bound.to_string()),
    }
    Ok(())
}

#[test]
fn no_module_leaves_a_core_file() -> Result<()> {
    let rig = Setup::new()?.start()?;
    assert_eq!(limit(&rig, "Max core file size")?, "0");
    Ok(())
}
