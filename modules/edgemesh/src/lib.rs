//! The service mesh: lets pods of this and other nodes find and reach each other's services.
//!
//! [`discovery`] learns from the store which services there are and where they are served, with or
//! without the cloud; [`services`] hands that to those who act on it: [`dns`] answers
//! names, [`traffic`] has services reached by the [`kernel`] or a [`proxy`], on other networks through
//! the [`tunnel`].

mod config;
mod discovery;
mod dns;
mod kernel;
mod model;
mod netlink;
mod node;
mod proxy;
mod services;
mod stand_ins;
mod targets;
mod trace;
mod traffic;
pub mod trial;
mod tunnel;

use std::rc::Rc;
use std::time::{Duration, Instant};

use ipc_proto::Module;
use module_runtime::{Alarm, Context, Delivery, Event};
use serde::Serialize;
use tokio::sync::watch;

use discovery::Discovery;
pub use dns::resolve;
use services::Publisher;
use stand_ins::StandIns;
use targets::{Here, Reach};
pub use trace::{Asked, trace};
use tunnel::Tunnel;

/// How long after a change the status is told: changes come in crowds.
const SOON: Duration = Duration::from_secs(1);

/// What `edgectl status` shows.
#[derive(Debug, Serialize)]
struct Report {
    /// How many services are known; nothing before the store has told.
    services: Option<usize>,
    /// Where names are answered, or why they are not.
    names: dns::Standing,
    /// How traffic is carried; nothing where it is not to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<traffic::Standing>,
    /// How other networks are reached; nothing where they are not to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<tunnel::Standing>,
}

/// Runs the module until it is asked to drain.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = context.config::<config::Sections>()?.check()?;
    let (publisher, services) = services::table();
    let (shown, mut names) = watch::channel(dns::Standing::default());
    tokio::spawn(dns::open(config.dns, services.clone(), shown));
    let (shown, mut tunnel) = watch::channel(None);
    let (far, reach, stand_ins) = match config.tunnel {
        Some(far) => {
            let (networks, pool) = (far.direct.clone(), far.stand_ins);
            let far = Tunnel::new(context.node(), far, services.clone());
            tokio::task::spawn_local(Rc::clone(&far).run(shown));
            (Some(far), Reach::Networks(networks), pool)
        }
        None => (None, Reach::All, None),
    };
    let prefer_same_node = config.traffic.prefer_same_node;
    let zone = config.traffic.zone.clone();
    let here = Here { node: context.node().into(), prefer_same_node, zone, reach };
    let stand_ins = stand_ins.filter(|_| config.traffic.enabled);
    let mut discovery = Discovery::new(stand_ins.map(|pool| StandIns::new(pool, here.clone())));
    let (shown, mut traffic) = watch::channel(None);
    if config.traffic.enabled {
        tokio::task::spawn_local(traffic::carry(services.changes(), here, far, shown));
    }
    let mut told = Alarm::default();
    loop {
        tokio::select! {
            event = context.next() => match event {
                Event::Message(delivery) => {
                    take(&mut discovery, &publisher, delivery);
                    told.set(Some(Instant::now() + SOON));
                }
                // The store tells of itself what there is.
                Event::PeerUp(_) | Event::PeerDown(_) => {}
                Event::Drain => return Ok(()),
            },
            Ok(()) = names.changed() => told.set(Some(Instant::now())),
            Ok(()) = traffic.changed() => told.set(Some(Instant::now() + SOON)),
            Ok(()) = tunnel.changed() => told.set(Some(Instant::now() + SOON)),
            () = told.ring() => {
                let services = services.now().map(|table| table.len());
                let names = names.borrow_and_update().clone();
                let traffic = traffic.borrow_and_update().clone();
                let tunnel = tunnel.borrow_and_update().clone();
                context.report(&Report { services, names, traffic, tunnel })?;
            }
        }
    }
}

/// Removes what the mesh leaves in the kernel when it ends: its table of the packet filter, and its link.
///
/// # Errors
/// With a sentence when the kernel refuses.
pub fn remove() -> Result<(), String> {
    kernel::remove().map_err(|error| format!("cannot remove the table: {error:#}"))?;
    dns::unlink().map_err(|error| format!("cannot remove the link: {error}"))
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
