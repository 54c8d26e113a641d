//! What one service needs in the kernel: its chains, sets and elements of the shared maps. No IO.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::words::{Family, Identity, protocol};
use crate::model::{Endpoint, Kind, Name, Port, Service};
use crate::targets::{Here, Scope, targets};

/// A shared map or set and a key in it.
pub(crate) type Element = (String, String);

/// A service's part of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Sets of its own and how each is made.
    pub(super) sets: BTreeMap<String, String>,
    /// Chains of its own and the rules in each.
    pub(super) chains: BTreeMap<String, Vec<String>>,
    /// What it adds to the shared maps and sets, and the verdict there; empty in a set.
    pub(super) elements: BTreeMap<Element, String>,
}

/// How many clients stay with one endpoint at most.
const CLIENTS: u32 = 65_536;

/// Plans a service. `listener` returns the port of the proxy that serves one of its ports, where one
/// does.
pub(crate) fn plan(
    name: &Name,
    service: &Service,
    endpoints: &[Endpoint],
    here: &Here,
    listener: impl Fn(&Port) -> Option<u16>,
) -> Plan {
    let mut plan = Plan::default();
    let Kind::Cluster(addresses) = &service.kind else { return plan };
    for family in Family::BOTH {
        let of_family = |addresses: &[IpAddr]| -> Vec<IpAddr> {
            addresses.iter().copied().filter(|address| family.has(*address)).collect()
        };
        let addresses = of_family(addresses);
        if addresses.is_empty() {
            continue;
        }
        for address in &addresses {
            plan.element(family.set("addresses"), address.to_string(), String::new());
        }
        for port in &service.ports {
            let of_port = OfPort {
                identity: Identity::new(name, port),
                family,
                service,
                port,
                endpoints,
                here,
                listener: listener(port),
            };
            of_port.put(&addresses, &of_family(&service.external), &mut plan);
        }
    }
    plan
}

/// Where traffic goes.
enum Verdict {
    /// To the chain that says more.
    Goto(String),
    /// Nowhere, and nobody is told.
    Drop,
    /// Nowhere, and the client is told.
    Refuse,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Drop => f.write_str("drop"),
            Self::Refuse => f.write_str("goto refuse"),
        }
    }
}

/// One port of a service in one family of addresses.
struct OfPort<'a> {
    identity: Identity,
    family: Family,
    service: &'a Service,
    port: &'a Port,
    endpoints: &'a [Endpoint],
    here: &'a Here,
    listener: Option<u16>,
}

impl OfPort<'_> {
    fn put(&self, addresses: &[IpAddr], external: &[IpAddr], plan: &mut Plan) {
        let key = format!("{} . {}", protocol(self.port.protocol), self.port.port);
        let inside = scope(self.service.local_only);
        let verdict = self.verdict(inside, plan);
        for address in addresses {
            plan.element(
                self.family.set("services"),
                format!("{address} . {key}"),
                verdict.to_string(),
            );
        }
        if external.is_empty() && self.port.node_port.is_none() {
            return;
        }
        let verdict = self.external_verdict(plan);
        for address in external {
            plan.element(
                self.family.set("services"),
                format!("{address} . {key}"),
                verdict.to_string(),
            );
        }
        if let Some(number) = self.port.node_port {
            let key = format!("{} . {number}", protocol(self.port.protocol));
            plan.element(self.family.set("ports"), key, verdict.to_string());
        }
    }

    fn targets(&self, scope: Scope) -> Vec<SocketAddr> {
        let mut targets = targets(self.service, self.port, self.endpoints, scope, self.here);
        targets.retain(|target| self.family.has(target.ip()));
        targets
    }

    /// Returns where traffic from outside of the cluster goes. The node takes its place as the
    /// sender where the endpoint may be on another node, since the answer has to come back through it.
    fn external_verdict(&self, plan: &mut Plan) -> Verdict {
        if self.service.external_local_only || self.listener.is_some() {
            return self.verdict(scope(self.service.external_local_only), plan);
        }
        match self.verdict(Scope::All, plan) {
            Verdict::Goto(all) => {
                let chain = self.chain("external");
                let rules = vec!["jump snat-later".to_owned(), format!("goto {all}")];
                plan.chains.insert(chain.clone(), rules);
                Verdict::Goto(chain)
            }
            nowhere @ (Verdict::Drop | Verdict::Refuse) => nowhere,
        }
    }

    /// Returns where traffic goes: the chain that chooses an endpoint, which it makes, or nowhere.
    fn verdict(&self, scope: Scope, plan: &mut Plan) -> Verdict {
        if let Some(listener) = self.listener {
            return self.to_listener(listener, plan);
        }
        let targets = self.targets(scope);
        if targets.is_empty() {
            // that there are endpoints, but not here, is not an error that a client should see at
            // once: another node's answer may be on its way
            let elsewhere = scope == Scope::Local && !self.targets(Scope::All).is_empty();
            return if elsewhere { Verdict::Drop } else { Verdict::Refuse };
        }
        for target in &targets {
            let address = target.ip();
            let key = format!("{address} . {address}");
            plan.element(self.family.set("hairpin"), key, String::new());
        }
        let chain = self.chain(match scope {
            Scope::All => "all",
            Scope::Local => "local",
        });
        let rules = match self.service.affinity {
            Some(time) => self.sticky_choice(&targets, time.as_secs().max(1), plan),
            None => vec![self.choice(&targets)],
        };
        plan.chains.insert(chain.clone(), rules);
        Verdict::Goto(chain)
    }

    fn to_listener(&self, listener: u16, plan: &mut Plan) -> Verdict {
        let protocol = protocol(self.port.protocol);
        let chain = self.chain("proxy");
        let rule = format!("meta l4proto {protocol} redirect to :{listener}");
        plan.chains.insert(chain.clone(), vec![rule]);
        let key = format!("{protocol} . {listener}");
        plan.element("listeners".to_owned(), key, String::new());
        Verdict::Goto(chain)
    }

    /// The rule that chooses one of the targets at random.
    fn choice(&self, targets: &[SocketAddr]) -> String {
        let to = match targets {
            [one] => one.to_string(),
            many => {
                let entry = |(number, target): (usize, &SocketAddr)| {
                    format!("{number} : {} . {}", target.ip(), target.port())
                };
                let entries: Vec<String> = many.iter().enumerate().map(entry).collect();
                format!("numgen random mod {} map {{ {} }}", many.len(), entries.join(", "))
            }
        };
        format!("meta l4proto {} dnat {} to {to}", protocol(self.port.protocol), self.family.word())
    }

    /// The rules that send a client to the target that it had before. Each target has a set of the
    /// clients that came to it, whose entries go when they were not seen for `seconds`.
    fn sticky_choice(&self, targets: &[SocketAddr], seconds: u64, plan: &mut Plan) -> Vec<String> {
        let word = self.family.word();
        let mut rules = Vec::new();
        let mut entries = Vec::new();
        for (number, target) in targets.iter().enumerate() {
            let identity = self.identity.of_target(*target, seconds);
            let set = format!("clients{}-{identity}", self.family.number());
            let chain = format!("end{}-{identity}", self.family.number());
            let kind = self.family.kind();
            plan.sets.insert(
                set.clone(),
                format!(
                    "type {kind} ; size {CLIENTS} ; flags dynamic,timeout ; timeout {seconds}s ;"
                ),
            );
            let remember = format!("update @{set} {{ {word} saddr }}");
            let rule = format!("{remember} {}", self.choice(&[*target]));
            plan.chains.insert(chain.clone(), vec![rule]);
            rules.push(format!("{word} saddr @{set} goto {chain}"));
            entries.push(format!("{number} : goto {chain}"));
        }
        let entries = entries.join(", ");
        rules.push(format!("numgen random mod {} vmap {{ {entries} }}", targets.len()));
        rules
    }

    fn chain(&self, kind: &str) -> String {
        format!("{kind}{}-{}", self.family.number(), self.identity.long())
    }
}

const fn scope(local_only: bool) -> Scope {
    if local_only { Scope::Local } else { Scope::All }
}

impl Plan {
    fn element(&mut self, set: String, key: String, verdict: String) {
        self.elements.insert((set, key), verdict);
    }
}
