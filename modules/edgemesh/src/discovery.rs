//! Which services there are, learned from the objects of the store: metamanager gives the whole set
//! of each type at every connection, then each change. No IO.

mod objects;
mod rules;
#[cfg(test)]
mod tests;
pub mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipc_proto::{Kind, Message, Operation, Resource, Scope};
use serde_json::value::RawValue;
use tracing::warn;

use crate::model::{Endpoint, Kind as ServiceKind, Name, Policy, Service};
use crate::services::{Backed, Table};
use crate::stand_ins::StandIns;

/// The types of objects that tell of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Service,
    Slice,
    Endpoints,
    Rule,
}

impl Sort {
    /// Returns the sort of a type's objects, and whether the type is a list of such.
    const fn of(kind: &Kind) -> Option<(Self, bool)> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the mesh reads no others")]
        match kind {
            Kind::Service => Some((Self::Service, false)),
            Kind::ServiceList => Some((Self::Service, true)),
            Kind::EndpointSlice => Some((Self::Slice, false)),
            Kind::Endpoints => Some((Self::Endpoints, false)),
            Kind::EndpointsList => Some((Self::Endpoints, true)),
            Kind::DestinationRule => Some((Self::Rule, false)),
            _ => None,
        }
    }
}

/// The sorts whose sets have to come before the table is complete.
const SETS: [Sort; 4] = [Sort::Service, Sort::Slice, Sort::Endpoints, Sort::Rule];

/// A slice: its service and its endpoints.
#[derive(Debug, PartialEq, Eq)]
struct Slice {
    service: Name,
    endpoints: Vec<Endpoint>,
}

/// What the objects say.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    services: BTreeMap<Name, (Service, bool)>,
    /// By their own names.
    slices: BTreeMap<Name, Slice>,
    /// The slices of each service.
    parts: BTreeMap<Name, BTreeSet<Name>>,
    /// Of services that have no slices.
    endpoints: BTreeMap<Name, Vec<Endpoint>>,
    /// How endpoints are chosen, by the names of the services.
    rules: BTreeMap<Name, Policy>,
    /// The types whose sets have come.
    known: Vec<Sort>,
    table: Arc<Table>,
    /// Nothing where all pods are given out as they are.
    stand_ins: Option<StandIns>,
}

impl Discovery {
    /// Has pods of headless services that cannot be reached given out under other addresses.
    pub(crate) fn new(stand_ins: Option<StandIns>) -> Self {
        Self { stand_ins, ..Self::default() }
    }

    /// Takes a message of the store. Returns whether the mesh has a use for such.
    pub(crate) fn take(&mut self, message: &Message) -> bool {
        let Resource::Object { scope, kind, name } = &message.route.resource else { return false };
        let content = message.content.raw();
        let operation = &message.route.operation;
        let Some((sort, is_list)) = Sort::of(kind) else {
            // Where a pod is, its endpoints tell.
            return matches!(kind, Kind::Node | Kind::Pod | Kind::PodList);
        };
        let mut touched = BTreeSet::new();
        match (operation, name, scope) {
            (Operation::Delete, Some(name), Scope::Namespace(namespace)) if !is_list => {
                let name = Name { namespace: namespace.clone(), name: name.clone() };
                self.forget(sort, &name, &mut touched);
            }
            (Operation::Insert | Operation::Update, None, Scope::Cluster) if !is_list => {
                self.replace(sort, content, &mut touched);
            }
            (Operation::Insert | Operation::Update, _, _) if is_list => {
                for object in objects_of(sort, content) {
                    self.put(sort, object.get().as_bytes(), None, &mut touched);
                }
            }
            (Operation::Insert | Operation::Update, Some(name), Scope::Namespace(namespace)) => {
                let name = Name { namespace: namespace.clone(), name: name.clone() };
                self.put(sort, content, Some(&name), &mut touched);
            }
            _ => return false,
        }
        for name in touched {
            self.settle(name);
        }
        true
    }

    /// Returns the table of whole sets, each an array: services, slices, endpoints, rules.
    pub(crate) fn of_sets(sets: [&[u8]; 4], stand_ins: Option<StandIns>) -> Arc<Table> {
        let (mut discovery, mut touched) = (Self::new(stand_ins), BTreeSet::new());
        for (sort, content) in SETS.into_iter().zip(sets) {
            discovery.replace(sort, content, &mut touched);
        }
        touched.into_iter().for_each(|name| discovery.settle(name));
        discovery.table
    }

    /// Returns the table; nothing before the store has told what there is.
    pub(crate) fn table(&self) -> Option<Arc<Table>> {
        let is_complete = SETS.iter().all(|sort| self.known.contains(sort));
        is_complete.then(|| Arc::clone(&self.table))
    }

    /// Takes all objects of a type: what is not among them is gone.
    fn replace(&mut self, sort: Sort, content: &[u8], touched: &mut BTreeSet<Name>) {
        match sort {
            Sort::Service => touched.extend(std::mem::take(&mut self.services).into_keys()),
            Sort::Slice => {
                let slices = std::mem::take(&mut self.slices);
                touched.extend(slices.into_values().map(|slice| slice.service));
                self.parts.clear();
            }
            Sort::Endpoints => touched.extend(std::mem::take(&mut self.endpoints).into_keys()),
            Sort::Rule => touched.extend(std::mem::take(&mut self.rules).into_keys()),
        }
        for object in objects_of(sort, content) {
            self.put(sort, object.get().as_bytes(), None, touched);
        }
        if !self.known.contains(&sort) {
            self.known.push(sort);
        }
    }

    /// Takes an object. One that cannot be read is as good as none.
    fn put(
        &mut self,
        sort: Sort,
        object: &[u8],
        name: Option<&Name>,
        touched: &mut BTreeSet<Name>,
    ) {
        if let Some(name) = name {
            self.forget(sort, name, touched);
        }
        if let Err(error) = self.read(sort, object, name, touched) {
            let name = name.map_or_else(|| "of a set".to_owned(), Name::to_string);
            warn!("{sort:?} {name} is passed over: {error}");
        }
    }

    fn read(
        &mut self,
        sort: Sort,
        object: &[u8],
        expected: Option<&Name>,
        touched: &mut BTreeSet<Name>,
    ) -> Result<(), String> {
        let amiss = |error: serde_json::Error| error.to_string();
        let check = |name: &Name| match expected {
            Some(expected) if expected != name => Err(format!("it calls itself {name}")),
            Some(_) | None => Ok(()),
        };
        match sort {
            Sort::Service => {
                let service: objects::Service = serde_json::from_slice(object).map_err(amiss)?;
                let (name, service, is_carried) = service.read()?;
                check(&name)?;
                touched.insert(name.clone());
                self.services.insert(name, (service, is_carried));
            }
            Sort::Slice => {
                let slice: objects::EndpointSlice =
                    serde_json::from_slice(object).map_err(amiss)?;
                let (name, of) = slice.read()?;
                check(&name)?;
                self.forget(sort, &name, touched);
                if let Some(slice) = of {
                    touched.insert(slice.service.clone());
                    self.parts.entry(slice.service.clone()).or_default().insert(name.clone());
                    self.slices.insert(name, slice);
                }
            }
            Sort::Endpoints => {
                let endpoints: objects::Endpoints =
                    serde_json::from_slice(object).map_err(amiss)?;
                let (name, endpoints) = endpoints.read()?;
                check(&name)?;
                touched.insert(name.clone());
                self.endpoints.insert(name, endpoints);
            }
            Sort::Rule => {
                let rule: rules::DestinationRule = serde_json::from_slice(object).map_err(amiss)?;
                let (name, policy) = rule.read()?;
                check(&name)?;
                touched.insert(name.clone());
                match policy {
                    Some(policy) => drop(self.rules.insert(name, policy)),
                    None => drop(self.rules.remove(&name)),
                }
            }
        }
        Ok(())
    }

    fn forget(&mut self, sort: Sort, name: &Name, touched: &mut BTreeSet<Name>) {
        match sort {
            Sort::Service => {
                self.services.remove(name);
                touched.insert(name.clone());
            }
            Sort::Slice => {
                let Some(Slice { service, .. }) = self.slices.remove(name) else { return };
                if let Some(parts) = self.parts.get_mut(&service) {
                    parts.remove(name);
                    if parts.is_empty() {
                        self.parts.remove(&service);
                    }
                }
                touched.insert(service);
            }
            Sort::Endpoints => {
                self.endpoints.remove(name);
                touched.insert(name.clone());
            }
            Sort::Rule => {
                self.rules.remove(name);
                touched.insert(name.clone());
            }
        }
    }

    /// Brings the table up to date about a service.
    fn settle(&mut self, name: Name) {
        let mut endpoints = self.endpoints_of(&name);
        let backed = self.services.get(&name).map(|(service, is_carried)| {
            if let (ServiceKind::Headless, true, Some(all)) =
                (&service.kind, is_carried, &mut self.stand_ins)
            {
                endpoints.iter_mut().for_each(|endpoint| endpoint.stand_in = all.of(endpoint));
            }
            let service = Service {
                // what the service says itself counts before what is said of it
                policy: service.policy.clone().or_else(|| self.rules.get(&name).cloned()),
                ..service.clone()
            };
            Backed { service, endpoints, is_carried: *is_carried }
        });
        if self.table.get(&name).map(|backed| &**backed) == backed.as_ref() {
            return;
        }
        let table = Arc::make_mut(&mut self.table);
        match backed {
            Some(backed) => drop(table.insert(name, Arc::new(backed))),
            None => drop(table.remove(&name)),
        }
    }

    /// Returns a service's endpoints, each once: while endpoints move between slices, one can be in
    /// two.
    fn endpoints_of(&self, name: &Name) -> Vec<Endpoint> {
        let Some(parts) = self.parts.get(name) else {
            return self.endpoints.get(name).cloned().unwrap_or_default();
        };
        let mut seen = BTreeSet::new();
        let slices = parts.iter().filter_map(|part| self.slices.get(part));
        let all = slices.flat_map(|slice| &slice.endpoints);
        all.filter(|it| seen.insert((it.address, &it.node, &it.ports))).cloned().collect()
    }
}

/// Returns the elements of a list.
fn objects_of(sort: Sort, content: &[u8]) -> Vec<&RawValue> {
    serde_json::from_slice(content).unwrap_or_else(|error| {
        warn!("the store's list of {sort:?} is passed over: {error}");
        Vec::new()
    })
}
