//! What a module that was taken over would try, as a fault that is asked for: each attempt is made for
//! real and harms nothing where it is let through, and the log says what came of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::ptrace;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::{Pid, getppid};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

/// The file in the runtime folder that names further files and folders, one in a line.
const LIST: &str = "break-out";

/// The longest list, in bytes.
const MAX_LIST: u64 = 16 * 1024;

/// The number of no process: whoever may trace others hears that there is none.
const NOBODY: i32 = i32::MAX;

/// Tries everything, and writes to the log what came of each.
#[expect(clippy::print_stderr, reason = "standard error is the module's log, whatever its level")]
pub(crate) fn attempt(runtime_dir: &Path) {
    let say = |what: &str, result: io::Result<()>| match result {
        Ok(()) => eprintln!("break-out {what}: done"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            eprintln!("break-out {what}: refused ({error})");
        }
        Err(error) => eprintln!("break-out {what}: let through ({error})"),
    };
    say("exec", Command::new("/proc/self/exe").arg("--version").output().map(drop));
    say("trace", trace().map_err(Into::into));
    // The kernel lets nobody set this one, and says so only to those who come so far.
    let clock = clock_settime(ClockId::CLOCK_MONOTONIC, TimeSpec::new(0, 0));
    say("clock", clock.map_err(Into::into));
    say("mount", no_mount().map_err(Into::into));
    say("enter", enter());
    say("signal", nix::sys::signal::kill(getppid(), None).map_err(Into::into));
    say("memory", File::open(format!("/proc/{}/mem", getppid())).map(drop));
    let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP));
    say("raw socket", raw.map(drop).map_err(Into::into));
    let packets = socket(AddressFamily::PACKET, SocketType::RAW, None);
    say("packet socket", packets.map(drop).map_err(Into::into));
    for path in list(runtime_dir).lines() {
        say(&format!("read {path}"), read(Path::new(path)));
        say(&format!("write {path}"), write(Path::new(path)));
    }
    eprintln!("break-out is over");
}

fn trace() -> nix::Result<()> {
    ptrace::attach(Pid::from_raw(NOBODY))
}

/// Mounts what there is not.
fn no_mount() -> nix::Result<()> {
    mount(None::<&str>, "/", Some("break-out"), MsFlags::empty(), None::<&str>)
}

/// Enters a namespace that is none.
fn enter() -> io::Result<()> {
    let none = File::open("/dev/null")?;
    setns(none, CloneFlags::CLONE_NEWNET).map_err(|error: Errno| error.into())
}

fn list(runtime_dir: &Path) -> String {
    let mut text = String::new();
    let opened = File::open(runtime_dir.join(LIST));
    let read = opened.and_then(|file| file.take(MAX_LIST).read_to_string(&mut text));
    // Without a list there is nothing more to try.
    read.map(|_| text).unwrap_or_default()
}

fn read(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::read_dir(path).map(drop) } else { File::open(path).map(drop) }
}

/// Opens a file for writing and leaves it as it is, or makes one in a folder and takes it away.
fn write(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return OpenOptions::new().append(true).open(path).map(drop);
    }
    let new = path.join(format!("break-out-{}", std::process::id()));
    File::create_new(&new)?;
    fs::remove_file(new)
}
