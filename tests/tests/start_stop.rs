//! Starting and stopping: ten processes in order, and every way in which a start is refused.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::process::Output;

use anyhow::Result;
use edgecore_tests::rig::privilege::{is_root, root_or_skip};
use edgecore_tests::rig::{SOON, Setup, process, wait_until};
use ipc_proto::Module;
use ipc_proto::control::{AgentState, SOCKET_NAME};
use rustix::process::Signal;

/// Any user that is not root.
const ORDINARY: u32 = 12_345;

#[test]
fn ten_modules_run_as_processes_of_their_own_started_in_dial_order() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let status = rig.status()?;
    assert_eq!(status.node, "edge1");
    assert_eq!(status.pid, rig.supervisor_pid());
    assert_eq!(status.modules.iter().map(|m| m.name).collect::<Vec<_>>(), Module::ALL);
    let pids: Vec<u32> = status.modules.iter().filter_map(|module| module.pid).collect();
    let mut children = process::children(rig.supervisor_pid());
    children.sort_unstable();
    let mut sorted = pids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, children, "the modules are the supervisor's only children");
    let start = |module: Module| process::start_time(pids[module.index()]);
    for module in Module::ALL {
        for &dialled in module.dials() {
            assert!(start(dialled) <= start(module), "{module} dials {dialled}");
        }
    }
    for module in Module::ALL {
        assert_eq!(process::status_field(rig.pid_of(module)?, "Name")?, module.name());
    }
    Ok(())
}

#[test]
fn sigterm_ends_modules_in_reverse_order_and_then_the_supervisor() -> Result<()> {
    let mut rig = Setup::new()?.start()?;
    let before = rig.snapshot()?;
    let pid = |module| before.pid_of(module).expect("every module runs");
    // a frozen module holds up those that it dials, and waits itself for those that dial it
    let frozen = Module::Edged;
    process::signal(pid(frozen), Signal::STOP)?;
    process::signal(rig.supervisor_pid(), Signal::TERM)?;
    wait_until("those that dial it have ended", SOON, || {
        frozen.dialled_by().all(|module| !process::lives(pid(module)))
    })?;
    assert!(process::lives(pid(frozen)));
    assert!(frozen.dials().iter().all(|&module| process::lives(pid(module))));
    assert_eq!(rig.status()?.state, AgentState::Stopping);
    process::signal(pid(frozen), Signal::CONT)?;
    assert_eq!(rig.wait_until_ended()?.code(), Some(0), "{}", rig.log());
    assert!(Module::ALL.iter().all(|&module| !process::lives(pid(module))));
    Ok(())
}

#[test]
fn a_module_that_does_not_stop_in_time_is_killed() -> Result<()> {
    let mut rig = Setup::new()?.with(serde_json::json!({"stopTimeout": "300ms"})).start()?;
    let pid = rig.pid_of(Module::Eventbus)?;
    process::signal(pid, Signal::STOP)?;
    assert_eq!(rig.end(Signal::TERM)?.code(), Some(0), "{}", rig.log());
    assert!(!process::lives(pid));
    Ok(())
}

#[test]
fn sigint_ends_it_too() -> Result<()> {
    let mut rig = Setup::new()?.start()?;
    assert_eq!(rig.end(Signal::INT)?.code(), Some(0), "{}", rig.log());
    Ok(())
}

#[test]
fn a_second_supervisor_on_the_same_folder_is_refused() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let before = rig.snapshot()?;
    let output = rig.setup().command()?.output()?;
    assert_refused(&output, &rig.runtime_dir().display().to_string());
    before.still_holds_but_for(&rig, &[])
}

#[test]
fn a_stale_socket_is_replaced() -> Result<()> {
    let setup = Setup::new()?;
    fs::create_dir(setup.runtime_dir())?;
    for name in [SOCKET_NAME.to_owned(), Module::Edged.socket_name()] {
        drop(UnixListener::bind(setup.runtime_dir().join(name))?);
    }
    setup.start().map(drop)
}

#[test]
fn a_runtime_folder_that_is_no_folder_is_refused() -> Result<()> {
    let setup = Setup::new()?;
    fs::write(setup.runtime_dir(), "not a folder")?;
    let output = setup.command()?.output()?;
    assert_refused(&output, &setup.runtime_dir().display().to_string());
    assert_eq!(fs::read_to_string(setup.runtime_dir())?, "not a folder");
    Ok(())
}

#[test]
fn a_runtime_folder_of_somebody_else_is_refused() -> Result<()> {
    if !root_or_skip()? {
        return Ok(());
    }
    let setup = Setup::new()?;
    fs::create_dir(setup.runtime_dir())?;
    chown(setup.runtime_dir(), Some(ORDINARY), Some(ORDINARY))?;
    let output = setup.command()?.output()?;
    assert_refused(&output, &setup.runtime_dir().display().to_string());
    Ok(())
}

#[test]
fn it_runs_as_an_ordinary_user_and_says_what_is_not_in_force() -> Result<()> {
    let mut setup = Setup::new()?;
    if is_root() {
        setup = setup.with_own_program()?.as_user(ORDINARY)?;
    }
    let mut rig = setup.start()?;
    let user = process::status_field(rig.supervisor_pid(), "Uid")?;
    for module in Module::ALL {
        assert_eq!(process::status_field(rig.pid_of(module)?, "Uid")?, user, "{module}");
    }
    assert!(!rig.status()?.not_in_force.is_empty());
    assert_eq!(rig.end(Signal::TERM)?.code(), Some(0), "{}", rig.log());
    Ok(())
}

#[test]
fn a_module_started_by_hand_says_who_starts_it() -> Result<()> {
    let setup = Setup::new()?;
    let output = std::process::Command::new(&setup.program).arg("edged").output()?;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("edged") && said.contains("start edgecore"), "{said}");
    Ok(())
}

/// Checks for exit code 1 and one line that names the thing.
fn assert_refused(output: &Output, thing: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.contains(thing)), "{said}");
}
