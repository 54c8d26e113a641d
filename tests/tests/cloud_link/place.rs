//! A node with the real edgehub, a cloud to join, and the store's place, which the test takes.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::Cloud;
use edgecore_tests::rig::{Rig, SOON, Setup, wait_for};
use ipc_proto::control::Request;
use ipc_proto::{Content, Group, Kind, Message, Module, ModuleSet, Operation, Resource};
use minicloud::Config;
use module_runtime::{Delivery, Event, Inbox, Peers, Seat, WINDOW};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

/// Messages that the store may hold unsettled.
const HELD: usize = 4096;

/// The thread that a store lives in, until it is dropped.
#[derive(Debug)]
struct Thread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("place".into()).spawn(move || {
            let _told_or_dropped = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Ends everything in it, as the death of a process does.
    fn end(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread does nothing that can fail");
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.end();
    }
}

/// The store's place, taken by the test.
#[derive(Debug)]
pub(crate) struct Store {
    thread: Thread,
    pub(crate) peers: Peers,
    came: Receiver<Message>,
    settling: watch::Sender<bool>,
}

impl Store {
    /// Returns the next message about an object of the test's own.
    pub(crate) fn next(&self) -> Result<Message> {
        loop {
            let message = self.came.recv_timeout(SOON).context("nothing came to the store")?;
            let foreign = message.route.resource.kind() == Some(&Kind::Node)
                || message.route.resource.to_string().ends_with("kube-root-ca.crt");
            if message.route.operation != Operation::Connect && !foreign {
                return Ok(message);
            }
        }
    }

    /// Waits for the notice that the cloud is there, or is not.
    pub(crate) fn wait_for_link(&self, up: bool) -> Result<()> {
        let wanted = if up { "\"cloud_connected\"" } else { "\"cloud_disconnected\"" };
        loop {
            let message = self.came.recv_timeout(SOON).context("no notice of the link")?;
            if message.route.operation == Operation::Connect && *message.content.raw() == wanted {
                return Ok(());
            }
        }
    }

    /// Dies, with all that it holds.
    pub(crate) fn die(&mut self) {
        self.thread.end();
    }

    /// Settles what comes at once, and what was held; or holds it.
    pub(crate) fn settle(&self, settle: bool) {
        self.settling.send_replace(settle);
    }

    /// Sends a message up; the receiver hears when it is settled.
    pub(crate) fn send(&self, operation: Operation, resource: &str) -> Receiver<bool> {
        let (sender, receiver) = sync_channel(1);
        let resource = Resource::parse(&Group::Meta, resource);
        let message =
            self.peers.message(Group::Meta, operation, resource, Content::from_raw("{}".into()));
        let peers = self.peers.clone();
        self.thread.handle.spawn(async move {
            let sent = peers.send(Module::Edgehub, message).await;
            let settled = match sent {
                Ok(ticket) => ticket.settled().await.is_ok(),
                Err(_) => false,
            };
            let _test_is_over = sender.send(settled);
        });
        receiver
    }

    /// Asks the cloud and waits for the answer.
    pub(crate) fn request(&self, operation: Operation, resource: &str) -> Result<Message> {
        let (sender, receiver) = sync_channel(1);
        let resource = Resource::parse(&Group::Meta, resource);
        let message = self.peers.message(Group::Meta, operation, resource, Content::NULL);
        let peers = self.peers.clone();
        self.thread.handle.spawn(async move {
            let answer = peers.request(Module::Edgehub, message, SOON).await;
            let _test_is_over = sender.send(answer);
        });
        let answer = receiver.recv().context("no answer")??;
        let message = answer.message.clone();
        answer.settle();
        Ok(message)
    }
}

/// Hands everything to the test and settles as told.
async fn keep(mut inbox: Inbox, came: mpsc::Sender<Message>, mut settling: watch::Receiver<bool>) {
    let mut held: Vec<Delivery> = Vec::new();
    loop {
        tokio::select! {
            event = inbox.next() => if let Event::Message(delivery) = event {
                if came.send(delivery.message.clone()).await.is_err() {
                    return;
                }
                held.push(delivery);
            },
            changed = settling.changed() => if changed.is_err() {
                return;
            },
        }
        if *settling.borrow() {
            held.drain(..).for_each(Delivery::settle);
        }
    }
}

/// A node, its cloud and its store.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) rig: Rig,
    pub(crate) cloud: Cloud,
    pub(crate) store: Store,
}

/// What a test changes before the node starts.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) cloud: Config,
    /// Laid over section `edgeHub`.
    pub(crate) hub: Value,
    /// The token, where it is not the cloud's own.
    pub(crate) token: Option<String>,
    /// Files that the node has already, by their place in the folder of certificates.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
}

impl Place {
    /// Starts the three; the node joins the cloud with a token.
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        let cloud = Cloud::start(plan.cloud.clone())?;
        Self::start_with(cloud, plan)
    }

    /// Starts node and store by a cloud that runs.
    pub(crate) fn start_with(cloud: Cloud, plan: Plan) -> Result<Self> {
        let mut setup = Setup::new()?.with_seat(Module::Metamanager);
        let certs = setup.folder.path().join("certs");
        // Landlock lets a module write in folders that are there when it starts.
        std::fs::create_dir_all(certs.join("ca"))?;
        for (file, bytes) in plan.files {
            std::fs::write(certs.join(file), bytes)?;
        }
        let own = rustix::process::geteuid().as_raw();
        setup = setup.with(json!({"modules": {"edgehub": {"user": own}}}));
        cloud.lead(&mut setup);
        let hub = &mut setup.edgecore["modules"]["edgeHub"];
        hub["tlsCaFile"] = json!(certs.join("ca/rootCA.crt"));
        if let Some(token) = plan.token {
            hub["token"] = json!(token);
        }
        merge(hub, plan.hub);
        let rig = setup.start()?;
        let store = take_store(&rig)?;
        let place = Self { rig, cloud, store };
        // It waits at the address of the store that was stopped.
        place.restart_hub()?;
        Ok(place)
    }

    /// Starts the three and waits until the cloud serves the node.
    pub(crate) fn joined(plan: Plan) -> Result<Self> {
        let place = Self::start(plan)?;
        place.store.wait_for_link(true).with_context(|| place.evidence())?;
        Ok(place)
    }

    /// Returns what edgehub says of itself.
    pub(crate) fn report(&self) -> Result<Value> {
        let report = self.rig.module(Module::Edgehub)?.report;
        report.context("edgehub has reported nothing")
    }

    /// Waits until edgehub's report is as wanted.
    pub(crate) fn wait_for_report(
        &self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let found = wait_for(what, SOON, || self.report().ok().filter(&wanted));
        found.with_context(|| self.evidence())
    }

    /// Tells what is known, for the message of a failure.
    pub(crate) fn evidence(&self) -> String {
        let report = self.report().map_or_else(|error| error.to_string(), |it| it.to_string());
        format!("report: {report}\nlog: {}", self.rig.module_log(Module::Edgehub))
    }

    /// Returns the files of the node's certificate.
    pub(crate) fn certs(&self) -> PathBuf {
        self.rig.setup().folder.path().join("certs")
    }

    /// Lets a new process take the store's place, after [`Store::die`].
    pub(crate) fn store_returns(&mut self) -> Result<()> {
        self.store = take_store(&self.rig)?;
        Ok(())
    }

    /// Stops edgehub and starts it again.
    pub(crate) fn restart_hub(&self) -> Result<()> {
        self.rig.demand(&Request::Restart { modules: vec![Module::Edgehub] })
    }
}

fn take_store(rig: &Rig) -> Result<Store> {
    let thread = Thread::start()?;
    let handle = thread.handle.clone();
    let runtime_dir = rig.runtime_dir();
    let socket = runtime_dir.join(Module::Metamanager.socket_name());
    std::fs::remove_file(&socket).context("cannot take the store's address")?;
    let listener = UnixListener::bind(&socket)?;
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&socket, everyone)?;
    let seat = Seat {
        module: Module::Metamanager,
        instance: module_runtime::instance(),
        runtime_dir,
        users: users(rig)?,
        enabled: Module::ALL.into_iter().collect::<ModuleSet>(),
        queue: ipc_proto::lifeline::QueueBounds::default(),
        window: WINDOW,
    };
    let inside = handle.enter();
    let (peers, inbox) = seat.take(Some(OwnedFd::from(listener)))?;
    let (settling, settled) = watch::channel(true);
    let (came_sender, mut came_receiver) = mpsc::channel(HELD);
    let (sender, came) = sync_channel(HELD);
    handle.spawn(keep(inbox, came_sender, settled));
    handle.spawn(async move {
        while let Some(message) = came_receiver.recv().await {
            if sender.try_send(message).is_err() {
                return;
            }
        }
    });
    drop(inside);
    Ok(Store { thread, peers, came, settling })
}

/// Returns the users that the modules run as.
fn users(rig: &Rig) -> Result<[u32; Module::COUNT]> {
    let status = rig.status()?;
    let own = rustix::process::geteuid().as_raw();
    let mut users = [own; Module::COUNT];
    for module in status.modules {
        if let Some(confinement) = module.confinement {
            users[module.name.index()] = confinement.uid;
        }
    }
    Ok(users)
}

fn merge(value: &mut Value, patch: Value) {
    match (value, patch) {
        (_, Value::Null) => {}
        (Value::Object(value), Value::Object(patch)) => {
            for (key, patch) in patch {
                merge(value.entry(key).or_insert(Value::Null), patch);
            }
        }
        (value, patch) => *value = patch,
    }
}
