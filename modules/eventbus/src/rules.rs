//! The topics of the cloud's rules, in the database: `sub_topics`, which the Go edgecore reads too.

use ipc_proto::{Content, Group, Module, Operation, Resource};
use module_runtime::{Delivery, Peers};
use tokio::sync::mpsc;
use tracing::warn;

/// What the store is to do.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all orders are to write")]
pub(crate) enum Order {
    /// A topic is wanted, or no longer. The message that said so is settled when the store has it.
    Write(Box<str>, bool, Delivery),
    /// Which topics are wanted?
    Read,
}

/// What the store did.
#[derive(Debug)]
pub(crate) enum Done {
    /// It has written.
    Written,
    /// These topics are wanted.
    Topics(Vec<Box<str>>),
}

/// Does what it is told, one after the other, until nobody can tell it more.
pub(crate) async fn serve(
    peers: Peers,
    mut orders: mpsc::Receiver<Order>,
    done: mpsc::Sender<Done>,
) {
    while let Some(order) = orders.recv().await {
        let told = match order {
            Order::Write(topic, wanted, delivery) => {
                let operation = if wanted { Operation::Insert } else { Operation::Delete };
                if let Some(answer) = ask(&peers, operation, &topic).await {
                    answer.settle();
                }
                delivery.settle();
                Done::Written
            }
            Order::Read => {
                let Some(answer) = ask(&peers, Operation::Query, "topics").await else { continue };
                match answer.message.content.decode() {
                    Ok(topics) => {
                        answer.settle();
                        Done::Topics(topics)
                    }
                    Err(error) => {
                        warn!("cannot read the list of topics: {error}");
                        answer.settle();
                        continue;
                    }
                }
            }
        };
        if done.send(told).await.is_err() {
            return;
        }
    }
}

/// Asks the store until it answers; nothing when it never will.
async fn ask(peers: &Peers, operation: Operation, topic: &str) -> Option<Delivery> {
    let make = |peers: &Peers| {
        let resource = Resource::Text(topic.into());
        peers.message(Group::User, operation.clone(), resource, Content::NULL)
    };
    let answered = peers.insist(Module::Metamanager, make).await;
    answered.inspect_err(|error| warn!("the store does not keep the topics of rules: {error}")).ok()
}
