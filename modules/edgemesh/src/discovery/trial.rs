//! A trial of the objects that services are made of.

use crate::services::Table;

use super::Discovery;

/// Sets of services, slices, endpoints and rules, with zeros between them.
///
/// # Panics
/// When one has no name, or a port that is none.
pub fn objects(data: &[u8]) {
    let mut sets = data.split(|byte| *byte == 0);
    let sets = [(); 4].map(|()| sets.next().unwrap_or(b"[]"));
    let table: &Table = &Discovery::of_sets(sets, None);
    for (name, backed) in table {
        assert!(!name.name.is_empty() && !name.namespace.is_empty(), "{name:?}");
        assert!(backed.service.ports.iter().all(|port| port.port != 0), "{backed:?}");
    }
}
