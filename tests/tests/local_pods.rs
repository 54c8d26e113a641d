//! Pods as the operator of a node sees and enters them on the node itself: listed, their logs read,
//! commands run in them, with the cloud away.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::operator::{Said, edgectl};
use edgecore_tests::rig::pods::{LONG, Node, pod, sleeper};
use edgecore_tests::rig::{Rig, Setup, wait_until};
use ipc_proto::Module;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};

/// Bytes through a pipe each way, where the environment names no other number.
const BULK: u64 = 64 << 20;

/// The first life ends with 3; the second says more and waits for a file.
const SPEAKER: &str = "echo one; echo two; \
    if [ ! -e /d/again ]; then touch /d/again; exit 3; fi; \
    echo three; while true; do if [ -e /d/go ]; then cat /d/go; rm /d/go; fi; sleep 0.05; done";

fn speaker() -> Value {
    pod(
        "speaker",
        json!({
            "volumes": [{"name": "d", "emptyDir": {}}],
            "containers": [
                {"name": "c", "command": ["sh", "-c", SPEAKER],
                 "volumeMounts": [{"name": "d", "mountPath": "/d"}]},
                {"name": "idle", "command": ["sleep", "1000000"]},
            ],
        }),
    )
}

fn command(rig: &Rig, arguments: &[&str]) -> Result<Command> {
    edgectl(&rig.runtime_dir(), arguments)
}

/// Returns the words of a pod's row.
fn row(rig: &Rig, pod: &str) -> Result<Vec<String>> {
    let table = rig.edgectl(&["pods"])?;
    ensure!(table.code == 0, "{}", table.err);
    let row = table.out.lines().find(|line| line.split_whitespace().nth(1) == Some(pod));
    let row = row.with_context(|| format!("{pod} is not listed: {}", table.out))?;
    Ok(row.split_whitespace().map(ToOwned::to_owned).collect())
}

/// Leaves out what a patch takes away: the cluster's own types have no room for it.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[test]
fn pods_are_listed_read_and_entered_while_the_cloud_is_away() -> Result<()> {
    let Some(node) = Node::start()? else { return Ok(()) };
    node.apply(speaker())?;
    let told = node.wait_pod("speaker", "runs again", |status| {
        let all = status["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
        all.len() == 2
            && all.iter().all(|it| it["ready"] == true)
            && all.iter().any(|it| it["restartCount"] == 1)
    })?;
    // Dropped in the order that they are to end in.
    let Node { containerd: _containerd, cri: _cri, rig, cloud } = node;
    drop(cloud);

    let [ip, version] = [&told["podIP"], &told["phase"]].map(|it| it.as_str().unwrap_or_default());
    let row = row(&rig, "speaker")?;
    assert_eq!(row[..5], ["default", "speaker", "2/2", version, "1"]);
    assert_eq!(row.last().map(String::as_str), Some(ip));
    let list = rig.edgectl(&["pods", "-n", "default", "-o", "json"])?.json()?;
    let shown = &list["items"][0]["status"];
    for key in ["phase", "containerStatuses", "podIP", "startTime"] {
        assert_eq!(shown[key], without_nulls(&told[key]), "{key}");
    }
    assert_eq!(rig.edgectl(&["pods", "-n", "other"])?.out, "no pods\n");

    logs(&rig)?;
    commands(&rig)?;
    a_cut_is_no_end(&rig)
}

/// What is under way when edged dies ends with a sentence, and all is there again.
fn a_cut_is_no_end(rig: &Rig) -> Result<()> {
    let mut open = Vec::new();
    for arguments in [
        &["logs-pod", "-f", "speaker", "-c", "c"][..],
        &["exec", "speaker", "-c", "idle", "--", "sh", "-c", "echo begun; sleep 1000"],
    ] {
        let mut child =
            command(rig, arguments)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // It has begun when something comes.
        child.stdout.as_mut().context("it was piped")?.read_exact(&mut [0])?;
        open.push(child);
    }
    let old = rig.pid_of(Module::Edged)?;
    rig.signal(Module::Edged, Signal::KILL)?;
    for child in open {
        let said = Said::of(child.wait_with_output()?)?;
        assert_eq!(said.code, 1, "{}", said.err);
        ensure!(said.err.contains("broke off"), "{}", said.err);
    }
    rig.wait_until_back(Module::Edged, old)?;
    wait_until("the pods are listed again", LONG, || {
        row(rig, "speaker").is_ok_and(|row| row[2..4] == ["2/2", "Running"])
    })
}

#[test]
fn pods_run_while_another_process_has_the_apis_port_and_it_is_served_when_that_is_gone()
-> Result<()> {
    let mut other = None;
    let take = |setup: &mut Setup| other = TcpListener::bind(setup.api).ok();
    let Some(node) = Node::start_with(take)? else { return Ok(()) };
    let other = other.context("the port is not free")?;
    node.apply(sleeper("p"))?;
    node.wait_pod_ready("p")?;
    let said = node.rig.edgectl(&["pods"])?;
    assert_eq!(said.code, 1);
    let address = node.rig.setup().api.to_string();
    ensure!(said.err.contains(&address) && said.err.contains("in use"), "{}", said.err);
    drop(other);
    wait_until("the API is served", LONG, || row(&node.rig, "p").is_ok())
}

fn logs(rig: &Rig) -> Result<()> {
    // A container runs before it says anything.
    let tail = ["logs-pod", "speaker", "-c", "c", "--tail", "1"];
    wait_until("the last line is told", LONG, || {
        rig.edgectl(&tail).is_ok_and(|log| (log.code, log.out.as_str()) == (0, "three\n"))
    })?;
    let before = rig.edgectl(&["logs-pod", "speaker", "-p", "--timestamps"])?;
    ensure!(before.err.contains("'c'"), "it does not say which container: {}", before.err);
    let lines: Vec<_> = before.out.lines().collect();
    ensure!(lines.len() == 2 && lines[0].ends_with("Z one") && lines[1].ends_with("Z two"));
    let old = rig.edgectl(&["logs-pod", "speaker", "-c", "c", "--since", "30d"])?;
    assert_eq!(old.out, "one\ntwo\nthree\n");
    let none = rig.edgectl(&["logs-pod", "nobody"])?;
    assert_eq!(none.code, 1);
    ensure!(none.err.contains("there is no pod 'nobody'"), "{}", none.err);
    let none = rig.edgectl(&["logs-pod", "speaker", "-c", "nobody"])?;
    assert_eq!((none.code, none.out.as_str()), (1, ""));
    ensure!(none.err.contains("container \"nobody\" not found in pod \"speaker\""), "{}", none.err);

    let mut live = rig.edgectl_live(&["logs-pod", "-f", "speaker", "-c", "c", "--tail=1"])?;
    live.wait_line("the last line", |line| line == "three\n")?;
    let more = ["exec", "speaker", "-c", "c", "--", "sh", "-c", "echo four > /d/x; mv /d/x /d/go"];
    assert_eq!(rig.edgectl(&more)?, Said::done());
    live.wait_line("what is written now", |line| line == "four\n")?;
    Ok(())
}

fn commands(rig: &Rig) -> Result<()> {
    let inside = |script: &'static str| ["exec", "speaker", "-c", "idle", "--", "sh", "-c", script];
    let said = rig.edgectl(&inside("echo out; echo err >&2; exit 7"))?;
    let err = "err\nedgectl: command terminated with exit code 7\n";
    assert_eq!(said, Said { code: 7, out: "out\n".into(), err: err.into() });
    let odd = rig.edgectl(&["exec", "speaker", "-c", "idle", "--", "/nothing there", "a&b=c"])?;
    ensure!(odd.code != 0 && odd.err.contains("nothing there"), "{odd:?}");

    let bulk = std::env::var("EDGECORE_BULK_BYTES").ok().and_then(|it| it.parse().ok());
    let bulk: u64 = bulk.unwrap_or(BULK);
    let edged = rig.pid_of(Module::Edged)?;
    let mut cat = command(rig, &["exec", "-i", "speaker", "-c", "idle", "--", "cat"])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = cat.stdin.take().context("it was piped")?;
    let feeder = std::thread::spawn(move || -> std::io::Result<()> {
        let mut bytes = Bytes(0).take(bulk);
        std::io::copy(&mut bytes, &mut input).map(drop)
    });
    let mut output = cat.stdout.take().context("it was piped")?;
    let (mut part, mut expected) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let (mut same, mut count) = (Bytes(0), 0);
    loop {
        let read = output.read(&mut part)?;
        if read == 0 {
            break;
        }
        same.read_exact(&mut expected[..read])?;
        ensure!(part[..read] == expected[..read], "other bytes behind byte {count}");
        count += u64::try_from(read)?;
    }
    feeder.join().expect("it does not panic")?;
    assert_eq!((count, cat.wait()?.code()), (bulk, Some(0)));
    assert_eq!(rig.pid_of(Module::Edged)?, edged, "edged did not live through it");
    terminal(rig)
}

/// Bytes that are nowhere the same as 64 KiB before.
struct Bytes(u64);

impl std::io::Read for Bytes {
    fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
        for byte in &mut *space {
            *byte = (self.0 ^ (self.0 >> 8) ^ (self.0 >> 16)).to_le_bytes()[0];
            self.0 += 1;
        }
        Ok(space.len())
    }
}

/// A command with a terminal has its size, is told of another, and gets Ctrl-C.
fn terminal(rig: &Rig) -> Result<()> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    let size = |ws_row, ws_col| Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size(33, 77))?;
    let script = "trap 'stty size' WINCH; trap 'exit 9' INT; \
        until [ \"$(stty size)\" = '33 77' ]; do sleep 0.05; done; tty; stty size; \
        while true; do sleep 0.05; done";
    let ends = || slave.try_clone().map(Stdio::from);
    let arguments = ["exec", "-it", "speaker", "-c", "idle", "--", "sh", "-c", script];
    let mut shell =
        command(rig, &arguments)?.stdin(ends()?).stdout(ends()?).stderr(ends()?).spawn()?;
    let before = tcgetattr(&slave)?.local_modes;
    let mut terminal = File::from(master);
    let mut screen = String::new();
    let mut read_until = |terminal: &mut File, text: &str| -> Result<()> {
        let mut part = [0; 1024];
        while !screen.contains(text) {
            let count = terminal.read(&mut part)?;
            screen.push_str(&String::from_utf8_lossy(&part[..count]));
            ensure!(!screen.contains("terminated"), "it ended before {text:?}: {screen}");
        }
        Ok(())
    };
    read_until(&mut terminal, "33 77")?;
    ensure!(tcgetattr(&slave)?.local_modes != before, "keys do not pass");
    tcsetwinsize(&terminal, size(44, 88))?;
    // A terminal tells only its own foreground processes; this one is nobody's.
    kill_process(Pid::from_child(&shell), Signal::WINCH)?;
    read_until(&mut terminal, "44 88")?;
    terminal.write_all(b"\x03")?;
    let mut code = None;
    wait_until("Ctrl-C reaches the command", LONG, || {
        code = shell.try_wait().ok().flatten().and_then(|status| status.code());
        code.is_some()
    })?;
    assert_eq!(code, Some(9));
    assert_eq!(tcgetattr(&slave)?.local_modes, before, "the terminal is not as it was");
    Ok(())
}
