//! Chaos among pods: edged is killed every second while pods come, change, crash and go. In the end
//! exactly what is wanted runs, nothing was restarted that had no reason, and nothing leaked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc_proto::Module;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Options;
use super::schedule::Dice;
use crate::rig::cri::Contained;
use crate::rig::pods::{LONG, Node, pod};
use crate::rig::{process, wait_for};

/// Between two kills.
const KILL: Duration = Duration::from_secs(1);

/// Between two changes of what is wanted.
const CHURN: Duration = Duration::from_millis(700);

/// The most often one container is made to crash: with each the pause before its restart doubles,
/// and the run is to end.
const CRASHES: u32 = 2;

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is left alone.
    Stays,
    /// Its labels change, which concerns no container.
    Changes,
    /// Its container is ended from outside.
    Crashes,
    /// It is deleted, and made again under its name.
    ComesAndGoes,
}

impl Fate {
    fn of(number: usize) -> Self {
        [Self::Stays, Self::Changes, Self::Crashes, Self::ComesAndGoes][number % 4]
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Pods that were to run in the end.
    pub pods: usize,
    /// How often edged was killed.
    pub kills: u32,
    /// Pods made, changed and deleted, and containers crashed.
    pub churn: [u32; 4],
    /// How long it took after the last kill until all was as wanted.
    pub settled: Duration,
    /// Promises that did not hold.
    pub breaches: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pods, kills, churn: [made, changed, deleted, crashed], .. } = self;
        writeln!(f, "edged was killed {kills} times among {pods} pods")?;
        writeln!(f, "pods: made {made}, changed {changed}, deleted {deleted}, crashed {crashed}")?;
        writeln!(f, "all as wanted {:.1} s after the last kill", self.settled.as_secs_f64())?;
        self.breaches.iter().try_for_each(|breach| writeln!(f, "BREACH: {breach}"))?;
        writeln!(f, "{}", if self.breaches.is_empty() { "every promise held" } else { "BROKEN" })
    }
}

/// Runs it with so many pods; nothing where the machine cannot run pods.
///
/// # Errors
/// When the rig cannot be set up, or does not come to rest.
pub fn run(options: Options, pods: usize) -> Result<Option<Summary>> {
    let Some(node) = Node::start()? else { return Ok(None) };
    let mut chaos = Chaos {
        node,
        dice: Dice(options.seed),
        crashes: BTreeMap::new(),
        first: BTreeMap::new(),
        generation: 0,
        summary: Summary { pods, ..Summary::default() },
    };
    for number in 0..pods {
        chaos.make(number)?;
    }
    chaos.wait_until_all_run(pods)?;
    chaos.first = chaos.running()?;
    chaos.storm(options.time, pods)?;
    let begin = Instant::now();
    chaos.wait_until_all_run(pods)?;
    chaos.summary.settled = begin.elapsed();
    chaos.check(pods)?;
    for number in 0..pods {
        chaos.node.delete(&name(number))?;
    }
    if let Err(left) = chaos.node.wait_until_clean() {
        chaos.summary.breaches.push(format!("{left:#}"));
    }
    Ok(Some(chaos.summary))
}

fn name(number: usize) -> String {
    format!("p{number:02}")
}

struct Chaos {
    node: Node,
    dice: Dice,
    /// How often each pod's container was made to crash.
    crashes: BTreeMap<String, u32>,
    /// What ran of each pod before the first kill.
    first: BTreeMap<String, Contained>,
    generation: u32,
    summary: Summary,
}

impl Chaos {
    fn object(&self, number: usize) -> Value {
        let mut object = pod(
            &name(number),
            json!({
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}],
                "containers": [{
                    "name": "c", "command": ["sleep", "1000000"],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "m", "mountPath": "/m"}],
                }],
            }),
        );
        object["metadata"]["labels"] = json!({"generation": self.generation.to_string()});
        object
    }

    fn make(&mut self, number: usize) -> Result<()> {
        self.summary.churn[0] += 1;
        self.node.apply(self.object(number))
    }

    fn running(&self) -> Result<BTreeMap<String, Contained>> {
        let running = self.node.cri.running()?.into_iter();
        Ok(running.map(|container| (container.pod.clone(), container)).collect())
    }

    /// Kills and churns until the time is over.
    fn storm(&mut self, time: Duration, pods: usize) -> Result<()> {
        let begin = Instant::now();
        let (mut kill, mut churn) = (begin, begin);
        while begin.elapsed() < time {
            let now = Instant::now();
            if now >= kill {
                kill += KILL;
                self.kill()?;
            }
            if now >= churn {
                churn += CHURN;
                let number = self.dice.index(pods);
                self.churn(number)?;
            }
            let next = kill.min(churn).saturating_duration_since(Instant::now());
            std::thread::park_timeout(next.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    /// Kills edged as soon as it has a process.
    fn kill(&mut self) -> Result<()> {
        let pid =
            wait_for("edged has a process", LONG, || self.node.rig.pid_of(Module::Edged).ok());
        // It may just have ended.
        if process::signal(pid?, Signal::KILL).is_ok() {
            self.summary.kills += 1;
        }
        Ok(())
    }

    fn churn(&mut self, number: usize) -> Result<()> {
        let name = name(number);
        match Fate::of(number) {
            Fate::Stays => Ok(()),
            Fate::Changes => {
                self.generation += 1;
                self.summary.churn[1] += 1;
                self.node.apply(self.object(number))
            }
            Fate::Crashes => self.crash(&name),
            Fate::ComesAndGoes => match self.node.pod(&name)? {
                None => self.make(number),
                Some(pod) if pod["metadata"]["deletionTimestamp"].is_null() => {
                    self.summary.churn[2] += 1;
                    self.node.delete(&name)
                }
                Some(_) => Ok(()),
            },
        }
    }

    /// Ends the container of a pod, if it runs.
    fn crash(&mut self, name: &str) -> Result<()> {
        let count = self.crashes.entry(name.to_owned()).or_default();
        let running = self.node.cri.running()?;
        let Some(container) = running.iter().find(|it| it.pod == name) else { return Ok(()) };
        if *count < CRASHES {
            self.node.cri.crash(&container.id)?;
            *count += 1;
            self.summary.churn[3] += 1;
        }
        Ok(())
    }

    /// Wants every pod, and waits until each is ready and nothing else runs.
    fn wait_until_all_run(&mut self, pods: usize) -> Result<()> {
        for number in 0..pods {
            let name = name(number);
            loop {
                match self.node.pod(&name)? {
                    None => self.make(number)?,
                    Some(pod) if pod["metadata"]["deletionTimestamp"].is_null() => break,
                    Some(_) => self.node.wait_pod_gone(&name)?,
                }
            }
        }
        for number in 0..pods {
            self.node.wait_pod_ready(&name(number))?;
        }
        let wanted: BTreeSet<String> = (0..pods).map(name).collect();
        let mut seen = Vec::new();
        wait_for("one container of each pod runs, and none else", LONG, || {
            seen = self.node.cri.running().ok()?;
            let names: BTreeSet<_> = seen.iter().map(|container| container.pod.clone()).collect();
            (names == wanted && seen.len() == pods).then_some(())
        })
        .with_context(|| format!("{seen:?}\n{}", self.node.evidence()))
    }

    /// Checks what runs against what happened.
    fn check(&mut self, pods: usize) -> Result<()> {
        let now = self.running()?;
        for number in 0..pods {
            let name = name(number);
            if let Err(breach) = self.is_as_it_should(&name, Fate::of(number), now.get(&name)) {
                self.summary.breaches.push(format!("{name}: {breach:#}"));
            }
        }
        let mut last = String::new();
        let counted =
            wait_for("the host has what belongs to the pods, and nothing else", LONG, || {
                last = self.surplus(pods).unwrap_or_else(|error| format!("{error:#}"));
                last.is_empty().then_some(())
            });
        if counted.is_err() {
            self.summary.breaches.push(last);
        }
        Ok(())
    }

    fn is_as_it_should(&self, name: &str, fate: Fate, now: Option<&Contained>) -> Result<()> {
        let now = now.context("it does not run")?;
        let first = self.first.get(name).context("it did not run in the beginning")?;
        match fate {
            Fate::Stays | Fate::Changes => {
                ensure!(now == first, "it was restarted: {first:?} became {now:?}");
            }
            Fate::Crashes => {
                let crashes = self.crashes.get(name).copied().unwrap_or_default();
                let restarts = now.attempt;
                ensure!(restarts == crashes, "crashed {crashes} times, restarted {restarts}");
            }
            Fate::ComesAndGoes => {
                let restarts = now.attempt;
                ensure!(restarts == 0, "it never crashed, and was restarted {restarts} times");
            }
        }
        if fate == Fate::Changes {
            let told = self.node.wait_pod_ready(name)?;
            ensure!(told["containerStatuses"][0]["restartCount"] == 0, "the cloud was told {told}");
        }
        Ok(())
    }

    /// Says what the host has beyond what the pods need.
    fn surplus(&self, pods: usize) -> Result<String> {
        let (sandboxes, containers) = self.node.cri.list()?;
        let left = self.node.containerd.leftovers()?;
        let folders = self.node.containerd.path().join("kubelet/pods").read_dir()?.count();
        let logs = self.node.containerd.path().join("pods").read_dir()?.count();
        // Of a container that crashed the last end is kept.
        let crashed = self.crashes.values().filter(|&&count| count > 0).count();
        let counts = [
            ("sandboxes", sandboxes.len(), pods),
            ("containers", containers.len(), pods + crashed),
            ("network namespaces", left.namespaces.len(), pods),
            ("addresses", left.addresses.len(), pods),
            // a keeper, the sandbox's process and the container's
            ("processes", left.processes.len(), 3 * pods),
            ("folders of pods", folders, pods),
            ("folders of logs", logs, pods),
        ];
        for (what, have, want) in counts {
            if have != want {
                bail!("{have} {what}, expected {want}");
            }
        }
        Ok(String::new())
    }
}
