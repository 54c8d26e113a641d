//! A store that has rows before its node starts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use metamanager::row::{Change, Mirror, Object};
use metamanager::store::{Done, Store};
use serde_json::json;

use super::Setup;
use super::cloud::NODE;

/// How long the annotation of each pod is, in bytes: with it a pod is about as long as one that
/// kubectl applied.
const ANNOTATION: usize = 2000;

/// Puts pods `p00000` and so on of namespace `default` into the store of a node.
///
/// # Errors
/// When the database cannot be written.
pub fn with_pods(setup: &Setup, count: u32) -> Result<()> {
    with(setup, (0..count).map(|number| Change::Put(pod(number))).collect())
}

/// Puts the token of a service account into the store of a node, as if a pod of it had asked the
/// cloud for it.
///
/// # Errors
/// As [`with_pods`].
pub fn with_token(setup: &Setup, token: &str) -> Result<()> {
    let request = json!({"kind": "TokenRequest", "status": {"token": token}});
    with(
        setup,
        vec![Change::Put(Object {
            key: format!("a token of {} bytes", token.len()).into(),
            kind: "serviceaccounttoken".into(),
            value: request.to_string().into(),
            mirror: None,
        })],
    )
}

fn with(setup: &Setup, changes: Vec<Change>) -> Result<()> {
    let path = setup.edgecore["database"]["dataSource"].as_str().context("a database")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut store = Store::<()>::start(path.into())?;
        store.commit(changes, ());
        store.close();
        while let Some(done) = store.next().await {
            if let Done::Health(Some(trouble)) = done {
                bail!("the database is not well: {trouble}");
            }
        }
        Ok(())
    })?;
    // The store's process may be another user's.
    let path = Path::new(path);
    Ok(fs::set_permissions(path, Permissions::from_mode(0o666))?)
}

fn pod(number: u32) -> Object {
    let name = format!("p{number:05}");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default",
            "annotations": {"note": "x".repeat(ANNOTATION)}, "labels": {"app": "many"}},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "i"}]}
    });
    Object {
        key: format!("default/pod/{name}").into(),
        kind: "pod".into(),
        value: pod.to_string().into(),
        mirror: Some(Mirror {
            key: format!("/core/v1/pods/default/{name}").into(),
            resource: "/v1, Resource=pods".into(),
            namespace: "default".into(),
            name: name.into(),
            version: u64::from(number) + 1,
        }),
    }
}
