//! A machine becomes a node by `edgectl join`, and is none any more after `edgectl reset`.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::operator::{Said, edgectl};
use edgecore_tests::rig::{SOON, Setup, wait_until};
use minicloud::Config;
use serde_json::Value;

/// A machine that is no node yet: folders and programs, and no `edgecore.yaml`.
struct Machine {
    setup: Setup,
}

/// A running agent; it is killed when dropped, and its modules with it.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Machine {
    fn new() -> Result<Self> {
        Ok(Self { setup: Setup::new()? })
    }

    fn config(&self) -> PathBuf {
        self.setup.folder.path().join("edgecore.yaml")
    }

    fn staged(&self) -> PathBuf {
        self.setup.folder.path().join(".edgecore.yaml.new")
    }

    /// Returns the arguments that keep everything of the node in the rig's folder.
    fn settings(&self) -> Vec<String> {
        let mut settings = Vec::new();
        flatten("modules", &self.setup.edgecore["modules"], &mut settings);
        flatten("database", &self.setup.edgecore["database"], &mut settings);
        settings
    }

    fn command(&self, words: &[&str]) -> Result<std::process::Command> {
        let mut command = edgectl(&self.setup.runtime_dir(), words)?;
        command.arg("--config").arg(self.config());
        Ok(command)
    }

    fn join(&self, hub: &str, https_port: u16, token: &str, more: &[&str]) -> Result<Child> {
        let port = https_port.to_string();
        let words = ["join", "--no-start", "--cloud", hub, "--cert-port", &port, "--token", token];
        let mut command = self.command(&words)?;
        command.args(["--node-name", NODE]).args(more);
        for setting in self.settings() {
            command.arg("--set").arg(setting);
        }
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    fn join_cloud(&self, cloud: &Cloud, token: &str, more: &[&str]) -> Result<Said> {
        let minicloud = cloud.minicloud();
        let hub = minicloud.hub().to_string();
        let child = self.join(&hub, minicloud.https().port(), token, more)?;
        Said::of(child.wait_with_output()?)
    }

    fn ask(&self, words: &[&str]) -> Result<Said> {
        Said::of(self.command(words)?.output()?)
    }

    /// Starts the agent on what join wrote.
    fn start(&self) -> Result<Agent> {
        let joined = fs::read(self.config())?;
        let mut command = self.setup.command()?;
        fs::write(self.config(), joined)?;
        let log = fs::File::create(self.setup.log())?;
        command.stdout(log.try_clone()?).stderr(log);
        Ok(Agent(command.spawn()?))
    }

    fn cloud_state(&self) -> Option<Value> {
        let said =
            edgectl(&self.setup.runtime_dir(), &["status", "-o", "json"]).ok()?.output().ok()?;
        serde_json::from_slice::<Value>(&said.stdout).ok().map(|mut it| it["cloud"]["state"].take())
    }

    fn wait_until_connected(&self) -> Result<()> {
        wait_until("the cloud hears the node", SOON, || {
            self.cloud_state().is_some_and(|state| state == "connected")
        })
    }
}

fn flatten(place: &str, value: &Value, settings: &mut Vec<String>) {
    let Value::Object(table) = value else {
        settings.push(format!("{place}={value}"));
        return;
    };
    for (key, value) in table {
        flatten(&format!("{place}.{key}"), value, settings);
    }
}

#[test]
fn a_machine_joins_with_a_token_and_is_no_node_after_a_reset() -> Result<()> {
    let cloud = Cloud::start_empty(Config::default())?;
    let machine = Machine::new()?;
    let said = machine.join_cloud(&cloud, &cloud.minicloud().token(), &["--label", "site=lab"])?;
    ensure!(said.code == 0, "{said:?}");
    let agent = machine.start()?;
    machine.wait_until_connected()?;

    let again = machine.join_cloud(&cloud, &cloud.minicloud().token(), &[])?;
    assert_eq!(again.code, 1);
    assert!(again.err.contains("runs on this machine already"), "{}", again.err);
    let running = machine.ask(&["reset", "--force"])?;
    assert!(running.err.contains("nothing was removed"), "{running:?}");
    assert!(machine.config().exists());

    drop(agent);
    let joined = machine.join_cloud(&cloud, &cloud.minicloud().token(), &[])?;
    assert!(joined.err.contains("server.crt already"), "{}", joined.err);
    let unasked = machine.ask(&["reset"])?;
    assert_eq!((unasked.code, machine.config().exists()), (2, true), "{unasked:?}");
    assert_eq!(machine.ask(&["reset", "--force"])?.code, 0);
    let folder = machine.setup.folder.path();
    let left = |name: &str| fs::read_dir(folder.join(name)).map_or(0, Iterator::count);
    assert_eq!((left("certs"), left("store"), machine.config().exists()), (0, 0, false));
    assert_eq!(machine.ask(&["reset", "--force"])?.code, 0, "twice is once");

    let said = machine.join_cloud(&cloud, &cloud.minicloud().token(), &[])?;
    ensure!(said.code == 0, "{said:?}");
    let _agent = machine.start()?;
    machine.wait_until_connected()
}

#[test]
fn a_token_that_is_none_or_of_another_cloud_changes_nothing() -> Result<()> {
    let cloud = Cloud::start_empty(Config::default())?;
    let machine = Machine::new()?;
    let other = format!("{}{}", "0a".repeat(32), &cloud.minicloud().token()[64..]);
    for (token, code, word) in [("abc", 2, "no token"), (&other, 1, "wrong CA")] {
        let said = machine.join_cloud(&cloud, token, &[])?;
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.err.contains(word), "{}", said.err);
        assert!(!said.err.contains(token), "a token is nothing to print: {}", said.err);
        assert!(!machine.config().exists() && !machine.staged().exists());
    }
    Ok(())
}

#[test]
fn a_cloud_that_is_not_there_is_said_and_can_be_passed_over() -> Result<()> {
    let machine = Machine::new()?;
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let token = format!("{}.a.b.c", "0a".repeat(32));
    let join = |more: &[&str]| -> Result<Said> {
        Said::of(machine.join("127.0.0.1", free, &token, more)?.wait_with_output()?)
    };
    let said = join(&[])?;
    assert_eq!((said.code, machine.config().exists()), (1, false));
    assert!(said.err.contains(&format!("127.0.0.1:{free}")), "{}", said.err);
    let said = join(&["--no-check"])?;
    assert_eq!((said.code, machine.config().exists()), (0, true), "{said:?}");
    Ok(())
}

#[test]
fn what_is_wrong_with_the_configuration_is_said_before_it_is_written() -> Result<()> {
    let machine = Machine::new()?;
    let token = format!("{}.a.b.c", "0a".repeat(32));
    for (setting, word) in [
        ("modules.edgeHub.heartbeat=0", "heartbeat is 0"),
        ("modules.edgeHub.heartbaet=3", "heartbaet is unknown"),
    ] {
        let child = machine.join("127.0.0.1", 1, &token, &["--no-check", "--set", setting])?;
        let said = Said::of(child.wait_with_output()?)?;
        assert_eq!((said.code, machine.config().exists()), (1, false), "{said:?}");
        assert!(said.err.contains(word), "{}", said.err);
    }
    fs::write(machine.config(), "# mine\n")?;
    let child = machine.join("127.0.0.1", 1, &token, &["--no-check"])?;
    assert_eq!(Said::of(child.wait_with_output()?)?.code, 1);
    assert_eq!(fs::read_to_string(machine.config())?, "# mine\n", "it is the operator's");
    Ok(())
}

#[test]
fn a_join_killed_while_it_asks_the_cloud_has_done_nothing_and_can_be_run_again() -> Result<()> {
    let machine = Machine::new()?;
    // it takes connections and says nothing
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let token = format!("{}.a.b.c", "0a".repeat(32));
    let mut join = machine.join("127.0.0.1", silent.local_addr()?.port(), &token, &[])?;
    let _asked = silent.accept()?;
    assert!(machine.staged().exists());
    join.kill()?;
    join.wait()?;
    assert!(!machine.config().exists());
    let cloud = Cloud::start_empty(Config::default())?;
    let said = machine.join_cloud(&cloud, &cloud.minicloud().token(), &[])?;
    ensure!(said.code == 0, "{said:?}");
    assert!(!machine.staged().exists());
    Ok(())
}

#[test]
fn a_join_killed_at_any_moment_leaves_a_whole_configuration_or_none() -> Result<()> {
    let machine = Machine::new()?;
    let token = format!("{}.a.b.c", "0a".repeat(32));
    let mut whole = None;
    for step in 0..40 {
        fs::remove_file(machine.config()).ok();
        let mut join = machine.join("127.0.0.1", 1, &token, &["--no-check"])?;
        std::thread::park_timeout(Duration::from_millis(step));
        join.kill().ok();
        join.wait()?;
        if machine.config().exists() {
            let text = fs::read_to_string(machine.config())?;
            assert_eq!(whole.get_or_insert_with(|| text.clone()), &text, "after {step} ms");
            assert_eq!(machine.ask(&["config", "check"])?.code, 0);
        }
    }
    Ok(())
}

#[test]
fn the_configuration_is_checked_shown_and_compared() -> Result<()> {
    let machine = Machine::new()?;
    let missing = machine.ask(&["config", "check"])?;
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("--minconfig"), "{}", missing.err);
    let token = format!("{}.a.b.c", "0a".repeat(32));
    let more = ["--no-check", "--set", "modules.edgeHub.heartbeat=7"];
    machine.join("10.0.0.9", 10_002, &token, &more)?.wait()?;
    assert_eq!(machine.ask(&["config", "check"])?.code, 0);
    assert_eq!(machine.ask(&["config", "show"])?.out, fs::read_to_string(machine.config())?);
    let effective = machine.ask(&["config", "show", "--effective"])?.out;
    assert!(effective.contains("    heartbeat: 7\n") && effective.contains("maxPods: 110\n"));
    // what is shown is a configuration itself, and comes to the same
    fs::write(machine.config(), &effective)?;
    assert_eq!(machine.ask(&["config", "show", "--effective"])?.out, effective);
    let differences = machine.ask(&["config", "diff-defaults", "-o", "json"])?.json()?;
    let keys: Vec<_> = differences.as_array().unwrap().iter().map(|it| &it["key"]).collect();
    assert!(keys.iter().any(|key| *key == "modules.edgeHub.heartbeat"), "{keys:?}");
    assert!(!keys.iter().any(|key| *key == "modules.eventBus.mqttMode"), "{keys:?}");
    let text = machine.ask(&["config", "diff-defaults"])?.out;
    assert!(text.contains("modules.edgeHub.heartbeat: 7   (default 15)\n"), "{text}");
    Ok(())
}
