//! What belongs to no pod: in the runtime, and in the folders of pods and logs, where a crash in the
//! middle of a removal may have left something.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tracing::info;

use super::Pods;
use crate::pod::names;
use crate::pod::spec::{Metadata, Pod};
use crate::runtime::Trace;
use crate::worker::Order;

impl Pods {
    /// Begins the end of what belongs to no pod, once it is known which there are.
    pub(super) fn adopt(&mut self) {
        if !self.told || self.statics.is_none() {
            return;
        }
        let mut traces = self.traces.clone();
        let first = !std::mem::replace(&mut self.searched, true);
        if first {
            let config = &self.host.config;
            traces.extend(in_folders(&config.root.join("pods"), &config.logs));
        }
        let wanted: Vec<_> =
            self.statics.iter().flatten().map(|it| it.pod.metadata.uid.clone()).collect();
        for trace in traces {
            if self.orders.contains_key(&trace.uid) || wanted.contains(&trace.uid) {
                continue;
            }
            let Trace { uid, namespace, name } = &trace;
            info!(%namespace, %name, %uid, "something is left of a pod that is gone: it is removed");
            self.begin(Self::remains_of(&trace));
        }
        if first {
            // Whatever else has devices went while nobody was here to take them back.
            self.host.devices.retain(self.orders.keys().cloned().chain(wanted).collect());
        }
    }

    /// Returns the order to remove what is left of a pod of which nothing else is known.
    pub(super) fn remains_of(trace: &Trace) -> Order {
        let Trace { uid, namespace, name } = trace.clone();
        let metadata = Metadata { name, namespace, uid, ..Metadata::default() };
        let pod = Arc::new(Pod { metadata, ..Pod::default() });
        Order { removed: true, ..Order::new(pod) }
    }
}

/// Finds the pods that have a folder for their volumes or their logs.
fn in_folders(pods: &Path, logs: &Path) -> Vec<Trace> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let of_logs = names(logs).into_iter().filter_map(|folder| {
        let mut parts = folder.splitn(3, '_').map(str::to_owned);
        let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Trace { uid, namespace, name })
    });
    let mut found: Vec<Trace> = of_logs.collect();
    for uid in names(pods) {
        if !found.iter().any(|trace| trace.uid == uid) {
            found.push(Trace { uid, namespace: String::new(), name: String::new() });
        }
    }
    found.retain(|trace| names::is_plain(&trace.uid));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_name_their_pods() {
        let folder = tempfile::tempdir().unwrap();
        let (pods, logs) = (folder.path().join("pods"), folder.path().join("logs"));
        for path in [pods.join("u1"), pods.join("u2"), logs.join("ns_web_u1"), logs.join("odd")] {
            fs::create_dir_all(path).unwrap();
        }
        let trace = |uid: &str, namespace: &str, name: &str| Trace {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(in_folders(&pods, &logs), [trace("u1", "ns", "web"), trace("u2", "", "")]);
        assert_eq!(in_folders(&folder.path().join("no"), &folder.path().join("no")), []);
    }
}
