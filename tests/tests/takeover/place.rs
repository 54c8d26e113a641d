//! A node with a service of its own: an init script, a program in its place, and a database that the
//! Go edgecore made.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::operator::{Live, Said, edgectl};
use edgecore_tests::rig::pods::{LONG, Node, sleeper};
use edgecore_tests::rig::{SOON, Setup, control, process, wait_until};
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

/// What a Go edgecore of KubeEdge 1.23 had in its database.
const RECORDED: &str =
    include_str!("../../../modules/metamanager/tests/fixtures/kubeedge-1.23.sql");

/// Ends the agent and starts it, as an init script does: the program that the unit in force names,
/// where there are units. The command that called it is killed first, or the script itself in the
/// middle, where a test wants that.
const SCRIPT: &str = r#"#!/bin/sh
if [ -e HERE/kill ]; then rm HERE/kill; kill -9 $PPID; fi
if [ "$1" = restart ]; then
    pid=$(cat HERE/pid)
    kill "$pid"
    while [ -e "/proc/$pid/exe" ]; do sleep 0.02; done
fi
if [ -e HERE/kill-script ]; then rm HERE/kill-script; kill -9 $$; fi
program=HERE/bin/edgecore
if [ -e HERE/unit ]; then program=$(cat HERE/unit); fi
setsid "$program" --config HERE/edgecore.yaml --supervisor-config HERE/supervisor.yaml \
    --runtime-dir HERE/run >> HERE/agent.log 2>&1 < /dev/null &
echo $! > HERE/pid
"#;

/// Stands for systemd with two folders of units, KubeEdge's unit in the first and ours in the second.
/// A unit is a file with the program that it starts, and is in force from `daemon-reload` on.
const SYSTEMCTL: &str = r#"#!/bin/sh
file=HERE/etc/edgecore.service
[ -e "$file" ] || file=HERE/usr/edgecore.service
case "$*" in
"show edgecore.service --property=FragmentPath,ExecStart,DropInPaths")
    program=$(cat HERE/unit)
    echo "ExecStart={ path=$program ; argv[]=$program ; ignore_errors=no ; pid=0 }"
    echo "FragmentPath=$file"
    echo "DropInPaths=";;
"show --property=UnitPath") echo "UnitPath=HERE/etc HERE/usr";;
daemon-reload) cp "$file" HERE/unit;;
"reset-failed edgecore.service") ;;
"restart edgecore.service") exec HERE/service restart;;
*) echo "unknown: $*" >&2; exit 1;;
esac
"#;

/// Answers questions as our program does, and does not run as an agent.
const BROKEN: &str = "#!/bin/sh
case $1 in config|survey|devices) exec PROGRAM \"$@\";; esac
exit 1
";

/// The node; the agent that the script started ends with it.
pub(crate) struct Place {
    pub(crate) node: Node,
    folder: PathBuf,
    has_units: bool,
}

/// A container: its identity, and when it was started.
pub(crate) type Run = (String, i64);

impl Place {
    /// Makes a node on which one pod runs and, by now, the other agent. It is kept by an init script.
    pub(crate) fn with_pod() -> Result<Option<Self>> {
        Self::new(false)
    }

    /// As [`Place::with_pod`], on a host with units.
    pub(crate) fn with_units() -> Result<Option<Self>> {
        Self::new(true)
    }

    fn new(has_units: bool) -> Result<Option<Self>> {
        let Some(mut node) = Node::start_with(record)? else { return Ok(None) };
        node.apply(sleeper("p"))?;
        node.wait_pod_ready("p")?;
        node.rig.end(Signal::TERM)?;
        let folder = node.rig.setup().folder.path().to_owned();
        let place = Self { node, folder, has_units };
        place.as_go_leaves_it()?;
        fs::create_dir(place.folder.join("bin"))?;
        fs::copy(env!("CARGO_BIN_EXE_kubeedge"), place.program())?;
        let here = place.folder.display().to_string();
        executable(&place.script(), &SCRIPT.replace("HERE", &here))?;
        if has_units {
            executable(&place.systemctl(), &SYSTEMCTL.replace("HERE", &here))?;
            let programs =
                [("etc", place.program()), ("usr", place.node.rig.setup().program.clone())];
            for (name, program) in programs {
                fs::create_dir(place.folder.join(name))?;
                fs::write(place.unit(name), program.to_string_lossy().as_bytes())?;
            }
            fs::copy(place.unit("etc"), place.folder.join("unit"))?;
        }
        place.boot()?;
        wait_until("the other agent runs", SOON, || place.runs().is_ok_and(|it| it == "kubeedge"))?;
        Ok(Some(place))
    }

    /// Everything is root's.
    fn as_go_leaves_it(&self) -> Result<()> {
        let own = rustix::process::geteuid().as_raw();
        let store = self.folder.join("store");
        for entry in fs::read_dir(&store)? {
            chown(entry?.path(), Some(own), Some(own))?;
        }
        Ok(chown(&store, Some(own), Some(own))?)
    }

    /// Returns what the service starts.
    pub(crate) fn program(&self) -> PathBuf {
        self.folder.join("bin/edgecore")
    }

    fn script(&self) -> PathBuf {
        self.folder.join("service")
    }

    fn systemctl(&self) -> PathBuf {
        self.folder.join("bin/systemctl")
    }

    /// Returns the unit in one of the folders of units.
    pub(crate) fn unit(&self, folder: &str) -> PathBuf {
        self.folder.join(folder).join("edgecore.service")
    }

    /// Returns the folder of journal and copies.
    pub(crate) fn backup(&self) -> PathBuf {
        self.folder.join("backup")
    }

    fn pid(&self) -> Result<u32> {
        Ok(fs::read_to_string(self.folder.join("pid"))?.trim().parse()?)
    }

    /// Ends the service at once: the agent, and a script that is about to start one.
    pub(crate) fn end(&self) -> Result<()> {
        let words = [self.script(), self.folder.join("edgecore.yaml")];
        let of_it = |line: &str| {
            let mut parts = line.split('\0').map(Path::new);
            parts.any(|part| words.iter().any(|word| word == part))
        };
        wait_until("nothing of the service is left", SOON, || {
            let left = processes(of_it);
            for pid in &left {
                // it may have ended meanwhile
                drop(process::signal(*pid, Signal::KILL));
            }
            left.is_empty()
        })
    }

    /// Does what a boot does: all of the service ends at once, and what it starts now is started.
    pub(crate) fn boot(&self) -> Result<()> {
        self.end()?;
        if self.has_units {
            ensure!(Command::new(self.systemctl()).arg("daemon-reload").status()?.success());
        }
        let status = Command::new(self.script()).arg("start").status()?;
        ensure!(status.success(), "the script ended with {status}");
        Ok(())
    }

    /// The next restart kills who asked for it.
    pub(crate) fn kill_in_restart(&self) -> Result<()> {
        Ok(fs::write(self.folder.join("kill"), "")?)
    }

    /// The next restart is killed when the old agent has ended and the new one was not started.
    pub(crate) fn kill_script(&self) -> Result<()> {
        Ok(fs::write(self.folder.join("kill-script"), "")?)
    }

    /// Tells which agent runs.
    ///
    /// # Errors
    /// When both do.
    pub(crate) fn runs(&self) -> Result<&'static str> {
        let ours = control::status(&self.node.rig.runtime_dir()).is_ok();
        let pid = self.pid()?;
        let line = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        let same = |name: &str| {
            let path = self.folder.join("bin").join(name);
            String::from_utf8_lossy(&line).contains(&*path.to_string_lossy())
        };
        let theirs = same("edgecore");
        ensure!(!(ours && theirs), "both agents run");
        Ok(match (ours, theirs) {
            (true, _) => "ours",
            (_, true) => "kubeedge",
            (false, false) => "nothing",
        })
    }

    /// Waits until an agent runs, which has to come by itself.
    pub(crate) fn wait_until_one_runs(&self, after: &str) -> Result<()> {
        wait_until(&format!("one agent runs after {after}"), LONG, || {
            self.runs().is_ok_and(|it| it != "nothing")
        })
    }

    /// Returns the containers that run.
    pub(crate) fn containers(&self) -> Result<Vec<Run>> {
        let mut found = Vec::new();
        for container in self.node.cri.running()? {
            let started = self.node.cri.container(&container.id)?.started_at;
            found.push((container.id, started));
        }
        Ok(found)
    }

    fn command(&self, program: Option<&Path>, words: &[&str]) -> Result<Command> {
        let mut command = edgectl(&self.node.rig.runtime_dir(), words)?;
        if let Some(program) = program {
            let shown: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            command = Command::new(program);
            command.args(shown);
        }
        command.arg("--backup").arg(self.backup());
        let path = std::env::var("PATH")?;
        command.env("PATH", format!("{}:{path}", self.folder.join("bin").display()));
        Ok(command)
    }

    fn takeover_command(&self, program: Option<&Path>) -> Result<Command> {
        let mut command = self.command(program, &["takeover"])?;
        command.arg("--config").arg(self.folder.join("edgecore.yaml"));
        command.arg("--supervisor-config").arg(self.folder.join("supervisor.yaml"));
        if self.has_units {
            command.args(["--service", "systemd"]);
        } else {
            command.arg("--service").arg(self.script()).arg("--program").arg(self.program());
        }
        Ok(command)
    }

    pub(crate) fn takeover(&self, more: &[&str]) -> Result<Said> {
        Said::of(self.takeover_command(None)?.args(more).output()?)
    }

    /// Takes over with another `edgectl` than the one that was built.
    pub(crate) fn takeover_with(&self, edgectl: &Path, more: &[&str]) -> Result<Said> {
        Said::of(self.takeover_command(Some(edgectl))?.args(more).output()?)
    }

    pub(crate) fn rollback(&self) -> Result<Said> {
        Said::of(self.command(None, &["rollback"])?.output()?)
    }

    /// Begins a takeover and kills it when it says that it is about to do this.
    pub(crate) fn kill_takeover_at(&self, point: &str) -> Result<()> {
        Self::kill_at(self.takeover_command(None)?, point)
    }

    /// The same of a rollback.
    pub(crate) fn kill_rollback_at(&self, point: &str) -> Result<()> {
        Self::kill_at(self.command(None, &["rollback"])?, point)
    }

    fn kill_at(command: Command, point: &str) -> Result<()> {
        let mut live = Live::start(command)?;
        live.wait_line(&format!("it says '{point}'"), |line| line.contains(point))?;
        live.child.kill()?;
        live.child.wait()?;
        Ok(())
    }

    /// Returns an `edgectl` beside a program that does not run as an agent.
    pub(crate) fn with_broken_program(&self) -> Result<PathBuf> {
        let folder = self.folder.join("broken");
        fs::create_dir(&folder)?;
        let program = &self.node.rig.setup().program;
        executable(
            &folder.join("edgecore"),
            &BROKEN.replace("PROGRAM", &program.display().to_string()),
        )?;
        let edgectl = folder.join("edgectl");
        fs::copy(program.with_file_name("edgectl"), &edgectl)?;
        Ok(edgectl)
    }

    /// Puts a pod into the database, as the Go edgecore does.
    pub(crate) fn store_pod(&self, pod: &Value) -> Result<()> {
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        let database = Connection::open(self.folder.join("store/edgecore.db"))?;
        let row = (format!("default/pod/{name}"), pod.to_string());
        database.execute("INSERT INTO meta VALUES (?1, 'pod', ?2)", row)?;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// Returns the processes with such a command line.
fn processes(wanted: impl Fn(&str) -> bool) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let line =
        |process: &fs::DirEntry| fs::read(process.path().join("cmdline")).unwrap_or_default();
    let of_it = all.filter(|process| wanted(&String::from_utf8_lossy(&line(process))));
    of_it.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
}

/// Returns the rights of a file.
pub(crate) fn mode(path: &Path) -> Result<u32> {
    let found = path.metadata().with_context(|| format!("no {}", path.display()))?;
    Ok(found.permissions().mode() & 0o777)
}

fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}

/// Gives the node the database that was recorded, without the pods of that node.
fn record(setup: &mut Setup) {
    let make = || -> Result<()> {
        let store = setup.folder.path().join("store");
        let path = store.join("edgecore.db");
        let database = Connection::open(&path)?;
        database.execute_batch(RECORDED)?;
        database.execute_batch(
            "DELETE FROM meta WHERE type IN ('pod', 'podpatch'); DELETE FROM meta_v2 WHERE \
             group_version_resource = '/v1, Resource=pods';",
        )?;
        drop(database);
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o666))?)
    };
    make().expect("the recorded database can be written");
}
