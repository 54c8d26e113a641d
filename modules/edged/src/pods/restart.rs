//! A pod's containers are stopped because somebody on the node wants them anew; what follows is the
//! pod's own restart policy.

use std::time::Duration;

use module_runtime::Delivery;
use tracing::{info, warn};

use super::Pods;
use crate::cri::Runtime;
use crate::cri::words as w;
use crate::pod::names;

/// How long containers have to end by themselves: as long as KubeEdge gives them.
const GRACE: Duration = Duration::from_secs(3);

impl Pods {
    /// Has the containers of a pod stopped, and answers who wants it.
    pub(crate) fn restart(&self, namespace: &str, name: &str, delivery: Delivery) {
        let uid = self.orders.iter().find_map(|(uid, order)| {
            let order = order.borrow();
            let is_it = order.pod.metadata.is_named(namespace, name) && !order.removed;
            is_it.then(|| uid.clone())
        });
        let Some(uid) = uid else {
            answer(delivery, Err(format!("not found pod:\"/{namespace}/{name}\"")));
            return;
        };
        info!(%namespace, pod = %name, "the pod's containers are stopped, as wanted");
        let runtime = self.host.runtime.clone();
        tokio::spawn(async move { answer(delivery, stop(&runtime, &uid).await) });
    }
}

async fn stop(runtime: &Runtime, uid: &str) -> Result<(), String> {
    let (_, containers) = runtime.list(names::selector(uid)).await.map_err(|it| it.to_string())?;
    let running: Vec<_> = containers
        .into_iter()
        .filter(|container| container.state() == w::ContainerState::Running)
        .collect();
    if running.is_empty() {
        return Err("no container of the pod runs".to_owned());
    }
    for container in running {
        let stopped = runtime.stop_container(&container.id, GRACE).await;
        let name = container.metadata.unwrap_or_default().name;
        stopped.map_err(|trouble| format!("failed to stop container {name}: {trouble}"))?;
    }
    Ok(())
}

fn answer(delivery: Delivery, outcome: Result<(), String>) {
    if !delivery.is_request() {
        return delivery.settle();
    }
    let answered = match outcome {
        Ok(()) => delivery.respond(ipc_proto::Content::text("OK")),
        Err(why) => delivery.respond_error(&why),
    };
    if let Err(error) = answered {
        warn!("cannot answer who wanted a pod's containers anew: {error}");
    }
}
