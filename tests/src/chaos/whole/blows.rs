//! What goes wrong with a node in use, and how it is done.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::Result;
use ipc_proto::Module;
use ipc_proto::control::Request;
use ipc_proto::lifeline::Fault as Inner;
use minicloud::fault::{Fault, Garbage};
use rustix::process::Signal;

use super::super::schedule::Dice;
use super::Storm;
use crate::rig::hostile::Hostile;
use crate::rig::process;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blow {
    /// SIGKILL for a module.
    Kill(Module),
    /// Something that a module does to itself, or that is done to it.
    Inner(Inner),
    /// The supervisor executes itself anew.
    Reload,
    /// SIGKILL for the supervisor, with which all modules go.
    KillAll,
    /// SIGKILL for the container runtime.
    KillRuntime,
    /// The disk of the store has no room until the next blow.
    Disk,
    /// Rubbish on a module's socket.
    Rubbish,
    /// Something that the cloud does wrong.
    Cloud(fn(&mut Dice) -> Fault),
}

/// All of them, by the word for the summary.
pub(super) const BLOWS: [(&str, Blow); 32] = [
    ("edgehub", Blow::Kill(Module::Edgehub)),
    ("metamanager", Blow::Kill(Module::Metamanager)),
    ("edged", Blow::Kill(Module::Edged)),
    ("devicetwin", Blow::Kill(Module::Devicetwin)),
    ("eventbus", Blow::Kill(Module::Eventbus)),
    ("servicebus", Blow::Kill(Module::Servicebus)),
    ("edgestream", Blow::Kill(Module::Edgestream)),
    ("edgemesh", Blow::Kill(Module::Edgemesh)),
    ("taskmanager", Blow::Kill(Module::Taskmanager)),
    ("metaserver", Blow::Kill(Module::Metaserver)),
    ("stopped", Blow::Inner(Inner::Stop)),
    ("segv", Blow::Inner(Inner::Segv)),
    ("panic", Blow::Inner(Inner::Panic)),
    ("hang", Blow::Inner(Inner::Hang)),
    ("slow messages", Blow::Inner(Inner::SlowIpc)),
    ("out of memory", Blow::Inner(Inner::Oom)),
    ("lifeline closed", Blow::Inner(Inner::CloseLifeline)),
    ("output closed", Blow::Inner(Inner::CloseStdout)),
    ("reload", Blow::Reload),
    ("supervisor", Blow::KillAll),
    ("container runtime", Blow::KillRuntime),
    ("disk full", Blow::Disk),
    ("rubbish", Blow::Rubbish),
    ("cloud away", Blow::Cloud(|dice| Fault::Restart { down_millis: 300 + dice.below(4000) })),
    ("link closed", Blow::Cloud(|_| Fault::Close)),
    ("link half open", Blow::Cloud(|_| Fault::HalfOpen)),
    ("messages lost", Blow::Cloud(|_| LOST)),
    ("late messages", Blow::Cloud(|dice| Fault::Delay { millis: dice.below(2000) })),
    ("slow link", Blow::Cloud(|_| Fault::Slow { piece: 256, millis: 5 })),
    ("reordered", Blow::Cloud(|_| Fault::Reorder)),
    ("no message", Blow::Cloud(|dice| Fault::Garbage { kind: GARBAGE[dice.index(GARBAGE.len())] })),
    ("healed", Blow::Cloud(|_| Fault::Heal)),
];

/// The cloud sends what was not acknowledged again; the node has no such word for what it sends.
const LOST: Fault = Fault::Drop { count: 5, up: false, resource: String::new() };

const GARBAGE: [Garbage; 4] = [Garbage::Text, Garbage::Truncated, Garbage::Json, Garbage::Unknown];

impl Storm {
    /// Lets one blow fall. What it meets may be down from an earlier one, which is as well.
    pub(super) fn strike(&mut self, blow: Blow) -> Result<()> {
        self.clear_disk()?;
        let victim = Module::ALL[self.dice.index(Module::ALL.len())];
        let rig = &mut self.node.rig;
        match blow {
            Blow::Kill(module) => {
                if let Ok(pid) = rig.pid_of(module) {
                    drop(process::signal(pid, Signal::KILL));
                }
            }
            Blow::Inner(fault) => drop(rig.fault(victim, fault)),
            Blow::Reload => rig.demand(&Request::Reload)?,
            Blow::KillAll => {
                rig.end(Signal::KILL)?;
                rig.start_again()?;
            }
            Blow::KillRuntime => {
                self.node.containerd.kill()?;
                self.node.containerd.start_again()?;
            }
            Blow::Disk => self.fill_disk()?,
            Blow::Rubbish => {
                if let Ok(mut peer) = Hostile::dial(rig, victim) {
                    drop(peer.say(b"\xff\xff\xff\xffrubbish"));
                }
            }
            Blow::Cloud(fault) => {
                let fault = fault(&mut self.dice);
                self.node.cloud.fault(fault)?;
            }
        }
        Ok(())
    }

    /// Takes all the room that the store has.
    fn fill_disk(&self) -> Result<()> {
        let mut file = File::create(self.filler())?;
        for size in [1 << 16, 1 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    /// Gives it back.
    pub(super) fn clear_disk(&self) -> Result<()> {
        match fs::remove_file(self.filler()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn filler(&self) -> PathBuf {
        self.disk.0.join("filler")
    }
}
