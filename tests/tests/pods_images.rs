//! Images that come from a registry: for everyone, with a password, with a wrong one, and not at all.

use anyhow::Result;
use data_encoding::BASE64;
use edgecore_tests::rig::pods::{Node, pod};
use edgecore_tests::rig::registry::{LOGIN, Registry};
use serde_json::{Value, json};

/// A pod of an image that is fetched.
fn of_image(name: &str, image: &str, secret: Option<&str>) -> Value {
    let secrets: Vec<_> = secret.iter().map(|secret| json!({"name": secret})).collect();
    pod(
        name,
        json!({
            "imagePullSecrets": secrets,
            "containers": [{"name": "c", "image": image, "command": ["sleep", "1000000"]}],
        }),
    )
}

/// A secret with a login for a registry.
fn secret(name: &str, registry: &str, login: &str) -> Value {
    let auth = BASE64.encode(login.as_bytes());
    let file = json!({"auths": {registry: {"auth": auth}}}).to_string();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name, "namespace": "default"},
        "data": {".dockerconfigjson": BASE64.encode(file.as_bytes())},
    })
}

fn waits(status: &Value, reason: &str) -> bool {
    status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
}

#[test]
fn images_come_from_a_registry_or_the_pod_says_why_not() -> Result<()> {
    let Some(node) = Node::start()? else { return Ok(()) };
    let registry = Registry::start(node.containerd.path())?;
    let name = registry.name();
    node.apply(secret("right", &name, LOGIN))?;
    node.apply(secret("wrong", &name, "ann:guess"))?;
    node.apply(of_image("open", &format!("{name}/open/box:1"), None))?;
    node.apply(of_image("closed", &format!("{name}/closed/box:1"), Some("right")))?;
    node.wait_pod_ready("open")?;
    let status = node.wait_pod_ready("closed")?;
    assert_eq!(status["containerStatuses"][0]["image"], format!("{name}/closed/box:1"));

    node.apply(of_image("guess", &format!("{name}/closed/other:1"), Some("wrong")))?;
    let refused = node.wait_pod("guess", "is refused", |it| waits(it, "ImagePullBackOff"))?;
    let message = refused["containerStatuses"][0]["state"]["waiting"]["message"].to_string();
    assert!(message.contains(&format!("{name}/closed/other:1")), "{message}");
    node.apply(of_image("none", &format!("{name}/open/box:2"), None))?;
    let missing = node.wait_pod("none", "says what is missing", |it| waits(it, "ErrImagePull"))?;
    let message = missing["containerStatuses"][0]["state"]["waiting"]["message"].to_string();
    assert!(message.contains("not found"), "{message}");
    node.wait_pod("none", "pauses", |it| waits(it, "ImagePullBackOff"))?;

    // Who gets the right password later, runs.
    node.apply(secret("wrong", &name, LOGIN))?;
    node.wait_pod_ready("guess")?;
    Ok(())
}
