//! What uses the node all the while: messages and reports by MQTT, an object of the cloud that a pod
//! reads, and commands in a container.

use std::fs;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::super::devices::ledger::Ledger;
use crate::rig::devices::{device, model, report_of_all};
use crate::rig::mqtt::Writer;
use crate::rig::pods::{Node, pod};
use crate::rig::spdy::OUTPUT;
use crate::rig::stream::Door;

/// Messages and reports a second; of five, one is a report.
const RATE: u64 = 50;

/// The time between two versions of the object.
const OBJECT: Duration = Duration::from_millis(700);

/// The pause between two commands.
const PAUSE: Duration = Duration::from_millis(300);

/// Who reads the object, and in whose container commands run.
const READER: &str = "reader";

/// Something that has to be so in the end.
type End = (&'static str, fn(&Load, &Node) -> bool);

pub(super) struct Load {
    begin: Instant,
    writer: Writer,
    ledger: Ledger,
    published: u64,
    messages: u64,
    /// The number that the device reported last.
    reported: u64,
    /// The object's newest version, and when it was made.
    object: (u64, Instant),
    /// Whether each command said what it should.
    greetings: Receiver<Result<bool>>,
    streams: u64,
    /// Commands that a blow ended.
    pub(super) cut: u64,
}

impl Load {
    /// Makes what is used. `port` is the broker's.
    pub(super) fn start(node: &Node, port: u16) -> Result<Self> {
        for object in [model(), device(), object(0), reader()] {
            node.apply(object)?;
        }
        node.wait_pod_ready(READER)?;
        let door = Door::of_cloud(&node.cloud);
        let (said, greetings) = sync_channel(1024);
        std::thread::Builder::new().name("greeter".into()).spawn(move || {
            // ends when nobody listens any more
            while said.send(greet(door, READER)).is_ok() {
                park_timeout(PAUSE);
            }
        })?;
        Ok(Self {
            begin: Instant::now(),
            writer: Writer::new(port, "whole"),
            ledger: Ledger::default(),
            published: 0,
            messages: 0,
            reported: 0,
            object: (0, Instant::now()),
            greetings,
            streams: 0,
            cut: 0,
        })
    }

    /// Does what is due.
    pub(super) fn work(&mut self, node: &Node) -> Result<()> {
        let due = u64::try_from(self.begin.elapsed().as_millis())? * RATE / 1000;
        while self.published < due {
            self.published += 1;
            self.publish(self.published);
        }
        self.writer.work();
        let (version, made) = self.object;
        if made.elapsed() >= OBJECT {
            self.object = (version + 1, Instant::now());
            node.apply(object(version + 1))?;
        }
        for greeting in self.greetings.try_iter() {
            let counter = if greeting? { &mut self.streams } else { &mut self.cut };
            *counter += 1;
        }
        self.ledger.look(&node.cloud)
    }

    fn publish(&mut self, number: u64) {
        if number.is_multiple_of(5) {
            self.reported = number;
            let topic = "$hw/events/device/default/sensor1/twin/update";
            self.writer.publish(topic, &report_of_all(number));
        } else {
            self.messages += 1;
            self.writer.publish("default/user/whole", &number.to_string());
        }
    }

    /// What has to be where it belongs when all is well again, in the order in which it is waited for.
    pub(super) const ENDS: [End; 3] = [
        ("every message is in the cloud", |load, _| {
            load.writer.is_idle() && load.ledger.count() >= load.messages
        }),
        ("the device's last report is in the cloud", |load, _| load.ledger.all_are(load.reported)),
        ("the pod reads the object's last version", |load, node| {
            read(node).is_some_and(|version| version == load.object.0.to_string())
        }),
    ];

    /// Lets no more become due than is by now.
    pub(super) fn rests(&mut self) {
        let behind = Duration::from_millis(self.published * 1000 / RATE);
        self.begin = Instant::now().checked_sub(behind).unwrap_or(self.begin);
        self.object.1 = Instant::now();
    }

    pub(super) fn evidence(&self, node: &Node) -> String {
        format!(
            "{} messages, {} arrived; {} acknowledged of {}; the device reported {}; the object is {}, the pod reads {:?}",
            self.messages,
            self.ledger.count(),
            self.writer.acknowledged(),
            self.published,
            self.reported,
            self.object.0,
            read(node),
        )
    }

    pub(super) const fn used(&self) -> [u64; 4] {
        [self.messages, self.ledger.reports, self.object.0, self.streams]
    }
}

/// Runs a command in a pod; tells whether all that it said came.
///
/// # Errors
/// When what came is not what it said.
pub(super) fn greet(door: Door, pod: &str) -> Result<bool> {
    let command = ["sh", "-c", "echo hello"];
    let Ok(session) = door.exec(pod, &command, OUTPUT) else { return Ok(false) };
    let Ok(outcome) = session.finish() else { return Ok(false) };
    let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
    ensure!("hello\n".starts_with(&said), "the command said {said:?}");
    Ok(said == "hello\n" && outcome.exit_code() == Some(0))
}

fn object(version: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "counter", "namespace": "default"},
        "data": {"version": version.to_string()}})
}

fn reader() -> Value {
    pod(
        READER,
        json!({
            "volumes": [{"name": "v", "configMap": {"name": "counter"}}],
            "containers": [{"name": "c", "command": ["sleep", "1000000"],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        }),
    )
}

/// Returns what the pod reads of the object.
fn read(node: &Node) -> Option<String> {
    let volume = node.folder(READER).ok()?.join("volumes/kubernetes.io~configmap/v/version");
    fs::read_to_string(volume).ok()
}
