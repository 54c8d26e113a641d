//! A machine that is made of namespaces: a Debian in a folder, booted by its own systemd, with processes,
//! mounts, network and control groups of its own.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use private_containerd::{group, remove_groups};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::place::Place;
use super::until;

/// Goes into control groups of its own, of either version, and makes the namespaces.
const OUTSIDE: &str = r#"for tree in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -e "$tree/cgroup.procs" ] || continue
    mkdir -p "$tree$2"
    for file in cpuset.cpus cpuset.mems; do
        if [ -e "$tree/notify_on_release" ] && [ -e "$tree/$file" ]; then
            cat "$tree/$file" >"$tree$2/$file"; echo 1 >"$tree$2/cgroup.clone_children"
        fi
    done
    echo $$ >"$tree$2/cgroup.procs"
done
exec unshare --mount --propagation private --pid --uts --ipc --net --cgroup --fork --kill-child \
    sh -euc "$0" "$1""#;

/// Mounts what a machine has, makes the folder its root, and becomes systemd.
const INSIDE: &str = r#"cd "$0"; mount --bind . .; cd "$0"
mount -t proc proc proc; mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    mount -t cgroup2 cgroup sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    for tree in /sys/fs/cgroup/*; do
        if [ ! -d "$tree" ] || [ -L "$tree" ] || [ ! -e "$tree/cgroup.procs" ]; then continue; fi
        name="${tree##*/}"; mkdir "sys/fs/cgroup/$name"
        case "$name" in
            unified) mount -t cgroup2 cgroup sys/fs/cgroup/unified ;;
            systemd) mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd ;;
            *) mount -t cgroup -o "$name" cgroup "sys/fs/cgroup/$name" ;;
        esac
    done
fi
mkdir -p .before; pivot_root . .before; cd /; umount -l .before; rmdir .before
mount --make-rshared /
exec env -i container=trial PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --show-status=false --log-target=console"#;

/// A running machine. Its power is cut when it is dropped: every process is gone at once.
pub(super) struct Machine {
    folder: PathBuf,
    /// Its processes' father; systemd is the only child.
    outside: Child,
    systemd: String,
}

impl Machine {
    /// Boots the Debian of a folder, and waits until systemd has started all that it should.
    pub(super) fn boot(folder: &Path) -> Result<Self> {
        let console = folder.with_extension("console");
        let log = File::create(&console)?;
        let mut command = Command::new("sh");
        command.args(["-euc", OUTSIDE, INSIDE]).arg(folder).arg(group(folder));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let outside = command.spawn().context("cannot run sh")?;
        let mut machine = Self { folder: folder.to_owned(), outside, systemd: String::new() };
        let booted = until("the machine has booted", || {
            machine.has_ended() || machine.look().is_some_and(|state| state != "starting")
        });
        let state = machine.look().unwrap_or_else(|| "has ended".to_owned());
        if booted.is_err() || state != "running" {
            let said = fs::read_to_string(&console).unwrap_or_default();
            let failed = machine.run(&["systemctl", "--failed", "--no-legend"]).unwrap_or_default();
            bail!("the machine is '{state}', expected 'running'; failed: {failed}\n{said}");
        }
        Ok(machine)
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.outside.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// Asks systemd how far it is; nothing while it cannot be asked.
    fn look(&mut self) -> Option<String> {
        let father = self.outside.id();
        let children = format!("/proc/{father}/task/{father}/children");
        self.systemd = fs::read_to_string(children).ok()?.trim().to_owned();
        let name = fs::read_to_string(format!("/proc/{}/comm", self.systemd)).ok()?;
        if name.trim() != "systemd" {
            return None;
        }
        let output = self.command(&["systemctl", "is-system-running"]).output().ok()?;
        let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let known = ["initializing", "starting", "running", "degraded", "maintenance"];
        known.contains(&state.as_str()).then(|| state.replace("initializing", "starting"))
    }

    /// Moves the calling thread, and whatever that starts from then on, into the machine's network.
    pub(super) fn enter_network(&self) -> Result<()> {
        let space = File::open(format!("/proc/{}/ns/net", self.systemd))?;
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }
}

impl Place for Machine {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.systemd, "--mount", "--pid", "--uts", "--ipc", "--net"]);
        command.args(["--cgroup", "--root", "--wd"]).args(words).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.outside.kill().ok();
        self.outside.wait().ok();
        // its processes have been killed, and take a moment to be gone
        until("its control groups are gone", || remove_groups(&self.folder).is_ok()).ok();
    }
}
