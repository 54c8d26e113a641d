//! A store that has rows before its node starts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use metamanager::row::{Change, Mirror, Object};
use metamanager::store::{Done, Store};
use serde_json::{Value, json};

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

/// Puts objects of namespaces into the store of a node, as if the cloud had told of them.
///
/// # Errors
/// When one is no such object, or the database cannot be written.
pub fn with_objects(setup: &Setup, objects: &[Value]) -> Result<()> {
    let put = |object: &Value| Ok(Change::Put(row(object).context("no object of a namespace")?));
    with(setup, objects.iter().map(put).collect::<Result<_>>()?)
}

/// Returns the row of an object whose plural ends with an `s`.
fn row(object: &Value) -> Option<Object> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (name, namespace) = (text("/metadata/name")?, text("/metadata/namespace")?);
    let kind = text("/kind")?.to_lowercase();
    let version = text("/apiVersion")?;
    let (group, number) = version.split_once('/').unwrap_or(("core", version));
    let of_core = group == "core";
    let in_resource = if of_core { format!("/{number}") } else { version.to_owned() };
    Some(Object {
        key: format!("{namespace}/{kind}/{name}").into(),
        kind: kind.as_str().into(),
        value: object.to_string().into(),
        mirror: Some(Mirror {
            key: format!("/{group}/{number}/{kind}s/{namespace}/{name}").into(),
            resource: format!("{in_resource}, Resource={kind}s").into(),
            namespace: namespace.into(),
            name: name.into(),
            version: 1,
        }),
    })
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
