//! `edgectl status -w` at a terminal: graphs, another size, and the terminal as it was at the end.

use std::fs::File;
use std::io::Read as _;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::{Context, Result};
use edgecore_tests::rig::operator::edgectl;
use edgecore_tests::rig::{Rig, SOON, Setup, wait_for, wait_until};
use ipc_proto::Module;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

/// A live status at a terminal of its own.
struct Terminal {
    master: File,
    child: Child,
    parts: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(rig: &Rig, term: &str, size: (u16, u16)) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        resize(&master, size)?;
        let mut command = edgectl(&rig.runtime_dir(), &["status", "-w"])?;
        command.env("TERM", term).env("LANG", "C.UTF-8");
        let child = command.stdout(Stdio::from(slave)).stderr(Stdio::null()).spawn()?;
        let master = File::from(master);
        let (sender, parts) = sync_channel(1024);
        let mut reader = master.try_clone()?;
        thread::spawn(move || {
            let mut part = [0; 4096];
            // A terminal that nobody has open any more ends with an error.
            while let Ok(count @ 1..) = reader.read(&mut part) {
                if sender.send(part[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { master, child, parts, seen: String::new() })
    }

    /// Waits until the terminal was sent something, and returns all that it was sent before that.
    fn wait(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let (parts, seen) = (&self.parts, &mut self.seen);
        let found = wait_until(what, SOON, || {
            while let Ok(part) = parts.try_recv() {
                seen.push_str(&String::from_utf8_lossy(&part));
            }
            wanted(seen)
        });
        found.with_context(|| format!("the terminal was sent {:?}", self.seen))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for the end of the command and returns its exit code.
    fn end(&mut self) -> Result<Option<i32>> {
        let child = &mut self.child;
        let ended = wait_for("it ends", SOON, || child.try_wait().ok().flatten())?;
        Ok(ended.code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn resize(master: impl std::os::fd::AsFd, (ws_row, ws_col): (u16, u16)) -> Result<()> {
    Ok(tcsetwinsize(master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// The lines of the last whole picture.
fn picture(seen: &str) -> Vec<String> {
    let whole = seen.rsplit_once("\x1b[J").map_or("", |(whole, _)| whole);
    let last = whole.rsplit_once("\x1b[H").map_or("", |(_, last)| last);
    last.split("\r\n").map(ToOwned::to_owned).collect()
}

#[test]
fn a_terminal_has_graphs_in_its_size_and_is_as_it_was_after_ctrl_c() -> Result<()> {
    let rig = Setup::new()?.with(json!({"restart": {"stableAfter": "1ms"}})).start()?;
    for signal in [Signal::INT, Signal::TERM] {
        let mut terminal = Terminal::start(&rig, "xterm", (30, 100))?;
        terminal.wait("a graph grows", |seen| {
            let edged = picture(seen).into_iter().find(|line| line.starts_with("edged "));
            edged.is_some_and(|line| line.matches(['▇', '█']).count() >= 2)
        })?;
        assert!(terminal.seen.starts_with("\x1b[?1049h\x1b[?25l"), "{:?}", terminal.seen);
        // A terminal tells only its own foreground processes; this one is nobody's.
        resize(&terminal.master, (8, 100))?;
        terminal.signal(Signal::WINCH)?;
        terminal.wait("it fits into the new size", |seen| picture(seen).len() <= 8)?;
        let old = rig.pid_of(Module::Eventbus)?;
        resize(&terminal.master, (50, 160))?;
        rig.signal(Module::Eventbus, Signal::KILL)?;
        rig.wait_until_back(Module::Eventbus, old)?;
        terminal.wait("the restart is a mark", |seen| {
            let row = picture(seen).into_iter().find(|line| line.starts_with("eventbus "));
            row.is_some_and(|line| line.contains("\x1b[31m") && line.contains('█'))
        })?;
        terminal.signal(signal)?;
        assert_eq!(terminal.end()?, Some(0), "{signal:?}");
        terminal.wait("the terminal is given back", |seen| {
            seen.ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l")
        })?;
    }
    Ok(())
}

#[test]
fn a_live_view_outlasts_the_supervisor_and_goes_on_with_the_next() -> Result<()> {
    let mut rig = Setup::new()?.start()?;
    let mut terminal = Terminal::start(&rig, "xterm", (30, 100))?;
    terminal.wait("it is shown", |seen| seen.contains("edge1"))?;
    rig.end(Signal::TERM)?;
    terminal.wait("that it is gone is said", |seen| seen.contains("edgecore is not running"))?;
    rig.start_again()?;
    terminal.wait("it is shown again", |seen| {
        picture(seen).iter().any(|line| line.starts_with("edged "))
    })
}

#[test]
fn a_dumb_terminal_and_a_pipe_get_plain_lines() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let mut terminal = Terminal::start(&rig, "dumb", (30, 100))?;
    terminal.wait("it is told twice", |seen| seen.matches("Node: ").count() >= 2)?;
    assert!(!terminal.seen.contains('\x1b'), "{:?}", terminal.seen);
    let mut pipe = rig.edgectl_live(&["status", "-w"])?;
    pipe.wait_line("it is told", |line| line.starts_with("edged "))?;
    let first = pipe.seen().len();
    pipe.wait_line("it is told again", |line| line.starts_with("edged "))?;
    assert!(pipe.seen().len() > first, "{:?}", pipe.seen());
    assert!(!pipe.seen().iter().any(|line| line.contains('\x1b')), "{:?}", pipe.seen());
    Ok(())
}
