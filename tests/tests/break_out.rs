//! Each module tries to break out of its confinement, and what it tries is refused; where a module's
//! work needs it, it is let through.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use edgecore_tests::rig::privilege::{had_or_skip, root_or_skip};
use edgecore_tests::rig::{Rig, SOON, Setup, wait_for};
use ipc_proto::Module;
use ipc_proto::lifeline::Fault;

/// Lets the modules find a list of paths to try.
fn list(rig: &Rig, paths: &[PathBuf]) -> Result<()> {
    let list: String = paths.iter().map(|path| format!("{}\n", path.display())).collect();
    let file = rig.runtime_dir().join("break-out");
    fs::write(&file, list)?;
    Ok(fs::set_permissions(file, Permissions::from_mode(0o644))?)
}

/// Tells whether this host has Landlock, without which less is refused.
fn is_fenced(rig: &Rig) -> Result<bool> {
    let confinement = rig.module(Module::Metamanager)?.confinement.context("it tells")?;
    had_or_skip(confinement.landlock_abi > 0, "Landlock")
}

/// Has a module try everything. Returns what was tried, and whether it was refused.
fn attempt(rig: &Rig, module: Module) -> Result<BTreeMap<String, bool>> {
    rig.fault(module, Fault::BreakOut)?;
    let log = || Some(rig.module_log(module)).filter(|log| log.contains("break-out is over"));
    let log = wait_for("it has tried", SOON, log).with_context(|| rig.module_log(module))?;
    let tried = log.lines().filter_map(|line| line.strip_prefix("break-out ")?.split_once(": "));
    Ok(tried.map(|(what, came)| (what.to_owned(), came.starts_with("refused"))).collect())
}

/// Checks what of the system a module can reach.
fn is_confined(module: Module, tried: &BTreeMap<String, bool>) -> Result<()> {
    let runs_programs = matches!(module, Module::Edged | Module::Taskmanager);
    let root = module.needs_root();
    let wanted = [
        ("exec", !runs_programs),
        ("trace", true),
        ("clock", true),
        ("mount", module != Module::Edged),
        ("enter", !root),
        ("raw socket", !root),
        ("packet socket", !root),
        // edged is what runs containers: Landlock would forbid it to mount
        ("memory", module != Module::Edged),
        ("signal", module != Module::Edged),
    ];
    for (what, refused) in wanted {
        let was = tried.get(what).with_context(|| format!("{module} did not try {what}"))?;
        ensure!(*was == refused, "{module}: {what} refused: {was}, expected {refused}: {tried:?}");
    }
    Ok(())
}

#[test]
fn what_a_module_that_was_taken_over_would_try_is_refused() -> Result<()> {
    if !root_or_skip()? {
        return Ok(());
    }
    let outside = tempfile::tempdir()?;
    fs::set_permissions(outside.path(), Permissions::from_mode(0o777))?;
    let rig = Setup::new()?.start()?;
    if !is_fenced(&rig)? {
        return Ok(());
    }
    list(&rig, &[outside.path().to_owned()])?;
    for module in Module::ALL {
        let confinement = rig.module(module)?.confinement.context("it tells")?;
        let tried = attempt(&rig, module)?;
        is_confined(module, &tried)?;
        let here = outside.path().display();
        for what in [format!("read {here}"), format!("write {here}")] {
            let locked_in = confinement.landlock_abi > 0;
            ensure!(tried.get(&what) == Some(&locked_in), "{module}: {what}: {tried:?}");
        }
    }
    ensure!(fs::read_dir(outside.path())?.next().is_none(), "nothing was left behind");
    Ok(())
}

#[test]
fn no_module_writes_what_is_another_s() -> Result<()> {
    if !root_or_skip()? {
        return Ok(());
    }
    let rig = Setup::new()?.start()?;
    let folder = rig.setup().folder.path();
    let store = folder.join("store/edgecore.db");
    let config = folder.join("edgecore.yaml");
    let log = rig.runtime_dir().join("log/metamanager.log");
    let paths = [store, config, log];
    list(&rig, &paths)?;
    if !is_fenced(&rig)? {
        return Ok(());
    }
    for module in Module::ALL.into_iter().filter(|module| *module != Module::Edged) {
        let tried = attempt(&rig, module)?;
        let refused =
            paths.each_ref().map(|path| tried.get(&format!("write {}", path.display())).copied());
        let wanted = if module == Module::Metamanager {
            [false, true, true]
        } else if module == Module::Taskmanager {
            // Node jobs change the configuration, and all else here is in the same folder.
            [true, false, false]
        } else {
            [true; 3]
        };
        ensure!(refused == wanted.map(Some), "{module}: {refused:?}: {tried:?}");
    }
    Ok(())
}
