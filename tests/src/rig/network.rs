//! Networks of a test's own: namespaces with links between them, which go with the test.

use std::fs::{File, read_link};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{SOON, wait_until};

/// A network namespace, with its loopback up.
#[derive(Debug)]
pub struct Network {
    /// A process that does nothing but be there.
    holder: Child,
}

impl Network {
    /// Makes one; the caller has to be root.
    ///
    /// # Errors
    /// When the kernel or a program refuses.
    pub fn new() -> Result<Self> {
        let own = read_link("/proc/thread-self/ns/net")?;
        let mut command = Command::new("unshare");
        let holder = command.args(["--net", "sleep", "900"]).spawn();
        let network = Self { holder: holder.context("cannot run unshare")? };
        wait_until("there is a network", SOON, || {
            read_link(network.path()).is_ok_and(|path| path != own)
        })?;
        network.does("ip link set lo up")?;
        Ok(network)
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// Moves the calling thread into it, and whatever that starts from then on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        let space = File::open(self.path()).context("the network is gone")?;
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Does something in it on a thread of its own and waits until that is done. Sockets made there
    /// stay in it.
    ///
    /// # Errors
    /// When the work does, or panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread.join().map_err(|_| anyhow::anyhow!("the work in a network has panicked"))?
        })
    }

    /// Runs a program in it and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn does(&self, command: &str) -> Result<String> {
        let path = format!("--net={}", self.path().display());
        let output = Command::new("nsenter").arg(path).args(command.split(' ')).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Lays a link to another network, named `here` in this one and `eth0` in that, and brings both
    /// ends up.
    ///
    /// # Errors
    /// When the kernel or a program refuses.
    pub fn link(&self, here: &str, other: &Self) -> Result<()> {
        let other_pid = other.holder.id();
        self.does(&format!("ip link add {here} type veth peer name eth0 netns {other_pid}"))?;
        self.does(&format!("ip link set {here} up"))?;
        other.does("ip link set eth0 up").map(drop)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // what is gone already is as good
        self.holder.kill().and_then(|()| self.holder.wait()).map(drop).unwrap_or_default();
    }
}
