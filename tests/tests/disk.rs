//! No room on the disk: modules go on, die and come back as ever; only logs are lost.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use edgecore_tests::rig::hostile::{Hostile, ping};
use edgecore_tests::rig::privilege::root_or_skip;
use edgecore_tests::rig::{Rig, Setup};
use ipc_proto::Module;
use ipc_proto::lifeline::Fault;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;

const SEAT: Module = Module::Metaserver;

/// A file system of its own that is full soon.
struct TinyDisk(PathBuf);

impl TinyDisk {
    fn mount(at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        mount("tmpfs", at, "tmpfs", MountFlags::NOSUID, Some(c"size=256k,mode=0755"))
            .with_context(|| format!("cannot mount on {}", at.display()))?;
        Ok(Self(at.to_owned()))
    }

    /// Takes all the room that there is.
    fn fill(&self) -> Result<()> {
        let mut file = File::create(self.0.join("filler"))?;
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
        Ok(())
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        // a folder that cannot be unmounted is left to who finds it
        let _left = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Checks that the modules answer that the seat can ask.
fn assert_all_answer(rig: &Rig) -> Result<()> {
    for &module in SEAT.dials() {
        Hostile::welcomed(rig, SEAT, module)?.ask(&ping()).with_context(|| module.name())?;
    }
    Ok(())
}

#[test]
fn a_module_whose_files_cannot_grow_works_on() -> Result<()> {
    let rig = Setup::new()?.with_seat(SEAT).start()?;
    let before = rig.snapshot()?;
    for &module in SEAT.dials() {
        rig.fault(module, Fault::DiskFull)?;
    }
    assert_all_answer(&rig)?;
    before.still_holds_but_for(&rig, &[])
}

#[test]
fn with_a_full_runtime_folder_modules_still_die_and_come_back() -> Result<()> {
    if !root_or_skip()? {
        return Ok(());
    }
    let setup = Setup::new()?.with_seat(SEAT);
    let disk = TinyDisk::mount(&setup.runtime_dir())?;
    let mut rig = setup.start()?;
    // goes before the rig does, whose folder it is in
    let disk = disk;
    let before = rig.snapshot()?;
    disk.fill()?;
    for module in [Module::Metamanager, Module::Edged, Module::Edgemesh] {
        let old = before.pid_of(module).context("it runs")?;
        rig.signal(module, Signal::KILL)?;
        let exit = rig.wait_until_back(module, old)?.last_exit.context("it died")?;
        assert_eq!(exit.reason, "signal 9");
    }
    before.still_holds_but_for(&rig, &[Module::Metamanager, Module::Edged, Module::Edgemesh])?;
    assert_all_answer(&rig)?;
    assert_eq!(rig.edgectl(&["status"])?.code, 0);
    assert_eq!(rig.edgectl(&["reload"])?.code, 0);
    assert_all_answer(&rig)?;
    assert_eq!(rig.end(Signal::TERM)?.code(), Some(0), "{}", rig.log());
    Ok(())
}
