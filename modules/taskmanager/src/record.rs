//! The jobs' records in the store: read once at the start, then written one after the other.

use std::time::Duration;

use ipc_proto::{Content, Group, Module, Operation, Resource};
use module_runtime::{Peers, RequestError};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::News;
use crate::core::{Event, NAME_KEY};
use crate::job::{Api, Kind, Name};

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause before a store that fails is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// A version of a record; without a text it goes.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) serial: u64,
    pub(crate) json: Option<String>,
}

/// Tells which records there are, and then keeps what comes.
pub(crate) async fn keep(
    peers: Peers,
    node: String,
    mut records: mpsc::Receiver<Record>,
    events: mpsc::Sender<News>,
) {
    for api in [Api::V1alpha2, Api::V1alpha1] {
        for (kind, _) in Kind::ALL {
            let found =
                ask(&peers, Operation::Query, &Name::records(api, kind), &Content::NULL).await;
            for (name, json) in read(&found, api, kind, &node) {
                let found = News::Event(Event::Found { name, json });
                if events.send(found).await.is_err() {
                    return;
                }
            }
        }
    }
    let mut ending = events.send(News::AllFound).await.is_err();
    while let Some(Record { name, serial, json }) = records.recv().await
        && !ending
    {
        let (operation, content) = match json {
            Some(json) => (Operation::Insert, Content::from_raw(json.into())),
            None => (Operation::Delete, Content::NULL),
        };
        ask(&peers, operation, &name.record(), &content).await;
        ending = events.send(News::Event(Event::Kept(name, serial))).await.is_err();
    }
}

/// Asks the store until it answers.
async fn ask(
    peers: &Peers,
    operation: Operation,
    resource: &Resource,
    content: &Content,
) -> Content {
    loop {
        let message =
            peers.message(Group::Meta, operation.clone(), resource.clone(), content.clone());
        match peers.request(Module::Metamanager, message, PATIENCE).await {
            Ok(answer) => return answer.take().content,
            Err(RequestError::Failed { answer, .. }) => {
                let why: String = answer.content.decode().unwrap_or_default();
                error!("the store does not take the record of a job: {why}");
            }
            Err(why) => warn!("the store does not answer: {why}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads the records of one kind.
fn read(found: &Content, api: Api, kind: Kind, node: &str) -> Vec<(Name, String)> {
    let rows: Vec<&RawValue> = found.decode().unwrap_or_default();
    rows.into_iter()
        .filter_map(|row| {
            let record: serde_json::Value = serde_json::from_str(row.get()).ok()?;
            let job = record.get(NAME_KEY)?.as_str()?;
            let resource = format!("{}/{job}/node/{node}", Name::records(api, kind));
            Some((Name::parse(&resource, node).ok()?, row.get().to_owned()))
        })
        .collect()
}
