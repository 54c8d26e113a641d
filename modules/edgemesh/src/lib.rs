//! The service mesh: lets pods of this and other nodes find and reach each other's services.
//!
//! [`discovery`] learns from the store which services there are and where they are served, with or
//! without the cloud; [`services`] hands that to those who act on it.

mod discovery;
mod model;
mod services;

use ipc_proto::Module;
use module_runtime::{Context, Delivery, Event};
use serde::Serialize;

use discovery::Discovery;
use services::Publisher;

/// What `edgectl status` shows.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Report {
    /// How many services are known; nothing before the store has told.
    services: Option<usize>,
}

/// Runs the module until it is asked to drain.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let mut discovery = Discovery::default();
    let (publisher, services) = services::table();
    loop {
        match context.next().await {
            Event::Message(delivery) => {
                take(&mut discovery, &publisher, delivery);
                let services = services.now().map(|table| table.len());
                context.report(&Report { services })?;
            }
            // The store tells of itself what there is.
            Event::PeerUp(_) | Event::PeerDown(_) => {}
            Event::Drain => return Ok(()),
        }
    }
}

/// Takes what the store tells.
fn take(discovery: &mut Discovery, publisher: &Publisher, delivery: Delivery) {
    if delivery.message.is_answer() {
        // Nobody waits for it any more.
        return delivery.settle();
    }
    if delivery.from != Module::Metamanager || !discovery.take(&delivery.message) {
        return delivery.unsupported();
    }
    if let Some(table) = discovery.table() {
        publisher.publish(table);
    }
    delivery.settle();
}
