//! A mapper in a process of its own, which can be killed: it reports each number that it is given on
//! standard input, and says on standard output what was taken and what it is to set.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::rig::bus::Place;
use crate::rig::devices::PROPERTIES;
use crate::rig::mapper::Mapper;
use crate::rig::operator::Live;
use crate::rig::process;

/// Its protocol, which is that of the recorded device.
const PROTOCOL: &str = "modbus";

/// How often it looks at what it is told.
const LOOK: Duration = Duration::from_millis(10);

/// Plays the mapper until standard input ends.
///
/// # Errors
/// When it cannot listen.
#[expect(clippy::print_stdout, reason = "its parent reads it")]
pub fn play(socket: &Path, edge: &Path, device: &str) -> Result<()> {
    let mapper = Mapper::start(socket, edge)?;
    let known = loop {
        if let Ok(known) = mapper.register("chaos", PROTOCOL, true) {
            break known;
        }
    };
    known["deviceList"].as_array().into_iter().flatten().for_each(say_wanted);
    let (sender, numbers) = sync_channel(1);
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    loop {
        match numbers.recv_timeout(LOOK) {
            Ok(number) => {
                let report = report(device, &number);
                while mapper.insist("ReportDeviceStatus", &report).is_err() {}
                println!("reported {number}");
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Some((_, request)) = mapper.look() {
            say_wanted(&request["device"]);
        }
    }
}

/// Says what the first property of a device is to be.
#[expect(clippy::print_stdout, reason = "its parent reads it")]
fn say_wanted(device: &Value) {
    let property = &device["spec"]["properties"][0]["desired"]["value"];
    if let (Some(name), Some(value)) = (device["name"].as_str(), property.as_str()) {
        println!("wanted {name} {value}");
    }
}

fn report(device: &str, number: &str) -> Value {
    let twin = |name: &str| json!({"propertyName": name, "reported": {"value": number}});
    json!({"deviceName": device, "deviceNamespace": "default",
        "reportedDevice": {"twins": PROPERTIES.map(twin)}})
}

/// The mapper's process, as its parent sees it.
#[derive(Debug)]
pub(super) struct Process {
    live: Live,
    /// How many numbers the node has taken.
    pub(super) taken: u64,
    /// What the first property of a device is to be.
    pub(super) wanted: String,
}

impl Process {
    /// Starts `program` in the role of the mapper.
    pub(super) fn start(program: &Path, place: &Place, device: &str) -> Result<Self> {
        let live = Self::run(program, place, device)?;
        Ok(Self { live, taken: 0, wanted: String::new() })
    }

    /// Starts it again; what it was told is forgotten.
    pub(super) fn start_again(
        &mut self,
        program: &Path,
        place: &Place,
        device: &str,
    ) -> Result<()> {
        self.live = Self::run(program, place, device)?;
        self.wanted.clear();
        Ok(())
    }

    fn run(program: &Path, place: &Place, device: &str) -> Result<Live> {
        let folder = place.rig.setup().folder.path();
        let mut command = Command::new(program);
        command.args(["play", "mapper"]).arg(folder.join("mapper.sock"));
        command.arg(folder.join("dmi/dmi.sock")).arg(device).stdin(Stdio::piped());
        Live::start(command)
    }

    /// Gives it a number to report.
    pub(super) fn give(&mut self, number: u64) -> Result<()> {
        let input = self.live.child.stdin.as_mut().context("its input was piped")?;
        writeln!(input, "{number}").context("the mapper has ended")
    }

    /// Reads what it said; `device` is the one whose wanted value counts.
    pub(super) fn look(&mut self, device: &str) {
        while let Some(line) = self.live.look(|_| true) {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["reported", _] => self.taken += 1,
                ["wanted", name, value] if name == device => value.clone_into(&mut self.wanted),
                _ => {}
            }
        }
    }

    /// Kills it with SIGKILL.
    pub(super) fn kill(&mut self) -> Result<()> {
        process::signal(self.live.child.id(), Signal::KILL)?;
        self.live.child.wait()?;
        Ok(())
    }
}
