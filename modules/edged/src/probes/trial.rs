//! A trial of what servers in containers say to probes.

use super::http::{Target, follow};

/// Where a server sends a probe.
///
/// # Panics
/// When that is another host.
pub(crate) fn redirection(location: &str) {
    let from = Target { https: false, host: "10.0.0.1".into(), port: 80, path: "/a/b".into() };
    if let Ok(Some(to)) = follow(&from, location) {
        assert_eq!(to.host, from.host, "a probe stays with its host");
    }
}
