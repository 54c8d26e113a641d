//! The groups above those of pods: of all pods, and of those with less than all guaranteed. They are
//! bounded anew as pods come and go.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::bounds::Bounds;
use super::{Driver, Groups, MOUNT};
use crate::api::Ask;
use crate::notes::About;
use crate::pod::amounts::{Quality, quality, request, shares};
use crate::pod::spec::Pod;
use crate::worker::{Host, NodeFacts};

/// How often it is looked whether the bounds still are what they are to be.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps the levels bounded, for ever. Where systemd makes the groups it has them, and they stay as it
/// made them.
pub(crate) async fn run(host: Arc<Host>, node: String, asks: mpsc::Sender<Ask>) {
    let Some(groups) = host.config.groups.clone() else { return };
    if groups.driver == Driver::Systemd {
        return;
    }
    let mut facts = host.facts.clone();
    // Without a runtime there is nothing to bound.
    if facts.wait_for(|facts| !facts.runtime.is_empty()).await.is_err() {
        return;
    }
    let mut written = Vec::new();
    let mut said = String::new();
    loop {
        let (ask, answer) = oneshot::channel();
        drop(asks.send(ask).await);
        let pods = answer.await.unwrap_or_default();
        let living = pods.iter().filter(|it| !it.pod.status.is_over()).map(|it| &*it.pod);
        let levels = levels(&groups, living, &host, &facts.borrow().clone());
        if levels != written {
            let about = About::node(&node);
            match write(&levels) {
                Ok(()) => {
                    if written.is_empty() && host.config.defence.bounds_pods {
                        let text = "Updated Node Allocatable limit across pods".to_owned();
                        host.notes.normal(about, "NodeAllocatableEnforced", text);
                    }
                    debug!("the groups of pods are bounded");
                    (written, said) = (levels, String::new());
                }
                Err(why) if why != said => {
                    warn!("{why}");
                    host.notes.warning(about, "FailedNodeAllocatableEnforcement", why.clone());
                    said = why;
                }
                Err(_) => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn write(levels: &[(String, Bounds)]) -> Result<(), String> {
    let failed = |group: &str, error| {
        format!("Failed to update Node Allocatable Limits \"{group}\": {error}")
    };
    levels.iter().try_for_each(|(group, bounds)| {
        bounds.write(Path::new(MOUNT), group).map_err(|error| failed(group, error))
    })
}

/// Returns the bounds of each level.
fn levels<'a>(
    groups: &Groups,
    living: impl Iterator<Item = &'a Pod>,
    host: &Host,
    facts: &NodeFacts,
) -> Vec<(String, Bounds)> {
    let defence = &host.config.defence;
    let burstable = living.filter(|pod| quality(pod) == Quality::Burstable);
    let asked = burstable.map(|pod| request(pod, "cpu")).fold(0, i64::saturating_add);
    let of = |milli| Bounds { shares: Some(shares(milli)), ..Bounds::default() };
    let all = if defence.bounds_pods {
        let memory = facts.memory.saturating_sub(defence.reserved.memory);
        Bounds { memory: Some(memory), ..of(facts.cpu) }
    } else {
        of(facts.cpu)
    };
    vec![
        (groups.of_all(), all),
        (groups.of_level(Quality::Burstable), of(asked)),
        (groups.of_level(Quality::BestEffort), of(0)),
    ]
}
