//! Static pods among the others, and what the cloud shows of them.

use std::sync::Arc;

use ipc_proto::{Content, Kind, Operation};
use serde_json::json;
use tracing::{info, warn};

use super::Pods;
use crate::pod::last::LastStatus;
use crate::pod::spec::Pod;
use crate::statics::{self, Static};
use crate::store::{Store, object};
use crate::worker::{Local, Mirror, Order};

impl Pods {
    /// Takes all static pods that there are now.
    pub(crate) fn set_statics(&mut self, pods: Vec<Static>) {
        for (uid, order) in &self.orders {
            let wanted = pods.iter().any(|it| it.pod.metadata.uid == *uid);
            order.send_if_modified(|order| {
                let changes = order.local.is_some() && order.removed == wanted;
                order.removed ^= changes;
                changes
            });
        }
        self.statics = Some(pods);
        self.begin_statics();
        self.adopt();
        self.drop_mirrors();
    }

    /// Begins the static pods that do not run yet, each once no earlier one of its name is left.
    pub(super) fn begin_statics(&mut self) {
        if !self.listed {
            // Without the runtime's word an earlier one cannot be told from none.
            return;
        }
        let mut new = Vec::new();
        for Static { pod, object } in self.statics.iter().flatten() {
            let metadata = &pod.metadata;
            let name = (metadata.namespace.clone(), metadata.name.clone());
            let is_name = |order: &Order| {
                let own = &order.pod.metadata;
                (&own.namespace, &own.name) == (&name.0, &name.1)
            };
            if self.orders.values().any(|order| is_name(&order.borrow())) {
                continue;
            }
            let earlier = self.traces.iter().find(|trace| {
                (&trace.namespace, &trace.name) == (&name.0, &name.1) && trace.uid != metadata.uid
            });
            if let Some(earlier) = earlier {
                // No other pod has its name, so this is what it was before its manifest changed.
                new.push(Self::remains_of(earlier));
                continue;
            }
            let object: Arc<str> = (**object).into();
            let mut order = Order::new(Arc::new(pod.clone()));
            order.local = Some(Local { object, mirror: None });
            order.refused = self.refusal(pod);
            if let Some((mirror, status)) = self.mirrors.get(&name) {
                attach(&mut order, mirror, status);
            }
            new.push(order);
        }
        new.into_iter().for_each(|order| self.begin(order));
    }

    /// Takes what the cloud shows of a static pod.
    pub(super) fn mirror(&mut self, pod: Pod) {
        let hash = statics::mirrored(&pod).unwrap_or_default().to_owned();
        let Pod { metadata, status, .. } = pod;
        let ending = metadata.deletion_timestamp.is_some();
        let mirror = Mirror { uid: metadata.uid, hash, ending };
        let name = (metadata.namespace, metadata.name);
        self.mirrors.insert(name.clone(), (mirror, status));
        self.show_mirror(&name);
        if self.told {
            self.drop_mirrors();
        }
    }

    /// Tells the static pod of a name what the cloud shows of it.
    pub(super) fn show_mirror(&self, name: &(String, String)) {
        let shown = self.mirrors.get(name);
        for order in self.orders.values() {
            order.send_if_modified(|order| {
                let metadata = &order.pod.metadata;
                let meant = (&metadata.namespace, &metadata.name) == (&name.0, &name.1);
                let Some(local) = order.local.as_mut().filter(|_| meant) else { return false };
                match shown {
                    Some((mirror, _)) if local.mirror.as_ref() == Some(mirror) => return false,
                    Some((mirror, status)) => attach(order, mirror, status),
                    None => local.mirror = None,
                }
                true
            });
        }
    }

    /// Takes it that the cloud does not show a static pod any more.
    pub(super) fn mirror_gone(&mut self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let gone = self.mirrors.get(&key).is_some_and(|(it, _)| uid.is_empty() || it.uid == uid);
        if gone {
            self.mirrors.remove(&key);
            self.show_mirror(&key);
        }
        self.dropped.remove(uid);
    }

    /// Has the mirrors deleted whose static pods are gone.
    pub(super) fn drop_mirrors(&mut self) {
        let Some(statics) = &self.statics else { return };
        for ((namespace, name), (mirror, _)) in &self.mirrors {
            let is_named = |pod: &Pod| pod.metadata.is_named(namespace, name);
            let kept = statics.iter().any(|it| is_named(&it.pod))
                || self.orders.values().any(|order| is_named(&order.borrow().pod));
            if kept || !self.dropped.insert(mirror.uid.clone()) {
                continue;
            }
            info!(%namespace, %name, "a static pod is gone: its mirror is deleted");
            let drop = drop_mirror(
                self.host.store.clone(),
                namespace.clone(),
                name.clone(),
                mirror.uid.clone(),
            );
            tokio::spawn(drop);
        }
    }
}

/// Gives a static pod its mirror, and what was reported of it before.
fn attach(order: &mut Order, mirror: &Mirror, status: &LastStatus) {
    let Some(local) = &mut order.local else { return };
    if mirror.hash == statics::hash(&order.pod) {
        let mut pod = (*order.pod).clone();
        // How far it is, only what runs here can tell.
        pod.status = LastStatus { phase: String::new(), ..status.clone() };
        order.pod = Arc::new(pod);
    }
    local.mirror = Some(mirror.clone());
}

/// Asks the cloud to delete a mirror; returns when that cannot be forgotten any more.
pub(crate) async fn drop_mirror(store: Store, namespace: String, name: String, uid: String) {
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
    let content = Content::from_raw(options.to_string().into());
    let resource = object(&namespace, Kind::Pod, &name);
    if let Err(error) = store.tell(Operation::Delete, resource, content).await {
        warn!(%namespace, %name, "cannot ask for the deletion of a mirror: {error}");
    }
}
