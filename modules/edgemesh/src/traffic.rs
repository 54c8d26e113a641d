//! Which way each service's traffic takes: the kernel's, or a listener of this process.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::kernel::{Doors, Kernel, Plan, plan, plan_pods};
use crate::model::{Endpoint, Kind, Name, Policy, Port, Protocol, Service};
use crate::proxy::{Key, Manner, Proxy};
use crate::services::{Backed, Change, Changes};
use crate::targets::{Here, Scope, Target, targets};
use crate::tunnel::Tunnel;

/// The second pause before the whole table is tried again; the first time it is at once, and each
/// further pause is twice as long, up to the last.
const PAUSE: Duration = Duration::from_secs(1);

/// The last pause.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// How long the table has to stand before the next trouble counts as the first again.
const STABLE: Duration = Duration::from_secs(60);

/// How traffic is carried, for `edgectl status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    /// Services in the kernel's table.
    pub(crate) carried: usize,
    /// Ports of services whose connections pass through this process.
    pub(crate) proxied: usize,
    /// Whether endpoints of this node are taken before all others.
    #[serde(rename = "preferSameNode")]
    pub(crate) prefer_same_node: bool,
    /// The zone whose endpoints are taken before those of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<Box<str>>,
    /// Why services cannot be reached as they should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<String>,
}

/// Carries the traffic of all services for as long as this process lives. What is in the kernel
/// stays there after that.
pub(crate) async fn carry(
    mut changes: Changes,
    here: Here,
    tunnel: Option<Rc<Tunnel>>,
    standing: watch::Sender<Option<Standing>>,
) {
    let kernel = match Kernel::open() {
        Ok(kernel) => kernel,
        Err(error) => {
            warn!("{error:#}");
            let trouble = Some(format!("{error:#}"));
            standing.send_replace(Some(Standing { trouble, ..Standing::default() }));
            return;
        }
    };
    let mut traffic = Traffic { here, kernel, proxy: Proxy::new(tunnel) };
    let mut pauses = Pauses::default();
    let mut retry: Option<Instant> = None;
    loop {
        let plans = tokio::select! {
            // before the store has told what there is, nothing is changed
            changes = changes.next() => traffic.plans(changes),
            () = wait_until(retry) => BTreeMap::new(),
            () = traffic.kernel.gone() => {
                warn!("someone has removed the table of edgemesh; it is made again");
                retry = Some(pauses.next(Instant::now()));
                continue;
            }
        };
        let trouble = traffic.kernel.update(plans).err().map(|error| format!("{error:#}"));
        retry = trouble.as_ref().map(|trouble| {
            warn!("services are not up to date in the kernel: {trouble}");
            pauses.next(Instant::now())
        });
        let (carried, proxied) = (traffic.kernel.len(), traffic.proxy.len());
        let Here { prefer_same_node, zone, .. } = traffic.here.clone();
        let now = Standing { carried, proxied, prefer_same_node, zone, trouble };
        standing.send_replace(Some(now));
    }
}

/// When the whole table is tried again: two programs that undo each other's work do not do it all
/// day.
#[derive(Debug, Default)]
struct Pauses {
    pause: Duration,
    last: Option<Instant>,
}

impl Pauses {
    fn next(&mut self, now: Instant) -> Instant {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) > STABLE) {
            self.pause = Duration::ZERO;
        }
        let next = now + self.pause;
        self.pause = (self.pause * 2).clamp(PAUSE, LAST_PAUSE);
        self.last = Some(next);
        next
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Both ways.
#[derive(Debug)]
struct Traffic {
    here: Here,
    kernel: Kernel,
    proxy: Proxy,
}

impl Traffic {
    /// Plans what has changed, and has the proxy listen before the kernel sends traffic there.
    fn plans(&mut self, changes: Vec<Change>) -> BTreeMap<Name, Plan> {
        let plan_of = |(name, backed): Change| {
            let carried = backed.filter(|backed| backed.is_carried);
            let doors = carried.as_ref().map(|it| self.listen(&name, it)).unwrap_or_default();
            self.proxy.retain(&name, |key| doors.contains_key(&(key.pod, key.protocol, key.port)));
            let planned = carried.map(|backed| match backed.service.kind {
                Kind::Headless => plan_pods(&name, &backed.endpoints, &doors),
                Kind::Cluster(_) | Kind::External(_) => {
                    let listener =
                        |port: &Port| doors.get(&(None, port.protocol, port.port)).copied();
                    plan(&name, &backed.service, &backed.endpoints, &self.here, listener)
                }
            });
            (name, planned.unwrap_or_default())
        };
        changes.into_iter().map(plan_of).collect()
    }

    /// Listens for those ports of a service, or of its pods, that need it; returns where.
    fn listen(&mut self, name: &Name, backed: &Backed) -> Doors {
        let Backed { service, endpoints, .. } = backed;
        let scope = if service.local_only { Scope::Local } else { Scope::All };
        let mut doors = Doors::new();
        if service.kind == Kind::Headless {
            for (key, manner) in pods(name, endpoints, &self.here) {
                self.open(&key, manner, &mut doors);
            }
            return doors;
        }
        for port in &service.ports {
            let targets = targets(service, port, endpoints, scope, &self.here);
            let Some(policy) = policy(service, port, &targets) else { continue };
            let Port { protocol, port, .. } = *port;
            let key = Key { service: name.clone(), pod: None, protocol, port };
            self.open(&key, Manner { policy, affinity: service.affinity, targets }, &mut doors);
        }
        doors
    }

    fn open(&mut self, key: &Key, manner: Manner, doors: &mut Doors) {
        match self.proxy.serve(key, manner) {
            Ok(listener) => drop(doors.insert((key.pod, key.protocol, key.port), listener)),
            Err(error) => warn!(
                "cannot listen for {}: its load is spread at random, and nothing goes through the tunnel: {error}",
                key.service
            ),
        }
    }
}

/// Returns what has to be served of a headless service: each port of each pod that something stands
/// for.
fn pods(name: &Name, endpoints: &[Endpoint], here: &Here) -> Vec<(Key, Manner)> {
    let of_pod = |endpoint: &Endpoint| {
        let (pod, beyond) = (endpoint.stand_in, here.beyond(endpoint));
        let carried = |it: &&(_, Protocol, _)| it.1 != Protocol::Sctp;
        let of_port = |&(_, protocol, port): &(Box<str>, Protocol, u16)| {
            let targets = vec![Target { address: (endpoint.address, port).into(), beyond }];
            let key = Key { service: name.clone(), pod, protocol, port };
            (key, Manner { policy: Policy::RoundRobin, affinity: None, targets })
        };
        endpoint.ports.iter().filter(carried).map(of_port).collect::<Vec<_>>()
    };
    endpoints.iter().filter(|endpoint| endpoint.stand_in.is_some()).flat_map(of_pod).collect()
}

/// Returns how a port's endpoints are chosen where the kernel cannot do it: as the service asks, for
/// the node's own API, to which the kernel does not route what comes from pods, and where one is
/// beyond the tunnel.
pub(crate) fn policy(service: &Service, port: &Port, targets: &[Target]) -> Option<Policy> {
    if targets.is_empty() || port.protocol == Protocol::Sctp {
        return None;
    }
    let is_kernel_s =
        |target: &Target| !target.address.ip().is_loopback() && target.beyond.is_none();
    let all = targets.iter().all(is_kernel_s);
    service.policy.clone().or_else(|| (!all).then_some(Policy::RoundRobin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_tried_again_at_once_and_then_later_and_later() {
        let mut now = Instant::now();
        let mut pauses = Pauses::default();
        let mut pause = |now: &mut Instant| {
            let next = pauses.next(*now);
            let pause = (next - *now).as_secs();
            *now = next;
            pause
        };
        let all = [(); 8].map(|()| pause(&mut now));
        assert_eq!(all, [0, 1, 2, 4, 8, 16, 30, 30]);
        now += STABLE * 2;
        assert_eq!(pause(&mut now), 0);
    }
}
