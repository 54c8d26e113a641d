//! A node with the real store and the real edgehub, a cloud to join, and edged's place, which the
//! test takes; other modules' places too, where it wants them.

use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::{Rig, SOON, Setup, process, wait_for, wait_until};
use ipc_proto::lifeline::QueueBounds;
use ipc_proto::{Content, Group, Message, Module, ModuleSet, Operation, Resource};
use minicloud::Config;
use module_runtime::{Delivery, Event, Inbox, Peers, RequestError, Seat, WINDOW};
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::runtime::Handle;

/// The modules that always take part; the others are off, but those whose places a test takes.
const PRESENT: [Module; 3] = [Module::Metamanager, Module::Edgehub, Module::Edged];

/// What edged answers a request with that it can serve: base64, as the cloud's driver wants it.
pub(crate) const SERVED: &str = "e30=";

/// Messages that edged may not have looked at yet.
const UNREAD: usize = 8192;

/// The node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) rig: Rig,
    pub(crate) cloud: Cloud,
    /// The places that the test has taken.
    seats: Vec<Peers>,
    came: Receiver<Message>,
    handle: Handle,
}

impl Node {
    /// Starts it and registers it with the cloud, as edged does.
    pub(crate) fn registered() -> Result<Self> {
        Self::registered_with(&[])
    }

    /// Starts it as [`Self::registered`] does, and takes the places of further modules.
    pub(crate) fn registered_with(others: &[Module]) -> Result<Self> {
        let cloud = Cloud::start_empty(Config::default())?;
        let rig = setup(&cloud, others)?.start()?;
        let handle = thread()?;
        let enabled: ModuleSet = PRESENT.iter().chain(others).copied().collect();
        let (edged, came) = take(&handle, &rig, Module::Edged, enabled)?;
        let mut seats = vec![edged];
        for other in others {
            seats.push(take(&handle, &rig, *other, enabled)?.0);
        }
        let node = Self { rig, cloud, seats, came, handle };
        let registration = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": NODE, "labels": {"node-role.kubernetes.io/edge": ""}},
        });
        wait_for("the node is registered", SOON, || {
            let answer = node.ask(Operation::Insert, "null/node/edge1", &registration).ok()?;
            answer["Err"].is_null().then_some(())
        })?;
        Ok(node)
    }

    /// Asks the store as edged and waits for the answer.
    pub(crate) fn ask(
        &self,
        operation: Operation,
        resource: &str,
        content: &Value,
    ) -> Result<Value> {
        self.ask_as(Module::Edged, Group::Meta, operation, resource, content)
    }

    /// Asks the store as a module whose place the test has, and waits for the answer.
    pub(crate) fn ask_as(
        &self,
        module: Module,
        group: Group,
        operation: Operation,
        resource: &str,
        content: &Value,
    ) -> Result<Value> {
        let peers = self.seats.iter().find(|peers| peers.module() == module);
        let peers = peers.with_context(|| format!("the place of {module} is not the test's"))?;
        let resource = Resource::parse(&group, resource);
        let question = peers.message(group, operation, resource, Content::encode(content)?);
        let answer = loop {
            // A store that died meanwhile is asked again, as edged does.
            match self.try_ask(peers, question.clone())? {
                Err(RequestError::PeerDied { .. }) => {}
                answer => break answer?.take(),
            }
        };
        Ok(answer.content.decode()?)
    }

    fn try_ask(&self, peers: &Peers, message: Message) -> Result<Result<Delivery, RequestError>> {
        let (sender, receiver) = sync_channel(1);
        let peers = peers.clone();
        self.handle.spawn(async move {
            let answer = peers.request(Module::Metamanager, message, SOON).await;
            let _test_is_over = sender.send(answer);
        });
        receiver.recv().context("no answer")
    }

    /// Returns the next message that came to edged about this resource.
    pub(crate) fn next_about(&self, resource: &str) -> Result<Message> {
        loop {
            let message = self.came.recv_timeout(SOON);
            let message = message.with_context(|| format!("nothing about {resource} came"))?;
            if message.route.resource.to_string() == resource {
                return Ok(message);
            }
        }
    }

    /// Kills a module and waits until it is back.
    pub(crate) fn kill(&self, module: Module) -> Result<()> {
        let old = self.rig.pid_of(module)?;
        process::signal(old, Signal::KILL)?;
        self.rig.wait_until_back(module, old).map(drop)
    }

    /// Waits until the cloud has no message that the node did not acknowledge.
    pub(crate) fn wait_until_acknowledged(&self) -> Result<()> {
        let all = || self.cloud.waits_for_nothing().unwrap_or(false);
        wait_until("all is acknowledged", SOON, all)
            .with_context(|| self.rig.module_log(Module::Metamanager))
    }

    /// Returns how many messages wait in the database until they have reached the cloud.
    pub(crate) fn waiting(&self) -> Result<i64> {
        let sql = "SELECT count(*) FROM outbox";
        Ok(self.database()?.query_row(sql, [], |row| row.get(0))?)
    }

    /// Returns the keys of all objects of a type that the database has.
    pub(crate) fn stored(&self, kind: &str) -> Result<Vec<String>> {
        let database = self.database()?;
        let sql = "SELECT key FROM meta WHERE type = ?1 ORDER BY key";
        let mut statement = database.prepare(sql)?;
        let keys = statement.query_map([kind], |row| row.get(0))?;
        Ok(keys.collect::<rusqlite::Result<_>>()?)
    }

    fn database(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = self.rig.setup().folder.path().join("data/edgecore.db");
        Ok(Connection::open_with_flags(file, flags)?)
    }
}

/// Starts the thread that edged's peers live in; it ends with the test's process.
fn thread() -> Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("edged".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

fn setup(cloud: &Cloud, others: &[Module]) -> Result<Setup> {
    let own = rustix::process::geteuid().as_raw();
    let mut setup = others
        .iter()
        .fold(Setup::new()?.with_seat(Module::Edged), |setup, other| setup.with_seat(*other));
    for module in Module::ALL {
        let enabled = PRESENT.contains(&module) || others.contains(&module);
        let modules = json!({module.name(): {"enabled": enabled, "user": own}});
        setup = setup.with(json!({"modules": modules, "restart": {"stableAfter": "1ms"}}));
    }
    let data = setup.folder.path().join("data");
    setup.edgecore["database"] = json!({"dataSource": data.join("edgecore.db")});
    cloud.lead(&mut setup);
    let hub = &mut setup.edgecore["modules"]["edgeHub"];
    hub["messageQPS"] = json!(10_000);
    hub["messageBurst"] = json!(10_000);
    Ok(setup)
}

/// Takes a module's place. What comes to it is settled at once.
fn take(
    handle: &Handle,
    rig: &Rig,
    module: Module,
    enabled: ModuleSet,
) -> Result<(Peers, Receiver<Message>)> {
    let own = rustix::process::geteuid().as_raw();
    let seat = Seat {
        module,
        instance: module_runtime::instance(),
        runtime_dir: rig.runtime_dir(),
        users: [own; Module::COUNT],
        enabled,
        queue: QueueBounds::default(),
        window: WINDOW,
    };
    let _inside = handle.enter();
    let (peers, inbox) = seat.take(None)?;
    let (sender, came) = sync_channel(UNREAD);
    handle.spawn(hand_over(inbox, move |message| sender.try_send(message).is_ok()));
    Ok((peers, came))
}

/// Settles everything that comes and hands it to the test. Of the requests only those that make or
/// attach a volume are served.
async fn hand_over(mut inbox: Inbox, take: impl Fn(Message) -> bool) {
    loop {
        let Event::Message(delivery) = inbox.next().await else { continue };
        let message = delivery.message.clone();
        let serves = matches!(
            message.route.operation,
            Operation::CreateVolume | Operation::ControllerPublishVolume
        );
        let answered = match (delivery.is_request(), serves) {
            (true, true) => delivery.respond(Content::text(SERVED)),
            (true, false) => delivery.respond_error("no such driver"),
            (false, _) => {
                delivery.settle();
                Ok(())
            }
        };
        if answered.is_err() || !take(message) {
            return;
        }
    }
}
