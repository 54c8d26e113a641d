//! Which endpoint a connection goes to. No IO: who asks says what time it is and throws the dice.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::model::Policy;
use crate::targets::Target;

/// Failures to connect in a row after which an endpoint is left out.
const FAILURES: u32 = 3;

/// For how long it is left out the first time; twice as long each further time.
const LEFT_OUT: Duration = Duration::from_secs(5);

/// For how long it is left out at most.
const LEFT_OUT_MOST: Duration = Duration::from_secs(120);

/// How many clients a service with session affinity remembers at most.
const CLIENTS: usize = 16_384;

/// What is known of who connects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    pub(super) address: IpAddr,
    /// The value of the header that the policy names.
    pub(super) header: Option<&'a [u8]>,
}

#[derive(Clone, Debug)]
struct Backend {
    target: Target,
    /// Connections that stand.
    open: usize,
    /// Failures to connect since the last success.
    failures: u32,
    out_until: Option<Instant>,
}

impl Backend {
    const fn new(target: Target) -> Self {
        Self { target, open: 0, failures: 0, out_until: None }
    }
}

/// A service port's endpoints and how they are chosen.
#[derive(Debug)]
pub(super) struct Balancer {
    policy: Policy,
    affinity: Option<Duration>,
    backends: Vec<Backend>,
    turn: usize,
    /// Where each client went, and when last.
    clients: BTreeMap<IpAddr, (Target, Instant)>,
}

impl Balancer {
    pub(super) const fn new(policy: Policy, affinity: Option<Duration>) -> Self {
        Self { policy, affinity, backends: Vec::new(), turn: 0, clients: BTreeMap::new() }
    }

    /// Returns the header whose value it wants to know.
    pub(super) fn header(&self) -> Option<&str> {
        let Policy::Header(name) = &self.policy else { return None };
        // with affinity the client's address decides before
        self.affinity.is_none().then_some(name)
    }

    /// Takes the endpoints as they are now; what is known of those that stay is kept.
    pub(super) fn replace(&mut self, targets: &[Target]) {
        let old = std::mem::take(&mut self.backends);
        let known = |target: &Target| {
            let found = old.iter().find(|backend| backend.target == *target);
            found.cloned().unwrap_or_else(|| Backend::new(*target))
        };
        self.backends = targets.iter().map(known).collect();
        self.clients.retain(|_, (target, _)| targets.contains(target));
    }

    /// Takes another policy for connections to come.
    pub(super) fn follow(&mut self, policy: Policy, affinity: Option<Duration>) {
        self.policy = policy;
        self.affinity = affinity;
    }

    /// Chooses an endpoint that is none of the `tried`; nothing when there is none.
    ///
    /// One that is left out is chosen only when all are.
    pub(super) fn choose(
        &mut self,
        client: Client<'_>,
        tried: &[Target],
        now: Instant,
        dice: u64,
    ) -> Option<Target> {
        let untried = self.backends.iter().filter(|it| !tried.contains(&it.target));
        let mut able: Vec<&Backend> = untried.collect();
        let is_in = |backend: &&Backend| backend.out_until.is_none_or(|until| until <= now);
        if able.iter().any(is_in) {
            able.retain(is_in);
        }
        if able.is_empty() {
            return None;
        }
        let chosen = match self.before(client.address, now) {
            Some(before) if able.iter().any(|backend| backend.target == before) => before,
            _ => by_policy(&self.policy, &able, client, &mut self.turn, dice),
        };
        self.remember(client.address, chosen, now);
        Some(chosen)
    }

    /// Where a client went before, as long as that counts.
    fn before(&self, client: IpAddr, now: Instant) -> Option<Target> {
        let affinity = self.affinity?;
        let (target, seen) = self.clients.get(&client)?;
        (now.saturating_duration_since(*seen) < affinity).then_some(*target)
    }

    fn remember(&mut self, client: IpAddr, chosen: Target, now: Instant) {
        let Some(affinity) = self.affinity else { return };
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, (_, seen)| now.saturating_duration_since(*seen) < affinity);
            if self.clients.len() >= CLIENTS {
                return;
            }
        }
        self.clients.insert(client, (chosen, now));
    }

    /// Notes that a connection to an endpoint stands.
    pub(super) fn opened(&mut self, target: Target) {
        if let Some(backend) = self.backend(target) {
            backend.open += 1;
            backend.failures = 0;
            backend.out_until = None;
        }
    }

    /// Notes that a connection to an endpoint has ended.
    pub(super) fn closed(&mut self, target: Target) {
        if let Some(backend) = self.backend(target) {
            backend.open = backend.open.saturating_sub(1);
        }
    }

    /// Notes that no connection to an endpoint could be had.
    pub(super) fn failed(&mut self, target: Target, now: Instant) {
        let Some(backend) = self.backend(target) else { return };
        backend.failures = backend.failures.saturating_add(1);
        if backend.failures >= FAILURES {
            let doubled = LEFT_OUT.saturating_mul(1 << (backend.failures - FAILURES).min(10));
            backend.out_until = Some(now + doubled.min(LEFT_OUT_MOST));
        }
    }

    fn backend(&mut self, target: Target) -> Option<&mut Backend> {
        self.backends.iter_mut().find(|backend| backend.target == target)
    }
}

/// Chooses one of `able`, of which there is one at least.
fn by_policy(
    policy: &Policy,
    able: &[&Backend],
    client: Client<'_>,
    turn: &mut usize,
    dice: u64,
) -> Target {
    let hashed = |key: &[u8]| consistent(able, key);
    let mut in_turn = || {
        *turn = turn.wrapping_add(1);
        able[*turn % able.len()].target
    };
    match policy {
        Policy::RoundRobin => in_turn(),
        Policy::Random => {
            let count = u64::try_from(able.len()).unwrap_or(u64::MAX);
            able[usize::try_from(dice % count).unwrap_or_default()].target
        }
        Policy::LeastConnections => {
            // among equals in turn, so that short connections do not all go to the first
            *turn = turn.wrapping_add(1);
            let (before, after) = able.split_at(*turn % able.len());
            let from_turn = after.iter().chain(before);
            from_turn.min_by_key(|backend| backend.open).map_or(able[0].target, |it| it.target)
        }
        Policy::Source => match client.address.to_canonical() {
            IpAddr::V4(address) => hashed(&address.octets()),
            IpAddr::V6(address) => hashed(&address.octets()),
        },
        Policy::Header(_) => client.header.map_or_else(in_turn, hashed),
    }
}

/// Chooses by the highest hash of key and endpoint (rendezvous), so that an endpoint that goes moves
/// its own keys only; one that has over 5/4 of the mean of connections passes the key on.
fn consistent(able: &[&Backend], key: &[u8]) -> Target {
    let open: usize = able.iter().map(|backend| backend.open).sum();
    let bound = ((open + 1) * 5).div_ceil(able.len() * 4);
    let weight = |backend: &&&Backend| {
        let mut hasher = DefaultHasher::new();
        (key, backend.target).hash(&mut hasher);
        hasher.finish()
    };
    let with_room = able.iter().filter(|backend| backend.open < bound);
    with_room.max_by_key(weight).map_or(able[0].target, |backend| backend.target)
}

#[cfg(test)]
mod tests;
