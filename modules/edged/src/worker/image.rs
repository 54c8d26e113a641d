//! How a worker sees to the images of its containers.

use std::collections::BTreeMap;

use tracing::warn;

use super::Worker;
use super::act::Failure;
use crate::cri::words as w;
use crate::notes::About;
use crate::pod::backoff::Backoff;
use crate::pod::spec::Container;
use crate::registry;

impl Worker {
    /// Sees to it that an image is here.
    pub(super) async fn image(&mut self, container: &Container) -> Result<w::Image, Failure> {
        let name = &container.image;
        let about = About::container(&self.pod, &container.name);
        if !registry::is_reference(name) {
            let message = format!(
                "Failed to apply default image tag \"{name}\": couldn't parse image name \"{name}\": \
                invalid reference format"
            );
            self.host.notes.warning(about, "InspectFailed", message.clone());
            return Err(Failure::new("InvalidImageName", message));
        }
        match (policy(container), self.inspect(name, &about).await?) {
            ("Never" | "IfNotPresent", Some(image)) => {
                let message = format!("Container image \"{name}\" already present on machine");
                self.host.notes.normal(about, "Pulled", message);
                return Ok(image);
            }
            ("Never", None) => {
                let message =
                    format!("Container image \"{name}\" is not present with pull policy of Never");
                self.host.notes.warning(about, "ErrImageNeverPull", message.clone());
                return Err(Failure::new("ErrImageNeverPull", message));
            }
            (_, _) => {}
        }
        let begin = tokio::time::Instant::now();
        self.host.notes.normal(about.clone(), "Pulling", format!("Pulling image \"{name}\""));
        let pulled = self.pull(name, &about).await;
        let key = format!("image {name}");
        if let Err(message) = pulled {
            let now = module_runtime::unix_millis();
            let pause: &mut Backoff = self.ledger.pauses.entry(key).or_default();
            pause.grow(now, now);
            let hold = pause.pause;
            let text = format!("Failed to pull image \"{name}\": {message}");
            self.host.notes.warning(about, "Failed", text);
            // Some runtimes say in the first word what it is.
            let known = ["RegistryUnavailable", "SignatureValidationFailed"];
            let reason = known.into_iter().find(|word| message.contains(word));
            return Err(Failure { reason: reason.unwrap_or("ErrImagePull"), message, hold });
        }
        self.ledger.pauses.remove(&key);
        let image = self.inspect(name, &about).await?;
        let image = image.ok_or_else(|| {
            Failure::new("ErrImagePull", format!("image \"{name}\" came and went"))
        })?;
        let took = begin.elapsed().as_millis();
        let size = image.size;
        let message = format!(
            "Successfully pulled image \"{name}\" in {took}ms ({took}ms including waiting). \
            Image size: {size} bytes."
        );
        self.host.notes.normal(about, "Pulled", message);
        Ok(image)
    }

    /// Sees to the images that are volumes of a container; returns what the runtime calls them, by
    /// the volumes' names.
    pub(super) async fn volume_images(
        &mut self,
        container: &Container,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let mut images = BTreeMap::new();
        for name in container.volume_mounts.iter().map(|mount| &mount.name) {
            let folder = self.folders.as_ref().and_then(|folders| folders.get(name));
            let Some(wanted) = folder.and_then(|folder| folder.image.clone()) else { continue };
            let stand_in = Container {
                name: container.name.clone(),
                image: wanted.reference,
                image_pull_policy: wanted.pull_policy,
                ..Container::default()
            };
            let image = Box::pin(self.image(&stand_in)).await?;
            images.insert(name.clone(), image.id);
        }
        Ok(images)
    }

    /// Asks whether an image is here.
    async fn inspect(&self, name: &str, about: &About) -> Result<Option<w::Image>, Failure> {
        let image = Some(w::ImageSpec { image: name.to_owned() });
        let asked = self.host.runtime.image_status(w::ImageStatusRequest { image }).await;
        asked.map(|answer| answer.image).map_err(|trouble| {
            let message = format!("Failed to inspect image \"{name}\": {trouble}");
            self.host.notes.warning(about.clone(), "InspectFailed", message.clone());
            Failure::new("ImageInspectError", message)
        })
    }

    /// Fetches an image with the credentials of the pod's secrets, one after the other.
    async fn pull(&self, name: &str, about: &About) -> Result<(), String> {
        let (mut all, mut lacking) = (Vec::new(), Vec::new());
        for secret in &self.pod.spec.image_pull_secrets {
            match self.host.store.secret(&self.pod.metadata.namespace, &secret.name).await {
                Ok(entries) => all.extend(registry::credentials(&entries, name)),
                Err(lack) => {
                    warn!(secret = %secret.name, ?lack, "cannot use an imagePullSecret");
                    lacking.push(secret.name.as_str());
                }
            }
        }
        if !lacking.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not \
                succeed.",
                lacking.join(", ")
            );
            let about = About { part: String::new(), ..about.clone() };
            self.host.notes.warning(about, "FailedToRetrieveImagePullSecret", message);
        }
        let mut auths: Vec<_> = all.into_iter().map(Some).collect();
        if auths.is_empty() {
            auths.push(None);
        }
        let mut said = String::new();
        for auth in auths {
            let image = Some(w::ImageSpec { image: name.to_owned() });
            let request = w::PullImageRequest { image, auth, sandbox_config: None };
            match self.host.runtime.pull_image(request).await {
                Ok(_) => return Ok(()),
                Err(trouble) => said = trouble.to_string(),
            }
        }
        Err(said)
    }

    /// Shows in the status that an image is not tried again at once, as soon as it was shown that
    /// it did not come. Returns when to show it.
    pub(super) fn soften(&mut self, now: i64) -> Option<i64> {
        let mut changed = None;
        for (name, hold) in &mut self.ledger.holds {
            let image = self.pod.spec.container(name).map_or("", |container| &container.image);
            let about = About::container(&self.pod, name);
            if hold.reason == "ErrImagePull" && hold.until > now {
                hold.reason = "ImagePullBackOff".to_owned();
                hold.message =
                    format!("Back-off pulling image \"{image}\": ErrImagePull: {}", hold.message);
                let (notes, text) =
                    (&self.host.notes, format!("Back-off pulling image \"{image}\""));
                notes.normal(about.clone(), "BackOff", text);
                notes.warning(about, "Failed", "Error: ImagePullBackOff".to_owned());
                changed = Some(now + 1000);
            }
        }
        changed
    }
}

/// Returns when a container's image is to be fetched; without a word of its own that depends on
/// whether it names a version.
fn policy(container: &Container) -> &str {
    let name = &container.image;
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    match container.image_pull_policy.as_str() {
        "" if !tagged || name.ends_with(":latest") => "Always",
        "" => "IfNotPresent",
        policy => policy,
    }
}
