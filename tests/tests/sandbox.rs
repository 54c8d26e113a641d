//! What a module could still do if it were taken over, seen from outside in /proc, and that the
//! status says the same.

use anyhow::{Context, Result};
use edgecore_tests::rig::privilege::root_or_skip;
use edgecore_tests::rig::{Rig, Setup, process};
use ipc_proto::Module;
use serde_json::json;

/// Any user that is not root.
const USER: u32 = 12_345;

fn field(rig: &Rig, module: Module, name: &str) -> Result<String> {
    process::status_field(rig.pid_of(module)?, name)
}

/// Returns the real, effective, saved and file system ids.
fn ids(rig: &Rig, module: Module, name: &str) -> Result<Vec<u32>> {
    let text = field(rig, module, name)?;
    text.split_whitespace().map(|id| id.parse().context("an id is a number")).collect()
}

#[test]
fn modules_run_as_their_user_and_only_two_keep_root() -> Result<()> {
    if !root_or_skip()? {
        return Ok(());
    }
    let rig = Setup::new()?.with(json!({"user": USER})).start()?;
    for module in Module::ALL {
        let expected = if module.needs_root() || module.owns_files() { 0 } else { USER };
        assert_eq!(ids(&rig, module, "Uid")?, [expected; 4], "{module}");
        assert_eq!(ids(&rig, module, "Gid")?, [expected; 4], "{module}");
        if expected == USER {
            assert_eq!(field(&rig, module, "Groups")?, "", "{module}");
        }
    }
    Ok(())
}

#[test]
fn a_module_without_root_has_no_capability_and_gets_none() -> Result<()> {
    if !root_or_skip()? {
        return Ok(());
    }
    let rig = Setup::new()?.start()?;
    for module in Module::ALL.into_iter().filter(|module| !module.needs_root()) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(&rig, module, set)?, "0000000000000000", "{module} {set}");
        }
    }
    Ok(())
}

#[test]
fn no_module_gains_privileges_and_system_calls_are_filtered() -> Result<()> {
    let rig = Setup::new()?.start()?;
    for module in Module::ALL.into_iter().filter(|module| !module.needs_root()) {
        assert_eq!(field(&rig, module, "NoNewPrivs")?, "1", "{module}");
        // 2: a filter is installed, without which mount and exec would be possible
        assert_eq!(field(&rig, module, "Seccomp")?, "2", "{module}");
    }
    Ok(())
}

#[test]
fn the_status_says_what_is_in_force() -> Result<()> {
    let rig = Setup::new()?.start()?;
    for module in rig.status()?.modules {
        let name = module.name;
        let said = module.confinement.with_context(|| format!("{name} tells nothing"))?;
        assert_eq!(ids(&rig, name, "Uid")?, [said.uid; 4], "{name}");
        let effective = u64::from_str_radix(&field(&rig, name, "CapEff")?, 16)?;
        assert_eq!(said.capabilities, effective, "{name}");
        assert_eq!(said.no_new_privileges, field(&rig, name, "NoNewPrivs")? == "1", "{name}");
        assert_eq!(said.seccomp, field(&rig, name, "Seccomp")? == "2", "{name}");
    }
    let table = rig.edgectl(&["sandbox"])?;
    assert_eq!(table.code, 0, "{table:?}");
    for module in Module::ALL {
        assert!(table.out.contains(module.name()), "{}", table.out);
    }
    Ok(())
}

#[test]
fn what_was_switched_off_is_off_and_said_so() -> Result<()> {
    let off = json!({"modules": {"eventbus": {"seccomp": false, "landlock": false}}});
    let rig = Setup::new()?.with(off).start()?;
    assert_eq!(field(&rig, Module::Eventbus, "Seccomp")?, "0");
    let said = rig.module(Module::Eventbus)?.confinement.context("it tells")?;
    assert!(!said.seccomp && said.landlock_abi == 0, "{said:?}");
    assert_eq!(field(&rig, Module::Devicetwin, "Seccomp")?, "2");
    Ok(())
}

#[test]
fn a_module_holds_its_own_descriptors_only() -> Result<()> {
    let rig = Setup::new()?.start()?;
    for module in Module::ALL {
        let open = process::descriptors(rig.pid_of(module)?)?;
        let log = format!("/log/{module}.log");
        let own = |file: &&String| {
            let store = module == Module::Metamanager && file.contains("/store/edgecore.db")
                || module == Module::Eventbus && file.ends_with("/store/mqtt/journal");
            store || file.ends_with(&log) || *file == "/dev/null"
        };
        let files: Vec<_> = open.iter().filter(|target| target.starts_with('/')).collect();
        assert!(files.iter().all(own), "{module}: {files:?}");
    }
    Ok(())
}
