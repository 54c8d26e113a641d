//! The node's lease, by which the cloud knows that it lives.

use ipc_proto::{Content, Kind, Operation};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;
use tracing::debug;

use super::Node;
use crate::store::{Lack, object};

/// How long the node counts as alive after its lease was renewed, in seconds.
const LEASE: u32 = 40;

/// The namespace of all nodes' leases.
const LEASES: &str = "kube-node-lease";

impl Node {
    /// Renews the lease. Once it is renewed again after a time in which it was not, the state is
    /// told anew: the cloud may have marked the node as not ready.
    pub(super) async fn renew_or_doubt(&mut self) {
        match self.renew().await {
            Ok(()) if std::mem::take(&mut self.doubted) => self.told = None,
            Ok(()) => {}
            Err(lack) => {
                self.doubted = true;
                debug!(?lack, "the lease was not renewed");
            }
        }
    }

    /// Renews the lease, or makes it.
    async fn renew(&mut self) -> Result<(), Lack> {
        let resource = object(LEASES, Kind::Lease, &self.name);
        if self.lease.is_none() {
            match self.host.store.exchange(Operation::Query, resource.clone(), Content::NULL).await
            {
                Ok(lease) => self.lease = Some(slim(lease)),
                Err(Lack::NotFound) if self.leased => {
                    self.lost();
                    return Err(Lack::NotFound);
                }
                Err(Lack::NotFound) => {}
                Err(lack) => return Err(lack),
            }
        }
        let operation = if self.lease.is_some() { Operation::Update } else { Operation::Insert };
        let mut lease = self
            .lease
            .clone()
            .unwrap_or_else(|| json!({"metadata": {"name": self.name, "namespace": LEASES}}));
        if let Some(uid) = self.uid.as_ref().filter(|uid| !uid.is_empty()) {
            lease["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": uid}]);
        }
        lease["spec"] = json!({
            "holderIdentity": self.name, "leaseDurationSeconds": LEASE, "renewTime": micros_now(),
        });
        let content = Content::from_raw(lease.to_string().into());
        match self.host.store.exchange(operation, resource, content).await {
            Ok(lease) => (self.lease, self.leased) = (Some(slim(lease)), true),
            Err(Lack::NotFound) => self.lost(),
            Err(lack @ (Lack::Conflict | Lack::Exists)) => {
                self.lease = None;
                return Err(lack);
            }
            Err(lack) => return Err(lack),
        }
        Ok(())
    }
}

/// Keeps of a lease what has to go back.
fn slim(mut lease: Value) -> Value {
    if let Some(metadata) = lease["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    lease
}

/// Returns the time as leases have it.
fn micros_now() -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    let now = i128::from(module_runtime::unix_millis()) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(now).ok();
    time.and_then(|time| time.format(&format).ok()).unwrap_or_default()
}
