//! The URLs that the cloud has rules for, in the database: `target_urls`, which the Go edgecore
//! reads too.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipc_proto::{Content, Group, Module, Operation, Resource};
use module_runtime::{Delivery, Peers};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::words;

/// The URLs; nobody changes what another looks at.
pub(crate) type Urls = Arc<BTreeSet<Box<str>>>;

/// What is to be done.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the smaller one comes once in a while")]
pub(crate) enum Order {
    /// A rule came or went; the message that said so is settled when the store has it.
    Change(Delivery),
    /// The store is there: it may know more.
    Read,
}

/// Does what it is told, one after the other, until nobody can tell it more.
pub(crate) async fn keep(
    peers: Peers,
    mut orders: mpsc::Receiver<Order>,
    urls: watch::Sender<Urls>,
) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Read => {
                if let Some(list) = read(&peers).await {
                    urls.send_replace(Arc::new(list));
                }
            }
            Order::Change(delivery) => {
                change(&peers, &delivery, &urls).await;
                delivery.settle();
            }
        }
    }
}

async fn change(peers: &Peers, delivery: &Delivery, urls: &watch::Sender<Urls>) {
    let route = &delivery.message.route;
    let Resource::Text(url) = &route.resource else { return };
    let is_new = route.operation == Operation::Start;
    let mut list = BTreeSet::clone(&urls.borrow());
    let spellings = if is_new { vec![url.to_string()] } else { words::spellings(url) };
    for url in spellings {
        info!("a rule for {url} {}", if is_new { "came" } else { "ended" });
        let operation = if is_new { Operation::Insert } else { Operation::Delete };
        if is_new {
            list.insert(url.as_str().into());
        } else if !list.remove(url.as_str()) {
            continue;
        }
        urls.send_replace(Arc::new(list.clone()));
        if let Some(answer) = ask(peers, operation, &url).await {
            answer.settle();
        }
    }
}

async fn read(peers: &Peers) -> Option<BTreeSet<Box<str>>> {
    let answer = ask(peers, Operation::Query, "urls").await?;
    let list = answer.message.content.decode();
    answer.settle();
    list.inspect_err(|error| warn!("cannot read the list of URLs: {error}")).ok()
}

/// Asks the store until it answers; nothing when it never will.
async fn ask(peers: &Peers, operation: Operation, url: &str) -> Option<Delivery> {
    let make = |peers: &Peers| {
        let resource = Resource::Text(url.into());
        peers.message(Group::User, operation.clone(), resource, Content::NULL)
    };
    let answered = peers.insist(Module::Metamanager, make).await;
    answered.inspect_err(|error| warn!("the store does not keep the URLs of rules: {error}")).ok()
}
