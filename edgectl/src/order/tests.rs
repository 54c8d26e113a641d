//! Orders against a scripted supervisor.

use ipc_proto::control::{LastExit, Response};
use tempfile::tempdir;

use super::*;
use crate::testing::{Answer, status, supervisor};

fn arguments(modules: &[&str], timeout: u16) -> OrderArguments {
    OrderArguments {
        modules: modules.iter().map(ToString::to_string).collect(),
        no_wait: false,
        waiting: Waiting { timeout },
    }
}

fn done() -> Answer {
    Answer::proper(&Response::Done)
}

/// The state in which edged is so.
fn edged(state: ModuleState, pid: Option<u32>) -> Answer {
    let mut status = status();
    status.modules[1].state = state;
    status.modules[1].pid = pid;
    Answer::proper(&Response::Status(Box::new(status)))
}

#[test]
fn a_restart_waits_for_another_process() {
    let folder = tempdir().unwrap();
    let served = supervisor(
        folder.path(),
        [
            edged(ModuleState::Running, Some(21)),
            done(),
            edged(ModuleState::Running, Some(21)),
            edged(ModuleState::Starting, Some(22)),
            edged(ModuleState::Running, Some(22)),
        ],
    );
    restart(&arguments(&["edged"], 20), &Client::new(folder.path())).unwrap();
    let requests = served.join().unwrap();
    assert_eq!(requests[1], Request::Restart { modules: vec![Module::Edged] });
}

#[test]
fn all_means_every_module_that_is_wanted() {
    let folder = tempdir().unwrap();
    let served = supervisor(folder.path(), [edged(ModuleState::Running, Some(21)), done()]);
    let arguments = OrderArguments { no_wait: true, ..arguments(&["all"], 20) };
    stop(&arguments, &Client::new(folder.path())).unwrap();
    let modules = vec![Module::Edgehub, Module::Edged, Module::Eventbus];
    assert_eq!(served.join().unwrap()[1], Request::Stop { modules });
}

#[test]
fn a_restart_of_all_leaves_what_somebody_stopped() {
    let folder = tempdir().unwrap();
    let served = supervisor(folder.path(), [edged(ModuleState::Stopped, None), done()]);
    let arguments = OrderArguments { no_wait: true, ..arguments(&["all"], 20) };
    restart(&arguments, &Client::new(folder.path())).unwrap();
    let modules = vec![Module::Edgehub, Module::Eventbus];
    assert_eq!(served.join().unwrap()[1], Request::Restart { modules });
}

#[test]
fn what_is_not_reached_in_time_is_told_with_the_reason() {
    let exit =
        |reason: &str| LastExit { reason: reason.into(), at: 0, pid: 1, last_lines: Vec::new() };
    let mut status = status();
    status.modules[0].state = ModuleState::Starting;
    status.modules[1].state = ModuleState::Held;
    status.modules[1].last_exit = Some(exit("exit 1"));
    let missing: Vec<_> = status.modules[..2].iter().collect();
    assert_eq!(
        late(&missing, ModuleState::Running, 30).to_string(),
        "not running within 30 s: edgehub is starting, edged is held after exit 1; see 'edgectl \
         status edgehub edged'"
    );
}

#[test]
fn unknown_modules_are_refused_before_anybody_is_asked() {
    let folder = tempdir().unwrap();
    let failure = stop(&arguments(&["x", "y"], 20), &Client::new(folder.path())).unwrap_err();
    assert!(matches!(&failure, Failure::Usage(text) if text.contains("'x', 'y'")), "{failure}");
}

#[test]
fn a_reload_waits_until_it_is_counted() {
    let folder = tempdir().unwrap();
    let reloaded =
        |reloads| Answer::proper(&Response::Status(Box::new(Status { reloads, ..status() })));
    let served = supervisor(
        folder.path(),
        [reloaded(3), done(), reloaded(3), Answer::default(), reloaded(4)],
    );
    reload(&Waiting { timeout: 20 }, &Client::new(folder.path())).unwrap();
    assert_eq!(served.join().unwrap()[1], Request::Reload);
}
