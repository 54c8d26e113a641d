//! devicetwin's place, which the test takes: what comes to it from clients, and what it publishes.

use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result};
use bytes::Bytes;
use edgecore_tests::rig::{Rig, SOON};
use ipc_proto::lifeline::QueueBounds;
use ipc_proto::{Content, Group, Message, Module, ModuleSet, Operation, Resource};
use module_runtime::{Event, Peers, Seat, WINDOW};
use tokio::runtime::Handle;

/// devicetwin, as eventbus sees it.
#[derive(Debug)]
pub(crate) struct Twin {
    peers: Peers,
    came: Receiver<Message>,
    handle: Handle,
}

impl Twin {
    pub(crate) fn sit(rig: &Rig) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("twin".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        let folder = rig.runtime_dir();
        let listener = std::os::unix::net::UnixListener::bind(folder.join("twin.tmp"))?;
        // In the place of the supervisor's own, in which nobody takes calls now.
        std::fs::rename(folder.join("twin.tmp"), folder.join(Module::Devicetwin.socket_name()))?;
        let seat = Seat {
            module: Module::Devicetwin,
            instance: module_runtime::instance(),
            runtime_dir: folder,
            users: [rustix::process::geteuid().as_raw(); Module::COUNT],
            enabled: Module::ALL.into_iter().collect::<ModuleSet>(),
            queue: QueueBounds::default(),
            window: WINDOW,
        };
        let (peers, mut inbox) = {
            let _inside = handle.enter();
            seat.take(Some(listener.into()))?
        };
        let (sender, came) = sync_channel(1024);
        handle.spawn(async move {
            loop {
                let Event::Message(delivery) = inbox.next().await else { continue };
                // The store speaks to it too.
                let is_clients = delivery.from == Module::Eventbus;
                let message = delivery.take();
                if is_clients && sender.send(message).is_err() {
                    return;
                }
            }
        });
        Ok(Self { peers, came, handle })
    }

    /// Waits for the next message of a client.
    pub(crate) fn next(&self) -> Result<Message> {
        self.came.recv_timeout(SOON).context("nothing came to devicetwin")
    }

    /// Publishes as devicetwin does.
    pub(crate) fn publish(&self, topic: &str, payload: &'static str) -> Result<()> {
        let content = Content::from_raw(Bytes::from_static(payload.as_bytes()));
        let resource = Resource::Text(topic.into());
        let message = self.peers.message(Group::User, Operation::Publish, resource, content);
        let peers = self.peers.clone();
        self.handle.block_on(async move {
            peers.send(Module::Eventbus, message).await?.settled().await?;
            Ok(())
        })
    }
}
