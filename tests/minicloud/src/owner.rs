//! The one task that owns the cloud: everything that happens comes to it as a command, and it does
//! what the cloud decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use ipc_proto::Message;
use rcgen::ExtendedKeyUsagePurpose;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::clock::Clock;
use crate::core::Cloud;
use crate::fault::{Fault, Losses};
use crate::hub::core::{Effect, SessionId};
use crate::pki::{self, Authority, Validity};
use crate::store::Store;
use crate::time::Time;

/// How many messages may wait for one socket; a node that reads no more loses its session.
pub(crate) const LINK_QUEUE: usize = 4096;
/// How many commands may wait; who sends more waits itself.
pub(crate) const COMMAND_QUEUE: usize = 1024;
/// How often the state is written.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Something to be done with the cloud.
pub(crate) type Act = Box<dyn FnOnce(&mut Cloud, Time, &mut Vec<Effect>) + Send>;

/// A look at the cloud, which changes nothing.
pub(crate) type Look = Box<dyn FnOnce(&Cloud, Time) + Send>;

/// What the owner is told.
pub(crate) enum Command {
    /// A socket is open.
    Connect {
        /// Whose it is.
        node: String,
        /// The way to the socket.
        link: mpsc::Sender<ToLink>,
        /// Where the session's number goes.
        reply: oneshot::Sender<SessionId>,
    },
    /// A message came.
    Receive(SessionId, Message),
    /// A socket is closed.
    Disconnect(SessionId),
    /// Somebody wants to look at the cloud.
    Look(Look),
    /// Somebody wants to change it.
    Act(Act),
    /// A fault is to begin, of one node or of all.
    Fault(Option<String>, Fault),
    /// The state is to be written, and the task to end.
    Stop(oneshot::Sender<()>),
}

/// What a socket is told. It closes when nobody is left to tell it anything.
#[derive(Debug)]
pub(crate) enum ToLink {
    /// To be sent.
    Message(Box<Message>),
    /// To be done to the socket.
    Fault(Fault),
}

/// What holds for the servers at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// Changes with each restart, which ends all connections.
    pub(crate) epoch: u64,
    /// Whether nobody listens.
    pub(crate) down: bool,
    /// Changes when all faults end.
    pub(crate) heals: u64,
    /// Whether the servers show an expired certificate.
    pub(crate) expired_server: bool,
    /// Whether nodes are given expired certificates.
    pub(crate) expired_nodes: bool,
    /// Whether no token is taken.
    pub(crate) refuse_tokens: bool,
}

/// A session's socket, from this side.
struct Port {
    link: mpsc::Sender<ToLink>,
    losses: Losses,
}

/// The owner.
pub(crate) struct Owner {
    pub(crate) cloud: Cloud,
    pub(crate) clock: Clock,
    pub(crate) authority: Arc<Authority>,
    pub(crate) store: Option<Store>,
    pub(crate) conditions: watch::Sender<Conditions>,
    /// Counts turns of the loop, for those who wait for something.
    pub(crate) turns: watch::Sender<u64>,
    pub(crate) ports: Ports,
}

/// The sockets, and what new ones begin with.
#[derive(Default)]
pub(crate) struct Ports {
    open: BTreeMap<SessionId, Port>,
    last: u64,
    /// Paces that hold until all faults end.
    standing: Vec<(Option<String>, Fault)>,
    reopen: Option<Instant>,
}

impl Owner {
    /// Runs until it is stopped or nobody is left who could command.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut save = Instant::now() + SAVE_INTERVAL;
        self.turn(|cloud, now, out| cloud.settle(now, out));
        loop {
            let tick = self.clock.instant(self.cloud.next_deadline());
            let due = self.ports.reopen.map_or(tick, |reopen| reopen.min(tick)).min(save);
            tokio::select! {
                command = commands.recv() => match command {
                    None => break,
                    Some(Command::Stop(reply)) => {
                        self.save();
                        // Whoever asked may have gone.
                        reply.send(()).ok();
                        return;
                    }
                    Some(command) => self.take(command),
                },
                () = sleep_until(due) => self.turn(|cloud, now, out| cloud.tick(now, out)),
            }
            if self.ports.reopen.is_some_and(|reopen| reopen <= Instant::now()) {
                self.reopen();
            }
            let start = Instant::now();
            if save <= start {
                self.save();
                // A large cluster takes long to write; it must not take most of the time.
                save = Instant::now() + SAVE_INTERVAL.max(start.elapsed() * 20);
            }
        }
        self.save();
    }

    /// Lets the cloud decide, and does what it decided.
    fn turn(&mut self, act: impl FnOnce(&mut Cloud, Time, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        let now = self.clock.now();
        act(&mut self.cloud, now, &mut out);
        self.sign(now);
        for effect in out {
            match effect {
                Effect::Send(id, message) => self.send(id, message),
                Effect::Close(id, _) => {
                    self.ports.open.remove(&id);
                }
            }
        }
        self.turns.send_modify(|turns| *turns += 1);
    }

    /// Signs the certificate requests of nodes' own servers.
    fn sign(&mut self, now: Time) {
        for (key, request) in self.cloud.unsigned() {
            let certificate = self.certificate(&request);
            self.cloud.certify(now, &key, certificate.as_deref());
        }
    }

    fn certificate(&self, request: &str) -> Option<String> {
        let text = String::from_utf8(BASE64.decode(request.as_bytes()).ok()?).ok()?;
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64.decode(body.as_bytes()).ok()?;
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let life = Validity::from_now(Duration::from_secs(365 * 86_400));
        let signed = self.authority.sign(&der, usages, life).ok()?;
        Some(BASE64.encode(pki::pem(&signed).as_bytes()))
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Connect { node, link, reply } => self.connect(&node, link, reply),
            Command::Receive(id, message) => {
                let port = self.ports.open.get_mut(&id);
                if port.is_some_and(|port| !port.losses.takes(true, &message)) {
                    self.turn(|cloud, now, out| cloud.receive(now, id, &message, out));
                }
            }
            Command::Disconnect(id) => {
                self.ports.open.remove(&id);
                self.turn(|cloud, _, _| cloud.disconnect(id));
            }
            Command::Look(look) => look(&self.cloud, self.clock.now()),
            Command::Act(act) => self.turn(act),
            Command::Fault(node, fault) => self.fault(node.as_deref(), &fault),
            Command::Stop(_) => unreachable!("the loop takes this one itself"),
        }
    }

    fn connect(
        &mut self,
        node: &str,
        link: mpsc::Sender<ToLink>,
        reply: oneshot::Sender<SessionId>,
    ) {
        self.ports.last += 1;
        let id = SessionId(self.ports.last);
        for (of, fault) in &self.ports.standing {
            if of.as_ref().is_none_or(|of| of == node) {
                // The queue of a new link has room for the few faults that stand.
                link.try_send(ToLink::Fault(fault.clone())).ok();
            }
        }
        self.ports.open.insert(id, Port { link, losses: Losses::default() });
        if reply.send(id).is_ok() {
            self.turn(|cloud, now, out| cloud.connect(now, id, node, out));
        }
    }

    fn send(&mut self, id: SessionId, message: Box<Message>) {
        let Some(port) = self.ports.open.get_mut(&id) else { return };
        for message in port.losses.outgoing(message).into_iter().flatten() {
            if port.link.try_send(ToLink::Message(message)).is_err() {
                // The socket has gone, or takes nothing any more: that ends the session.
                self.ports.open.remove(&id);
                self.cloud.disconnect(id);
                return;
            }
        }
    }

    fn fault(&mut self, node: Option<&str>, fault: &Fault) {
        match *fault {
            Fault::Restart { down_millis } => return self.restart(down_millis),
            Fault::ExpiredServerCertificate { on } => {
                self.conditions.send_modify(|it| it.expired_server = on);
            }
            Fault::ExpiredNodeCertificates { on } => {
                self.conditions.send_modify(|it| it.expired_nodes = on);
            }
            Fault::RefuseTokens { on } => self.conditions.send_modify(|it| it.refuse_tokens = on),
            Fault::Heal => self.heal(),
            Fault::Delay { .. } | Fault::Slow { .. } => {
                let same =
                    |other: &Fault| std::mem::discriminant(other) == std::mem::discriminant(fault);
                self.ports.standing.retain(|(of, other)| of.as_deref() != node || !same(other));
                self.ports.standing.push((node.map(str::to_owned), fault.clone()));
            }
            Fault::Drop { .. }
            | Fault::Reorder
            | Fault::Garbage { .. }
            | Fault::HalfOpen
            | Fault::Close => {}
        }
        let concerned: Vec<_> = self.cloud.hub().sessions();
        for session in concerned.iter().filter(|it| node.is_none_or(|of| of == it.node)) {
            if let Some(port) = self.ports.open.get_mut(&SessionId(session.session)) {
                port.losses.set(fault);
                port.link.try_send(ToLink::Fault(fault.clone())).ok();
            }
        }
    }

    fn heal(&mut self) {
        self.ports.standing.clear();
        self.conditions.send_modify(|conditions| {
            let Conditions { epoch, down, heals, .. } = *conditions;
            *conditions = Conditions { epoch, down, heals: heals + 1, ..Conditions::default() };
        });
    }

    fn restart(&mut self, down_millis: u64) {
        self.conditions.send_modify(|conditions| {
            conditions.epoch += 1;
            conditions.down = true;
        });
        self.ports.open.clear();
        self.ports.reopen = Some(Instant::now() + Duration::from_millis(down_millis));
        self.turn(|cloud, now, out| cloud.restart(now, out));
    }

    fn reopen(&mut self) {
        self.ports.reopen = None;
        self.conditions.send_modify(|conditions| conditions.down = false);
    }

    #[expect(clippy::print_stderr, reason = "a test double has no log; its user must see this")]
    fn save(&mut self) {
        if let Some(store) = &mut self.store
            && let Err(error) = store.save(&self.cloud)
        {
            eprintln!("minicloud: {error:#}");
        }
    }
}
