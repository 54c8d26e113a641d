//! Images that a node job wants to have here, and the programs that an upgrade wants out of one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipc_proto::image::{CopyOut, Wanted};
use module_runtime::Delivery;
use tracing::{info, warn};

use super::Pods;
use crate::cri::words as w;
use crate::registry;
use crate::worker::Host;

/// How long the copying of files may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often is looked whether it is done.
const LOOK: Duration = Duration::from_millis(100);

/// The label of the sandboxes that files are copied in. They are no pods, and have none of the
/// labels of pods.
const LABEL: &str = "edgecore/copies-out-of-an-image";

/// Where a container finds the folder of the host.
const INTO: &str = "/edgecore-into";

impl Pods {
    /// Gets an image that is wanted, and answers who wants it.
    pub(crate) fn get(&self, delivery: Delivery) {
        let host = Arc::clone(&self.host);
        tokio::spawn(async move { get(&host, delivery).await });
    }
}

async fn get(host: &Host, delivery: Delivery) {
    let got = match delivery.message.content.decode::<Wanted>() {
        Ok(wanted) => fetch(host, &wanted).await,
        Err(error) => Err(format!("a request for an image cannot be read: {error}")),
    };
    let answered = match got {
        Ok(()) => delivery.respond(ipc_proto::Content::text("OK")),
        Err(why) => delivery.respond_error(&why),
    };
    if let Err(error) = answered {
        warn!("who wants an image is not answered: {error}");
    }
}

async fn fetch(host: &Host, wanted: &Wanted) -> Result<(), String> {
    let Wanted { image, secret, digest, copy } = wanted;
    if !registry::is_reference(image) {
        return Err(format!("couldn't parse image name {image:?}: invalid reference format"));
    }
    let mut auths = Vec::new();
    if let Some((namespace, name)) = secret {
        let entries = host.store.secret(namespace, name).await;
        let entries = entries.map_err(|lack| format!("the secret {namespace}/{name}: {lack:?}"))?;
        auths.extend(registry::credentials(&entries, image).into_iter().map(Some));
    }
    let image_id = pull(host, image, auths).await?;
    if let Some(digest) = digest {
        check(host, image, digest).await?;
    }
    match copy {
        Some(copy) => copy_out(host, &image_id, copy).await,
        None => Ok(()),
    }
}

/// Fetches an image with one credential after the other; returns what the runtime calls it.
async fn pull(
    host: &Host,
    name: &str,
    mut auths: Vec<Option<w::AuthConfig>>,
) -> Result<String, String> {
    if auths.is_empty() {
        auths.push(None);
    }
    let mut said = String::new();
    for auth in auths {
        let image = Some(w::ImageSpec { image: name.to_owned() });
        let request = w::PullImageRequest { image, auth, sandbox_config: None };
        match host.runtime.pull_image(request).await {
            Ok(pulled) => {
                info!(image = %name, "a node job has fetched an image");
                return Ok(pulled.image_ref);
            }
            Err(trouble) => said = trouble.to_string(),
        }
    }
    Err(said)
}

/// Looks whether an image is the one with this digest.
async fn check(host: &Host, name: &str, digest: &str) -> Result<(), String> {
    let image = Some(w::ImageSpec { image: name.to_owned() });
    let asked = host.runtime.image_status(w::ImageStatusRequest { image }).await;
    let found = asked.map_err(|trouble| trouble.to_string())?.image;
    let found = found.ok_or_else(|| format!("image {name} came and went"))?;
    let own = found.repo_digests.iter().filter_map(|it| Some(it.split_once('@')?.1));
    if own.clone().any(|it| it == digest) {
        return Ok(());
    }
    let own: Vec<_> = own.collect();
    Err(format!("image {name} has the digest {}, expected {digest}", own.join(", ")))
}

/// Copies files out of an image with the image's own `cp`, in a container that has nothing but the
/// folder that they go to: no network, no powers, nothing of the host.
async fn copy_out(host: &Host, image: &str, copy: &CopyOut) -> Result<(), String> {
    let into = Path::new(&copy.into);
    let is_folder = std::fs::symlink_metadata(into).is_ok_and(|facts| facts.is_dir());
    let absolute = copy.files.iter().all(|file| file.starts_with('/'));
    if !into.is_absolute() || !is_folder || !absolute || copy.files.is_empty() {
        let names = copy.files.join(", ");
        return Err(format!("cannot copy '{names}' to '{}': no such folder", copy.into));
    }
    clear(host).await?;
    let sandbox = sandbox();
    let request =
        w::RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler: String::new() };
    let made = host.runtime.run_sandbox(request).await;
    let id = made.map_err(|trouble| format!("no sandbox to copy in: {trouble}"))?.pod_sandbox_id;
    let copied = run(host, &id, sandbox, image, copy).await;
    // What cannot be cleared away now is when the next file is copied.
    let cleared = clear(host).await;
    copied?;
    cleared
}

async fn run(
    host: &Host,
    sandbox: &str,
    sandbox_config: w::PodSandboxConfig,
    image: &str,
    copy: &CopyOut,
) -> Result<(), String> {
    let names = copy.files.join(", ");
    let told = |trouble: crate::cri::Trouble| format!("cannot copy {names}: {trouble}");
    let request = w::CreateContainerRequest {
        pod_sandbox_id: sandbox.to_owned(),
        config: Some(container(image, copy)),
        sandbox_config: Some(sandbox_config),
    };
    let made = host.runtime.create_container(request).await.map_err(told)?;
    let container_id = made.container_id;
    let start = w::StartContainerRequest { container_id: container_id.clone() };
    host.runtime.start_container(start).await.map_err(told)?;
    let ended = async {
        loop {
            let request = w::ContainerStatusRequest { container_id: container_id.clone() };
            let status = host.runtime.container_status(request).await.map_err(told)?.status;
            let status = status.unwrap_or_default();
            if status.state() == w::ContainerState::Exited {
                return Ok::<_, String>(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let late = |_| format!("copying {names} takes longer than {} s", PATIENCE.as_secs());
    let status = tokio::time::timeout(PATIENCE, ended).await.map_err(late)??;
    if status.exit_code == 0 {
        return Ok(());
    }
    let w::ContainerStatus { exit_code, reason, message, .. } = status;
    Err(format!(
        "cannot copy {names}: cp ended with {exit_code} ({reason} {message}), as it does when the \
         image lacks one of them"
    ))
}

/// Removes what an earlier copying has left.
async fn clear(host: &Host) -> Result<(), String> {
    let label_selector = [(LABEL.to_owned(), String::new())].into();
    let filter = Some(w::PodSandboxFilter { label_selector });
    let listed = host.runtime.list_sandboxes(w::ListPodSandboxRequest { filter }).await;
    for sandbox in listed.map_err(|trouble| trouble.to_string())?.items {
        let stop = w::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
        host.runtime.stop_sandbox(stop).await.map_err(|trouble| trouble.to_string())?;
        let remove = w::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
        host.runtime.remove_sandbox(remove).await.map_err(|trouble| trouble.to_string())?;
    }
    Ok(())
}

/// The host's network namespace, because that needs no network plug-in; nothing is done in it.
fn namespaces() -> w::NamespaceOption {
    let mut own = w::NamespaceOption::default();
    own.set_network(w::NamespaceMode::Node);
    own.set_pid(w::NamespaceMode::Container);
    own.set_ipc(w::NamespaceMode::Pod);
    own
}

fn sandbox() -> w::PodSandboxConfig {
    let security_context = Some(w::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces()),
        ..Default::default()
    });
    let linux = w::LinuxPodSandboxConfig { security_context, ..Default::default() };
    w::PodSandboxConfig {
        metadata: Some(w::PodSandboxMetadata {
            name: "edgecore-copies".to_owned(),
            uid: "edgecore-copies".to_owned(),
            namespace: "edgecore".to_owned(),
            attempt: 0,
        }),
        labels: [(LABEL.to_owned(), String::new())].into(),
        linux: Some(linux),
        ..Default::default()
    }
}

fn container(image: &str, copy: &CopyOut) -> w::ContainerConfig {
    let security_context = Some(w::LinuxContainerSecurityContext {
        capabilities: Some(w::Capability {
            drop_capabilities: vec!["ALL".to_owned()],
            ..Default::default()
        }),
        namespace_options: Some(namespaces()),
        run_as_user: Some(w::Int64Value { value: 0 }),
        readonly_rootfs: true,
        no_new_privs: true,
        ..Default::default()
    });
    let files = copy.files.iter().map(String::as_str);
    let mount = w::Mount {
        container_path: INTO.to_owned(),
        host_path: copy.into.clone(),
        ..Default::default()
    };
    w::ContainerConfig {
        metadata: Some(w::ContainerMetadata { name: "cp".to_owned(), attempt: 0 }),
        image: Some(w::ImageSpec { image: image.to_owned() }),
        command: ["cp"].into_iter().chain(files).chain([INTO]).map(str::to_owned).collect(),
        mounts: vec![mount],
        linux: Some(w::LinuxContainerConfig { security_context, ..Default::default() }),
        ..Default::default()
    }
}
