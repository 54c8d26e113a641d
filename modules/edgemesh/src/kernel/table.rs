//! What is in the kernel for all services, and the transactions that bring it there. No IO.
//!
//! A service's chains and sets are its own. The elements of shared maps can be wanted by several
//! (two services that name one external address, one pod behind two services): the first by name
//! has it, and the next gets it when that one goes.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::rc::Rc;

use super::flows::{Ends, Front};
use super::service::Plan;
use super::words::{Element, Label, Step, Verdict};
use crate::model::Name;

/// How many elements stand in one step.
const ELEMENTS: usize = 256;

/// What all services want of the kernel.
#[derive(Debug, Default)]
pub(crate) struct Table {
    plans: BTreeMap<Rc<Name>, Plan>,
    /// Who wants each element of a shared map, in the order of names.
    claims: BTreeMap<Element, Vec<Rc<Name>>>,
}

/// What new plans change.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// What the kernel has to do.
    pub(super) steps: Vec<Step>,
    /// Where flows of datagrams may end from now on, at the fronts for which that is new.
    pub(super) flows: BTreeMap<Front, Ends>,
}

impl Table {
    /// Takes new plans, an empty one for a service that is gone, and returns the difference.
    pub(crate) fn update(&mut self, changes: BTreeMap<Name, Plan>) -> Difference {
        let mut touched = BTreeSet::new();
        for (name, plan) in &changes {
            touched.extend(self.plans.get(name).into_iter().flat_map(|old| old.elements.keys()));
            touched.extend(plan.elements.keys());
        }
        let touched: Vec<Element> = touched.into_iter().copied().collect();
        let before: Vec<_> = touched.iter().map(|it| self.verdict(it).cloned()).collect();
        let mut script = Script::default();
        let mut flows = BTreeMap::new();
        for (name, plan) in changes {
            let name = Rc::new(name);
            let old = self.replace(&name, plan);
            let none = Plan::default();
            let new = self.plans.get(&name).unwrap_or(&none);
            script.objects(&old, new);
            let gone = old.flows.keys().filter(|front| !new.flows.contains_key(front));
            for front in gone {
                flows.entry(*front).or_insert(Ends::NONE);
            }
            let changed =
                new.flows.iter().filter(|(front, ends)| old.flows.get(front) != Some(ends));
            flows.extend(changed.map(|(front, ends)| (*front, ends.clone())));
        }
        for (element, before) in touched.iter().zip(before) {
            script.element(*element, before.as_ref(), self.verdict(element));
        }
        Difference { steps: script.finish(), flows }
    }

    /// Returns the transaction that replaces the whole table.
    pub(crate) fn full(&self) -> Vec<Step> {
        let mut script = Script::default();
        for plan in self.plans.values() {
            script.objects(&Plan::default(), plan);
        }
        for element in self.claims.keys() {
            script.element(*element, None, self.verdict(element));
        }
        let mut steps = vec![Step::Remove, Step::Make];
        steps.extend(script.finish());
        steps
    }

    /// Returns the number of services.
    pub(crate) fn len(&self) -> usize {
        self.plans.len()
    }

    /// Returns the names of the services.
    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.plans.keys().map(|name| &**name)
    }

    fn replace(&mut self, name: &Rc<Name>, plan: Plan) -> Plan {
        let old = self.plans.remove(name).unwrap_or_default();
        for element in old.elements.keys() {
            if let Some(names) = self.claims.get_mut(element) {
                names.retain(|it| it != name);
                if names.is_empty() {
                    self.claims.remove(element);
                }
            }
        }
        for element in plan.elements.keys() {
            let names = self.claims.entry(*element).or_default();
            let place = names.partition_point(|it| it < name);
            names.insert(place, Rc::clone(name));
        }
        if plan != Plan::default() {
            self.plans.insert(Rc::clone(name), plan);
        }
        old
    }

    /// Returns what an element says, which in a set is nothing: the word of the first that wants it.
    fn verdict(&self, element: &Element) -> Option<&Option<Verdict>> {
        let first = self.claims.get(element)?.first()?;
        self.plans.get(first)?.elements.get(element)
    }
}

/// A transaction in the making, its parts in the order in which the kernel can follow.
#[derive(Debug, Default)]
struct Script {
    make: Vec<Step>,
    fill: Vec<Step>,
    take: BTreeMap<&'static str, Vec<Element>>,
    put: BTreeMap<&'static str, Vec<(Element, Option<Verdict>)>>,
    empty: Vec<Step>,
    remove_chains: Vec<Step>,
    remove_sets: Vec<Step>,
}

impl Script {
    /// Adds what leads from one plan's own chains and sets to another's.
    fn objects(&mut self, before: &Plan, after: &Plan) {
        for (set, (family, seconds)) in &after.sets {
            if !before.sets.contains_key(set) {
                self.make.push(Step::Clients(Label::clone(set), *family, *seconds));
            }
        }
        let gone = before.sets.keys().filter(|set| !after.sets.contains_key(*set));
        self.remove_sets.extend(gone.cloned().map(Step::RemoveClients));
        for (chain, rules) in &after.chains {
            match before.chains.get(chain) {
                Some(old) if old == rules => continue,
                Some(_) => self.fill.push(Step::Flush(Label::clone(chain))),
                None => self.make.push(Step::Chain(Label::clone(chain))),
            }
            let rule = |rule| Step::Rule(Label::clone(chain), rule);
            self.fill.extend(rules.iter().cloned().map(rule));
        }
        for chain in before.chains.keys().filter(|chain| !after.chains.contains_key(*chain)) {
            self.empty.push(Step::Flush(Label::clone(chain)));
            self.remove_chains.push(Step::RemoveChain(Label::clone(chain)));
        }
    }

    /// Adds what leads from one verdict of an element to another.
    fn element(
        &mut self,
        element: Element,
        before: Option<&Option<Verdict>>,
        after: Option<&Option<Verdict>>,
    ) {
        if before == after {
            return;
        }
        if before.is_some() {
            self.take.entry(element.set()).or_default().push(element);
        }
        if let Some(verdict) = after {
            self.put.entry(element.set()).or_default().push((element, verdict.clone()));
        }
    }

    fn finish(mut self) -> Vec<Step> {
        let mut steps = take(&mut self.make);
        steps.append(&mut self.fill);
        let taken = self.take.values().flat_map(|all| all.chunks(ELEMENTS));
        steps.extend(taken.map(|some| Step::Take(some.to_vec())));
        let put = self.put.values().flat_map(|all| all.chunks(ELEMENTS));
        steps.extend(put.map(|some| Step::Put(some.to_vec())));
        for mut part in [self.empty, self.remove_chains, self.remove_sets] {
            steps.append(&mut part);
        }
        steps
    }
}
