//! Istio's objects that say how a service's endpoints are chosen, and what of them is taken: what
//! users of EdgeMesh have.

use serde::Deserialize;

use super::objects::{Metadata, is_header};
use crate::model::{Name, Policy};

/// A rule for the service of the same namespace and name, as `EdgeMesh` has it; the host that it names
/// does not count.
#[derive(Debug, Deserialize)]
pub(super) struct DestinationRule {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    traffic_policy: Option<TrafficPolicy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TrafficPolicy {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LoadBalancer {
    simple: Option<Box<str>>,
    consistent_hash: Option<ConsistentHash>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConsistentHash {
    http_header_name: Option<Box<str>>,
    use_source_ip: bool,
}

impl DestinationRule {
    /// Returns the service and how its endpoints are chosen; nothing for at random, which is the way
    /// without any rule, and the kernel's.
    ///
    /// # Errors
    /// What of it the mesh does not do.
    pub(super) fn read(self) -> Result<(Name, Option<Policy>), String> {
        let name = self.metadata.own()?;
        let balancer = self.spec.traffic_policy.and_then(|policy| policy.load_balancer);
        let Some(LoadBalancer { simple, consistent_hash }) = balancer else {
            return Err("it has no trafficPolicy.loadBalancer, which is all that is taken".into());
        };
        let policy = match (simple.as_deref(), consistent_hash) {
            (Some("ROUND_ROBIN"), None) => Policy::RoundRobin,
            (Some("RANDOM"), None) => return Ok((name, None)),
            (Some("LEAST_CONN" | "LEAST_REQUEST"), None) => Policy::LeastConnections,
            (None, Some(ConsistentHash { use_source_ip: true, http_header_name: None })) => {
                Policy::Source
            }
            (
                None,
                Some(ConsistentHash { use_source_ip: false, http_header_name: Some(header) }),
            ) if is_header(&header) => Policy::Header(header),
            (simple, consistent_hash) => {
                return Err(format!(
                    "its loadBalancer is simple {simple:?}, consistentHash {consistent_hash:?}, \
                     expected ROUND_ROBIN, RANDOM or LEAST_REQUEST, or a hash of httpHeaderName or \
                     useSourceIp"
                ));
            }
        };
        Ok((name, Some(policy)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(balancer: &Value) -> Option<Option<Policy>> {
        let rule = json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": {"host": "other", "trafficPolicy": {"loadBalancer": balancer}}});
        let rule: DestinationRule = serde_json::from_value(rule).unwrap();
        rule.read().ok().map(|(name, policy)| {
            assert_eq!(name.to_string(), "shop/web");
            policy
        })
    }

    #[test]
    fn what_users_of_edgemesh_have_is_read() {
        let simple = |word: &str| policy(&json!({"simple": word}));
        assert_eq!(simple("ROUND_ROBIN"), Some(Some(Policy::RoundRobin)));
        assert_eq!(simple("RANDOM"), Some(None), "the kernel's way");
        assert_eq!(simple("LEAST_CONN"), Some(Some(Policy::LeastConnections)));
        assert_eq!(simple("PASSTHROUGH"), None);
        let hash = |hash: Value| policy(&json!({"consistentHash": hash}));
        assert_eq!(hash(json!({"useSourceIp": true})), Some(Some(Policy::Source)));
        let header = Some(Some(Policy::Header("X-User".into())));
        assert_eq!(hash(json!({"httpHeaderName": "X-User"})), header);
        assert_eq!(hash(json!({"httpHeaderName": "X User"})), None);
        assert_eq!(hash(json!({"httpCookie": {"name": "c"}})), None);
        assert_eq!(policy(&json!({})), None);
    }
}
