//! Pods that are new here are admitted, or refused for good as kubelet refuses them.

use std::sync::Arc;

use tokio::sync::watch::Sender;

use super::Pods;
use crate::admission;
use crate::node::host;
use crate::notes::About;
use crate::pod::amounts::Room;
use crate::pod::last::LastStatus;
use crate::pod::spec::Pod;
use crate::status::Verdict;
use crate::worker::Order;

impl Pods {
    /// Returns why a new pod cannot run beside those that are here. One that runs already stays.
    pub(super) fn refusal(&self, pod: &Pod) -> Option<Verdict> {
        let is_mine = self.traces.iter().any(|trace| trace.uid == pod.metadata.uid);
        let is_new = matches!(pod.status.phase.as_str(), "" | "Pending");
        if is_mine || !is_new || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let counts = |(uid, order): (&String, &Sender<Order>)| {
            let order = order.borrow();
            let told = self.statuses.get(uid).map(|told| LastStatus::told(&told.borrow()));
            let over = order.pod.status.is_over() || told.is_some_and(|told| told.is_over());
            (!over && order.refused.is_none()).then(|| Arc::clone(&order.pod))
        };
        let here: Vec<Arc<Pod>> = self.orders.iter().filter_map(counts).collect();
        let config = &self.host.config;
        let facts = self.host.facts.borrow();
        let room = Room {
            cpu: facts.cpu,
            memory: facts.room,
            storage: facts.storage,
            pods: config.max_pods.into(),
        };
        let bears = admission::bears(pod, &self.host.pressures.borrow());
        let may = || admission::may(pod, &config.unsafe_sysctls, host::has_armor());
        let fits = || admission::fits(pod, here.iter().map(|it| &**it), &room);
        let stays = if self.leaving { Err(admission::leaving()) } else { Ok(()) };
        let verdict = stays.and(bears).and_then(|()| may()).and_then(|()| fits()).err()?;
        self.host.notes.warning(About::pod(pod), verdict.reason, verdict.message.clone());
        Some(verdict.rejects())
    }
}
