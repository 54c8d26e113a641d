//! mosquitto: a private broker of the test's own, and its two commands as clients.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::operator::{Live, Said};
use super::{SOON, wait_until};

/// Where Debian puts the broker, which is not in everybody's `PATH`.
const PROGRAM: &str = "/usr/sbin/mosquitto";

/// Returns a port of the loopback that is free at this moment.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A broker; it is killed when dropped. What it knows stays in its folder.
#[derive(Debug)]
pub struct Mosquitto {
    folder: PathBuf,
    /// What it saves.
    _saved: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Mosquitto {
    /// Starts a broker in `folder`, which has to be a new one. `more` is added to its settings.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(folder: &Path, more: &str) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let port = free_port()?;
        // In memory: it is the process that dies in tests, and not the machine.
        let saved = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir_in(folder))?;
        let settings = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n\
             persistence_location {}/\nmax_queued_messages 0\nuser root\nlog_type error\n{more}\n",
            saved.path().display()
        );
        fs::write(folder.join("mosquitto.conf"), settings)?;
        let mut broker = Self { folder: folder.to_owned(), _saved: saved, port, process: None };
        broker.start_again()?;
        Ok(broker)
    }

    /// Returns the port that it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Starts it on the same port and folder, the former one having ended.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(self.folder.join("mosquitto.conf")).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().with_context(|| format!("cannot run {PROGRAM}"))?);
        let port = self.port;
        wait_until("mosquitto listens", SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// Ends it as an operator does: it writes down what it knows.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(&mut self) -> Result<()> {
        self.end_by(Signal::TERM)
    }

    /// Ends it with SIGKILL: what it has not saved is lost.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        self.end_by(Signal::KILL)
    }

    fn end_by(&mut self, signal: Signal) -> Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        // One that has just begun to listen can pass over a SIGTERM.
        wait_until("mosquitto has ended", SOON, || {
            super::process::signal(process.id(), signal).is_ok()
                && matches!(process.try_wait(), Ok(Some(_)))
        })?;
        self.process = None;
        Ok(())
    }

    /// Returns its process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// Publishes one message with `mosquitto_pub` and waits until the broker has it.
///
/// # Errors
/// When the broker does not take it.
pub fn publish(port: u16, topic: &str, payload: &str, more: &[&str]) -> Result<()> {
    let said = try_publish(port, topic, payload, more)?;
    ensure!(said.code == 0, "mosquitto_pub ended with {}: {}", said.code, said.err);
    Ok(())
}

/// Publishes one message with `mosquitto_pub`, and tells what that left behind.
///
/// # Errors
/// When it cannot be run.
pub fn try_publish(port: u16, topic: &str, payload: &str, more: &[&str]) -> Result<Said> {
    let mut command = Command::new("mosquitto_pub");
    command
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
        .args(["-q", "1", "-t", topic, "-m", payload])
        .args(more);
    Said::of(command.output().context("cannot run mosquitto_pub")?)
}

/// Subscribes with `mosquitto_sub`: a line for each message, its topic and its body.
///
/// # Errors
/// When it cannot be run, or the broker refuses.
pub fn subscribe(port: u16, topic: &str, more: &[&str]) -> Result<Live> {
    // Into a pipe it would keep what it says for later.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &port.to_string()]);
    command.args(["-d", "-q", "1", "-t", topic, "-F", "got %t %p"]).args(more);
    let mut live = Live::start(command)?;
    live.wait_line("it has subscribed", |line| line.starts_with("Subscribed "))?;
    Ok(live)
}
