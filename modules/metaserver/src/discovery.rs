//! What there is: groups, versions, resources, and the version of the API. With the cloud this is
//! what the cluster says; without, what this node knows.

mod proto;
mod schema;

use bytes::Bytes;
use hyper::header::ACCEPT;
use hyper::{HeaderMap, Response, Uri};
use serde_json::{Value, json};

use crate::accept;
use crate::body::{self, Body};
use crate::kinds::{self, Known};
use crate::serve::Site;
use crate::status::Refusal;

/// The version of Kubernetes that the node's objects are of.
const MINOR: &str = "32";

/// Answers a request for discovery.
///
/// # Errors
/// When only the cloud knows, and it does not tell.
pub(crate) async fn answer(
    site: &Site,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let path = uri.path().trim_end_matches('/');
    let parts: Vec<_> = path.split('/').skip(1).collect();
    if let ["openapi", version, rest @ ..] = parts.as_slice() {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        accept::read(accept).ok_or_else(Refusal::not_acceptable)?;
        if *version == "v3" {
            let found = schema::find(rest).ok_or_else(|| Refusal::unknown_path(path))?;
            return Ok(body::json(found.to_string()));
        }
    }
    let known = local(&parts);
    if site.cloud.is_linked() {
        match pass(site, path).await {
            Ok(answer) => return Ok(body::json(answer)),
            Err(refusal) if known.is_none() => return Err(refusal),
            Err(refusal) => {
                tracing::debug!(?refusal, path, "the cloud does not tell what there is");
            }
        }
    }
    match known {
        Some(known) => Ok(body::json(known.to_string())),
        None if matches!(parts.as_slice(), ["api" | "apis", ..]) => {
            Err(Refusal::unknown_path(path))
        }
        None => Err(Refusal::offline(&format!("to serve {path}"))),
    }
}

/// Asks the cluster.
async fn pass(site: &Site, path: &str) -> Result<Bytes, Refusal> {
    let amiss = |why| Refusal::unavailable(format!("the cloud answered {path} amiss: {why}"));
    proto::json(site.cloud.pass(path).await?).map_err(amiss)
}

/// Returns what this node knows itself.
fn local(parts: &[&str]) -> Option<Value> {
    match parts {
        ["version"] => Some(json!({
            "major": "1", "minor": MINOR,
            "gitVersion": format!("v1.{MINOR}.0-edgecore-{}", env!("CARGO_PKG_VERSION")),
            "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "",
            "compiler": "", "platform": format!("linux/{}", std::env::consts::ARCH),
        })),
        ["api"] => Some(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        })),
        ["apis"] => {
            let groups: Vec<_> =
                kinds::groups().map(|(name, version)| group(name, version)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let (name, version) = kinds::groups().find(|(group, _)| group == name)?;
            let mut group = group(name, version);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Some(group)
        }
        ["api", version] => resources("", version),
        ["apis", group, version] => resources(group, version),
        _ => None,
    }
}

fn group(name: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn resources(group: &str, version: &str) -> Option<Value> {
    let of_group = |known: &&Known| known.group == group && known.version == version;
    let list: Vec<_> = kinds::ALL.iter().filter(of_group).map(resource).collect();
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!list.is_empty()).then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name,
            "resources": list})
    })
}

fn resource(known: &Known) -> Value {
    let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let mut resource = json!({
        "name": known.plural, "singularName": known.kind.to_lowercase(),
        "namespaced": known.namespaced, "kind": known.kind, "verbs": verbs,
    });
    if !known.short.is_empty() {
        resource["shortNames"] = json!(known.short);
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_can_be_asked_for() {
        let groups = local(&["apis"]).unwrap();
        for group in groups["groups"].as_array().unwrap() {
            let name = group["name"].as_str().unwrap();
            assert_eq!(local(&["apis", name]).unwrap()["name"], name);
            let version = group["preferredVersion"]["version"].as_str().unwrap();
            let list = local(&["apis", name, version]).unwrap();
            assert_eq!(list["groupVersion"], format!("{name}/{version}"));
        }
        let core = local(&["api", "v1"]).unwrap();
        let is_pods = |it: &&Value| it["name"] == "pods";
        let pods = core["resources"].as_array().unwrap().iter().find(is_pods).unwrap();
        assert_eq!((&pods["kind"], &pods["shortNames"]), (&json!("Pod"), &json!(["po"])));
        assert_eq!(local(&["apis", "x"]), None);
        assert_eq!(local(&["api", "v2"]), None);
    }
}
