//! What one service needs in the kernel: its chains, sets and elements of the shared maps. No IO.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::flows::{Ends, Front};
use super::words::{Element, Family, Identity, Label, Rule, Verdict};
use crate::model::{Endpoint, Kind, Name, Port, Protocol, Service};
use crate::targets::{Here, Scope, targets};

/// A service's part of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Sets of clients of its own, and for how many seconds each client is remembered.
    pub(super) sets: BTreeMap<Label, (Family, u64)>,
    /// Chains of its own and the rules in each.
    pub(super) chains: BTreeMap<Label, Vec<Rule>>,
    /// What it adds to the shared maps and sets, and the verdict there; none in a set.
    pub(super) elements: BTreeMap<Element, Option<Verdict>>,
    /// Where flows of datagrams may end.
    pub(super) flows: BTreeMap<Front, Ends>,
}

/// The ports of the proxy that serve: a service's port, or that of the pod for which an address stands.
pub(crate) type Doors = BTreeMap<(Option<IpAddr>, Protocol, u16), u16>;

/// Plans the pods of a headless service for which other addresses stand on this node.
pub(crate) fn plan_pods(name: &Name, endpoints: &[Endpoint], doors: &Doors) -> Plan {
    let mut plan = Plan::default();
    for stand_in in endpoints.iter().filter_map(|endpoint| endpoint.stand_in) {
        plan.elements.insert(Element::Address(stand_in), None);
    }
    for (&(pod, protocol, port), &listener) in doors {
        let Some(stand_in) = pod else { continue };
        let (family, front) = (Family::of(stand_in), SocketAddr::new(stand_in, port));
        let port = Port { name: Box::default(), protocol, port, node_port: None };
        let identity = Identity::new(name, &port).of_target(front, 0);
        let chain = Label::from(format!("pod{}-{identity}", family.number()));
        let redirect = Rule::Redirect { protocol, port: listener };
        plan.chains.insert(Label::clone(&chain), vec![redirect]);
        plan.elements.insert(Element::Listener(protocol, listener), None);
        let at = Element::Service(stand_in, protocol, port.port);
        plan.elements.insert(at, Some(Verdict::Goto(chain)));
        if protocol == Protocol::Udp {
            plan.flows.insert(Front::Address(front), Ends::Listener(listener));
        }
    }
    plan
}

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
            plan.elements.insert(Element::Address(*address), None);
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
        let Port { protocol, port, node_port, .. } = *self.port;
        let verdict = self.verdict(scope(self.service.local_only), plan);
        let at = |address: &IpAddr| Element::Service(*address, protocol, port);
        plan.elements.extend(addresses.iter().map(|it| (at(it), Some(verdict.clone()))));
        if !external.is_empty() || node_port.is_some() {
            let verdict = self.external_verdict(plan);
            plan.elements.extend(external.iter().map(|it| (at(it), Some(verdict.clone()))));
            let number = node_port.map(|number| Element::Port(self.family, protocol, number));
            plan.elements.extend(number.map(|it| (it, Some(verdict))));
        }
        if protocol == Protocol::Udp {
            let all = addresses.iter().chain(external);
            let fronts = all.map(|address| Front::Address(SocketAddr::new(*address, port)));
            let ends = match self.listener {
                Some(listener) => Ends::Listener(listener),
                None => Ends::Targets(self.targets(Scope::All).into_iter().collect()),
            };
            let node = node_port.map(|number| Front::Node(self.family, number));
            plan.flows.extend(fronts.chain(node).map(|front| (front, ends.clone())));
        }
    }

    fn targets(&self, scope: Scope) -> Vec<SocketAddr> {
        let all = targets(self.service, self.port, self.endpoints, scope, self.here);
        // where one is beyond the kernel's reach, all go to the listener, if there is one
        let near = all.into_iter().filter(|target| target.beyond.is_none());
        let addresses = near.map(|target| target.address);
        addresses.filter(|address| self.family.has(address.ip())).collect()
    }

    /// Returns where traffic from outside of the cluster goes. The node takes its place as the
    /// sender where the endpoint may be on another node, since the answer has to come back through it.
    fn external_verdict(&self, plan: &mut Plan) -> Verdict {
        if self.service.external_local_only || self.listener.is_some() {
            return self.verdict(scope(self.service.external_local_only), plan);
        }
        match self.verdict(Scope::All, plan) {
            Verdict::Goto(all) => {
                self.chain("external", vec![Rule::Masquerade, Rule::Goto(all)], plan)
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
        let hairpin = |target: &SocketAddr| (Element::Hairpin(target.ip()), None);
        plan.elements.extend(targets.iter().map(hairpin));
        let rules = match self.service.affinity {
            Some(time) => self.sticky_choice(targets, time.as_secs().max(1), plan),
            None => vec![self.send(targets, None)],
        };
        let kind = match scope {
            Scope::All => "all",
            Scope::Local => "local",
        };
        self.chain(kind, rules, plan)
    }

    fn to_listener(&self, listener: u16, plan: &mut Plan) -> Verdict {
        let protocol = self.port.protocol;
        plan.elements.insert(Element::Listener(protocol, listener), None);
        self.chain("proxy", vec![Rule::Redirect { protocol, port: listener }], plan)
    }

    const fn send(&self, targets: Vec<SocketAddr>, remember: Option<Label>) -> Rule {
        Rule::Send { family: self.family, protocol: self.port.protocol, targets, remember }
    }

    /// The rules that send a client to the target that it had before. Each target has a set of the
    /// clients that came to it, whose entries go when they were not seen for `seconds`.
    fn sticky_choice(&self, targets: Vec<SocketAddr>, seconds: u64, plan: &mut Plan) -> Vec<Rule> {
        let family = self.family;
        let mut rules = Vec::new();
        let mut chains = Vec::new();
        for target in targets {
            let identity = self.identity.of_target(target, seconds);
            let set = Label::from(format!("clients{}-{identity}", family.number()));
            let chain = Label::from(format!("end{}-{identity}", family.number()));
            plan.sets.insert(Label::clone(&set), (family, seconds));
            let send = self.send(vec![target], Some(Label::clone(&set)));
            plan.chains.insert(Label::clone(&chain), vec![send]);
            rules.push(Rule::Known { family, set, chain: Label::clone(&chain) });
            chains.push(chain);
        }
        rules.push(Rule::Choose(chains));
        rules
    }

    /// Makes a chain, and returns what leads there.
    fn chain(&self, kind: &str, rules: Vec<Rule>, plan: &mut Plan) -> Verdict {
        let name = Label::from(format!("{kind}{}-{}", self.family.number(), self.identity.long()));
        plan.chains.insert(Label::clone(&name), rules);
        Verdict::Goto(name)
    }
}

const fn scope(local_only: bool) -> Scope {
    if local_only { Scope::Local } else { Scope::All }
}
