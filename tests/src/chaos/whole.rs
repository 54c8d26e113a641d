//! Chaos among everything at once: a node whose pods, devices, messages, objects and streams are all
//! in use, while its modules, its supervisor, its container runtime, its disk and its cloud go wrong.
//! In the end the cloud has all that was acknowledged, the store what the cloud was told is stored, the
//! containers are those of the beginning, every way into the node works, and nothing has grown.

mod blows;
mod load;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipc_proto::Module;
use minicloud::fault::Fault;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;

use super::Options;
use super::schedule::{Bag, Dice};
use crate::rig::cri::Contained;
use crate::rig::mosquitto::free_port;
use crate::rig::pods::{LONG, Node, sleeper};
use crate::rig::stream::Door;
use crate::rig::{Setup, process, wait_for, wait_until};
use blows::BLOWS;
use load::Load;

/// The pause between two blows: most of what they do is over by then, and some of it meets the next.
const CALM: Duration = Duration::from_millis(1500);

/// Pods that are left alone.
const RESTING: usize = 4;

/// What the node may have grown by from before the first blow to after the last: room for what is
/// kept of a thing that was used for the first time, and for no leak.
const GROWTH: [(&str, f64); 2] = [("MiB of memory", 12.0), ("open files", 40.0)];

/// What a run came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// How often each thing went wrong.
    pub blows: Vec<(&'static str, u32)>,
    /// Messages, reports of a device, objects and streams that were used, all of which counted.
    pub used: [u64; 4],
    /// Streams that a blow cut.
    pub cut: u64,
    /// Memory in MiB, and open files: before the first blow and after the last.
    pub grown: [[f64; 2]; 2],
    /// How long it took after the last blow until each thing was as it should be.
    pub settled: Vec<(&'static str, Duration)>,
    /// Promises that did not hold.
    pub breaches: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blows: Vec<_> =
            self.blows.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "blows: {}", blows.join(", "))?;
        let [messages, reports, objects, streams] = self.used;
        let cut = self.cut;
        writeln!(
            f,
            "messages={messages} reports={reports} objects={objects} streams={streams} cut={cut}"
        )?;
        for ((what, _), [before, after]) in GROWTH.iter().zip(self.grown) {
            writeln!(f, "{what}: {before:.1} before, {after:.1} after")?;
        }
        for (what, after) in &self.settled {
            writeln!(f, "{what} {:.1} s after the last blow", after.as_secs_f64())?;
        }
        self.breaches.iter().try_for_each(|breach| writeln!(f, "BREACH: {breach}"))?;
        writeln!(f, "{}", if self.breaches.is_empty() { "every promise held" } else { "BROKEN" })
    }
}

/// Runs it; nothing where the machine cannot run pods.
///
/// # Errors
/// When the rig cannot be set up.
pub fn run(options: Options) -> Result<Option<Summary>> {
    let Some(mut storm) = Storm::start(options)? else { return Ok(None) };
    let held = storm.blow(options.time).and_then(|()| storm.settle()).and_then(|()| storm.end());
    if let Err(breach) = held {
        storm.summary.breaches.push(format!("{breach:#}"));
    }
    Ok(Some(storm.finish()))
}

/// The store's own file system, small enough to be full soon.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        // a folder that cannot be unmounted is left to who finds it
        let _left = unmount(&self.0, UnmountFlags::DETACH);
    }
}

struct Storm {
    node: Node,
    disk: Disk,
    load: Load,
    dice: Dice,
    /// The blows that are still to fall in this round.
    bag: Bag,
    /// The containers of the resting pods.
    first: BTreeMap<String, Contained>,
    summary: Summary,
}

impl Storm {
    fn start(options: Options) -> Result<Option<Self>> {
        let (mut disk, port) = (None, free_port()?);
        let change = |setup: &mut Setup| disk = Some(prepare(setup, port));
        let Some(node) = Node::start_with(change)? else { return Ok(None) };
        let disk = disk.context("the rig was not prepared")??;
        let load = Load::start(&node, port)?;
        for number in 0..RESTING {
            node.apply(sleeper(&resting(number)))?;
        }
        for number in 0..RESTING {
            node.wait_pod_ready(&resting(number))?;
        }
        let summary = Summary {
            blows: BLOWS.iter().map(|(name, _)| (*name, 0)).collect(),
            ..Summary::default()
        };
        let (dice, bag) = (Dice(options.seed), Bag::default());
        let mut storm = Self { node, disk, load, dice, bag, first: BTreeMap::new(), summary };
        storm.first = storm.running()?;
        storm.measure(0)?;
        Ok(Some(storm))
    }

    /// Lists what runs, as soon as the runtime answers.
    fn running(&self) -> Result<BTreeMap<String, Contained>> {
        let running = wait_for("the runtime answers", LONG, || self.node.cri.running().ok())?;
        Ok(running.into_iter().map(|container| (container.pod.clone(), container)).collect())
    }

    /// Uses the node and lets blows fall until the time is over, each at least once.
    fn blow(&mut self, time: Duration) -> Result<()> {
        let begin = Instant::now();
        let mut next = begin + CALM;
        while begin.elapsed() < time || self.summary.blows.iter().any(|(_, count)| *count == 0) {
            self.load.work(&self.node)?;
            if Instant::now() >= next {
                let chosen = self.bag.draw(&mut self.dice, BLOWS.len());
                self.summary.blows[chosen].1 += 1;
                let (name, blow) = BLOWS[chosen];
                self.strike(blow).with_context(|| format!("cannot strike: {name}"))?;
                next = Instant::now() + CALM;
            }
            park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits until everything is where it belongs, and every way into the node works.
    fn settle(&mut self) -> Result<()> {
        let begin = Instant::now();
        let mut settled = Vec::new();
        let mut note = |what| settled.push((what, begin.elapsed()));
        self.clear_disk()?;
        self.node.cloud.fault(Fault::Heal)?;
        self.node.rig.wait_until_whole()?;
        note("all modules run");
        for (what, is_so) in Load::ENDS {
            let mut broken = Ok(());
            let through = wait_until(what, LONG, || {
                self.load.rests();
                broken = self.load.work(&self.node);
                broken.is_err() || is_so(&self.load, &self.node)
            });
            broken?;
            let evidence =
                || format!("{}\n{}", self.load.evidence(&self.node), self.node.evidence());
            through.with_context(evidence)?;
            note(what);
        }
        self.containers_are_the_same()?;
        self.node.wait_until_ready()?;
        note("the node is ready");
        self.node.apply(sleeper("last"))?;
        self.node.wait_pod_ready("last")?;
        note("a new pod is ready");
        self.ways_in()?;
        note("every way in works");
        self.summary.settled = settled;
        self.measure(1)
    }

    /// Checks that no container was ended or started that had no reason.
    fn containers_are_the_same(&self) -> Result<()> {
        let now = self.running()?;
        for (pod, first) in &self.first {
            let now = now.get(pod).with_context(|| format!("{pod} runs no more"))?;
            ensure!(now == first, "{pod} was restarted: {first:?} became {now:?}");
        }
        Ok(())
    }

    /// Looks into the node as operators and pods do.
    fn ways_in(&self) -> Result<()> {
        let door = Door::of_cloud(&self.node.cloud);
        wait_until("a command runs through the cloud", LONG, || {
            load::greet(door, "last").is_ok_and(|greeted| greeted)
        })?;
        let local = &self.node.rig.setup().edgecore["modules"]["metaManager"]["metaServer"];
        let local = local["server"].as_str().context("a local API")?.parse()?;
        let page = Door::of_node(local).page("/api/v1/namespaces/default/pods")?;
        for name in self.first.keys() {
            let named = format!("\"name\":\"{name}\"");
            ensure!(page.contains(&named), "the local API does not list {name}: {page}");
        }
        Ok(())
    }

    /// Deletes all pods, and checks that nothing of them is left, and that nothing has grown.
    fn end(&mut self) -> Result<()> {
        for pod in self.running()?.into_keys() {
            self.node.delete(&pod)?;
        }
        self.node.wait_until_clean()?;
        for ((what, bound), [before, after]) in GROWTH.iter().zip(self.summary.grown) {
            ensure!(after - before <= *bound, "{before:.1} {what} became {after:.1}");
        }
        Ok(())
    }

    /// Notes what the agent takes.
    fn measure(&mut self, moment: usize) -> Result<()> {
        let supervisor = self.node.rig.supervisor_pid();
        let mut all = process::children(supervisor);
        all.push(supervisor);
        let [memory, files] = &mut self.summary.grown;
        for pid in all {
            memory[moment] += process::kib(pid, &["Pss"])? / 1024.0;
            files[moment] += f64::from(u32::try_from(process::descriptors(pid)?.len())?);
        }
        Ok(())
    }

    fn finish(self) -> Summary {
        Summary { used: self.load.used(), cut: self.load.cut, ..self.summary }
    }
}

fn resting(number: usize) -> String {
    format!("resting{number}")
}

/// Turns on all modules, and gives the store a small disk of its own.
fn prepare(setup: &mut Setup, port: u16) -> Result<Disk> {
    for module in Module::ALL {
        setup.supervisor["modules"][module.name()]["enabled"] = true.into();
    }
    // it reads the certificates, which are in the test's own folder
    let own = rustix::process::geteuid().as_raw();
    setup.supervisor["modules"]["edgestream"]["user"] = own.into();
    // every restart is the first one, and hangs are found fast
    setup.supervisor["restart"] = json!({"stableAfter": "1ms"});
    setup.supervisor["beat"] = json!({"interval": "200ms", "patience": "5s"});
    let hub = &mut setup.edgecore["modules"]["edgeHub"];
    hub["messageQPS"] = json!(100_000);
    hub["messageBurst"] = json!(100_000);
    hub["heartbeat"] = json!(2);
    let server = format!("tcp://127.0.0.1:{port}");
    setup.edgecore["modules"]["eventBus"] =
        json!({"enable": true, "mqttMode": 0, "mqttServerInternal": server});
    let store = setup.folder.path().join("store");
    let owner = setup.supervisor["user"].as_u64().unwrap_or(0);
    let room = std::ffi::CString::new(format!("size=32m,mode=0755,uid={owner},gid={owner}"))?;
    mount("tmpfs", &store, "tmpfs", MountFlags::NOSUID, Some(room.as_c_str()))
        .with_context(|| format!("cannot mount on {}", store.display()))?;
    Ok(Disk(store))
}
