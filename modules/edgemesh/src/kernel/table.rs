//! What is in the kernel for all services, and the scripts that bring it there. No IO.
//!
//! A service's chains and sets are its own. The elements of shared maps can be wanted by several
//! (two services that name one external address, one pod behind two services): the first by name
//! has it, and the next gets it when that one goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::service::{Element, Plan};
use crate::model::Name;

/// The table's name.
pub(super) const NAME: &str = "edgemesh";

/// The table, in nft's words.
pub(super) const TABLE: &str = "inet edgemesh";

/// What stands in the table whatever services there are.
///
/// The chains look at the first packet of a connection, before those of others at the usual
/// priorities; bit 0x4000 of the mark is the one by which Kubernetes asks for masquerading.
const SKELETON: &[&str] = &[
    "add map inet edgemesh services4 { type ipv4_addr . inet_proto . inet_service : verdict ; }",
    "add map inet edgemesh services6 { type ipv6_addr . inet_proto . inet_service : verdict ; }",
    "add map inet edgemesh ports4 { type inet_proto . inet_service : verdict ; }",
    "add map inet edgemesh ports6 { type inet_proto . inet_service : verdict ; }",
    "add set inet edgemesh addresses4 { type ipv4_addr ; }",
    "add set inet edgemesh addresses6 { type ipv6_addr ; }",
    "add set inet edgemesh hairpin4 { type ipv4_addr . ipv4_addr ; }",
    "add set inet edgemesh hairpin6 { type ipv6_addr . ipv6_addr ; }",
    "add set inet edgemesh listeners { type inet_proto . inet_service ; }",
    "add chain inet edgemesh refuse",
    "add rule inet edgemesh refuse meta l4proto tcp reject with tcp reset",
    "add rule inet edgemesh refuse reject with icmpx port-unreachable",
    "add chain inet edgemesh snat-later",
    "add rule inet edgemesh snat-later meta mark set meta mark or 0x4000",
    "add chain inet edgemesh dispatch",
    "add rule inet edgemesh dispatch ip daddr . meta l4proto . th dport vmap @services4",
    "add rule inet edgemesh dispatch ip6 daddr . meta l4proto . th dport vmap @services6",
    "add rule inet edgemesh dispatch ip daddr @addresses4 goto refuse",
    "add rule inet edgemesh dispatch ip6 daddr @addresses6 goto refuse",
    "add rule inet edgemesh dispatch ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @ports4",
    "add rule inet edgemesh dispatch ip6 daddr != ::1 fib daddr type local meta l4proto . th dport vmap @ports6",
    "add chain inet edgemesh prerouting { type nat hook prerouting priority -105 ; }",
    "add rule inet edgemesh prerouting goto dispatch",
    "add chain inet edgemesh output { type nat hook output priority -105 ; }",
    "add rule inet edgemesh output goto dispatch",
    "add chain inet edgemesh postrouting { type nat hook postrouting priority 95 ; }",
    "add rule inet edgemesh postrouting meta mark & 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random",
    "add rule inet edgemesh postrouting ct status dnat ip saddr . ip daddr @hairpin4 masquerade fully-random",
    "add rule inet edgemesh postrouting ct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade fully-random",
    "add chain inet edgemesh input { type filter hook input priority -1 ; }",
    "add rule inet edgemesh input meta l4proto . th dport @listeners ct status & dnat == 0 goto refuse",
];

/// How many elements stand in one line.
const ELEMENTS: usize = 256;

/// What all services want of the kernel.
#[derive(Debug, Default)]
pub(crate) struct Table {
    plans: BTreeMap<Name, Plan>,
    /// Who wants each element of a shared map.
    claims: BTreeMap<Element, BTreeSet<Name>>,
}

impl Table {
    /// Takes new plans, an empty one for a service that is gone, and returns the script that
    /// makes the difference; nothing when there is none.
    pub(crate) fn update(&mut self, changes: BTreeMap<Name, Plan>) -> Option<String> {
        let elements = |plan: &Plan| plan.elements.keys().cloned().collect::<Vec<_>>();
        let mut touched = BTreeSet::new();
        for (name, plan) in &changes {
            touched.extend(self.plans.get(name).map(elements).unwrap_or_default());
            touched.extend(elements(plan));
        }
        let before: Vec<Option<String>> =
            touched.iter().map(|element| self.verdict(element).cloned()).collect();
        let mut script = Script::default();
        for (name, plan) in changes {
            let old = self.replace(name.clone(), plan);
            let none = Plan::default();
            script.objects(&old, self.plans.get(&name).unwrap_or(&none));
        }
        for (element, before) in touched.iter().zip(before) {
            script.element(element, before.as_ref(), self.verdict(element));
        }
        script.finish()
    }

    /// Returns the script that replaces the whole table.
    pub(crate) fn full(&self) -> String {
        let mut text = removal();
        line(&mut text, format_args!("add table {TABLE}"));
        for line in SKELETON {
            text.push_str(line);
            text.push('\n');
        }
        let mut script = Script::default();
        for plan in self.plans.values() {
            script.objects(&Plan::default(), plan);
        }
        for element in self.claims.keys() {
            script.element(element, None, self.verdict(element));
        }
        text.push_str(&script.finish().unwrap_or_default());
        text
    }

    /// Returns the number of services.
    pub(crate) fn len(&self) -> usize {
        self.plans.len()
    }

    /// Returns the names of the services.
    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.plans.keys()
    }

    fn replace(&mut self, name: Name, plan: Plan) -> Plan {
        let old = self.plans.remove(&name).unwrap_or_default();
        for element in old.elements.keys() {
            if let Some(names) = self.claims.get_mut(element) {
                names.remove(&name);
                if names.is_empty() {
                    self.claims.remove(element);
                }
            }
        }
        for element in plan.elements.keys() {
            self.claims.entry(element.clone()).or_default().insert(name.clone());
        }
        if plan != Plan::default() {
            self.plans.insert(name, plan);
        }
        old
    }

    /// Returns what an element says: the word of the first that wants it.
    fn verdict(&self, element: &Element) -> Option<&String> {
        let first = self.claims.get(element)?.first()?;
        self.plans.get(first)?.elements.get(element)
    }
}

/// Returns the script that removes the table, which need not be there.
pub(super) fn removal() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}

/// A script in the making, its parts in the order in which the kernel can follow.
#[derive(Debug, Default)]
struct Script {
    make: String,
    fill: String,
    take: BTreeMap<String, Vec<String>>,
    put: BTreeMap<String, Vec<String>>,
    empty: String,
    remove_chains: String,
    remove_sets: String,
}

impl Script {
    /// Adds what leads from one plan's own chains and sets to another's.
    fn objects(&mut self, before: &Plan, after: &Plan) {
        for (set, how) in &after.sets {
            if !before.sets.contains_key(set) {
                line(&mut self.make, format_args!("add set {TABLE} {set} {{ {how} }}"));
            }
        }
        for set in before.sets.keys().filter(|set| !after.sets.contains_key(*set)) {
            line(&mut self.remove_sets, format_args!("delete set {TABLE} {set}"));
        }
        for (chain, rules) in &after.chains {
            match before.chains.get(chain) {
                Some(old) if old == rules => continue,
                Some(_) => line(&mut self.fill, format_args!("flush chain {TABLE} {chain}")),
                None => line(&mut self.make, format_args!("add chain {TABLE} {chain}")),
            }
            for rule in rules {
                line(&mut self.fill, format_args!("add rule {TABLE} {chain} {rule}"));
            }
        }
        for chain in before.chains.keys().filter(|chain| !after.chains.contains_key(*chain)) {
            line(&mut self.empty, format_args!("flush chain {TABLE} {chain}"));
            line(&mut self.remove_chains, format_args!("delete chain {TABLE} {chain}"));
        }
    }

    /// Adds what leads from one verdict of an element to another.
    fn element(&mut self, element: &Element, before: Option<&String>, after: Option<&String>) {
        if before == after {
            return;
        }
        let (set, key) = element;
        let text = |verdict: &String| match &**verdict {
            "" => key.clone(),
            verdict => format!("{key} : {verdict}"),
        };
        if let Some(verdict) = before {
            self.take.entry(set.clone()).or_default().push(text(verdict));
        }
        if let Some(verdict) = after {
            self.put.entry(set.clone()).or_default().push(text(verdict));
        }
    }

    fn finish(self) -> Option<String> {
        let mut text = self.make;
        text.push_str(&self.fill);
        for (word, sets) in [("delete", self.take), ("add", self.put)] {
            for (set, elements) in sets {
                for some in elements.chunks(ELEMENTS) {
                    let some = some.join(", ");
                    line(&mut text, format_args!("{word} element {TABLE} {set} {{ {some} }}"));
                }
            }
        }
        for part in [self.empty, self.remove_chains, self.remove_sets] {
            text.push_str(&part);
        }
        (!text.is_empty()).then_some(text)
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a string takes everything");
}
