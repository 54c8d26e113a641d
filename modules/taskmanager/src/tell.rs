//! Reports go to the cloud one after the other, each until the cloud has heard it.

use ipc_proto::{Group, Message, Module, Source};
use module_runtime::{Peers, message_id, unix_millis};
use tokio::sync::mpsc;
use tracing::warn;

use crate::News;
use crate::core::Event;
use crate::job::{Name, Report};

/// A report, and its number among its job's, from 1.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) name: Name,
    pub(crate) report: Report,
    pub(crate) number: usize,
}

/// Tells the cloud what comes.
pub(crate) async fn tell(peers: Peers, mut said: mpsc::Receiver<Said>, events: mpsc::Sender<News>) {
    while let Some(Said { name, report, number }) = said.recv().await {
        let (operation, resource) = name.route();
        let source = Source::Websocket;
        let route = ipc_proto::Route { source, group: Group::Hub, operation, resource };
        let content = report.content(&name);
        let message = Message::new(message_id(), unix_millis(), route, content);
        // The connection keeps it over any number of edgehub's lives.
        let heard = match peers.send(Module::Edgehub, message).await {
            Ok(ticket) => ticket.settled().await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = heard {
            warn!("the cloud does not hear a report of {name}: {error}");
        }
        if events.send(News::Event(Event::Told(name, number))).await.is_err() {
            return;
        }
    }
}
