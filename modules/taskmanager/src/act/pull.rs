//! Images are fetched by edged, which has the container runtime and the secrets.

use std::time::Duration;

use ipc_proto::image::Wanted;
use ipc_proto::{Content, Group, Module, Operation, Resource};
use module_runtime::RequestError;
use serde_json::json;
use tracing::warn;

use super::Hands;
use crate::core::Outcome;
use crate::spec::{Prepull, check_image};

/// How long an image may take to come: longer than edged itself waits for it.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// The pause before an image is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// How often the death of edged in the middle of a pull is no failure of it.
const DEATHS: u32 = 16;

impl Hands {
    /// Fetches images, each as often as it may be tried, and tells what became of each.
    pub(super) async fn pull_all(&self, job: &Prepull) -> Outcome {
        let mut told = Vec::with_capacity(job.images.len());
        let mut failures = 0;
        for image in &job.images {
            let pulled = match check_image(image) {
                Ok(()) => self.pull_often(image, job).await,
                Err(why) => Err(why),
            };
            failures += usize::from(pulled.is_err());
            let reason = pulled.err().unwrap_or_default();
            // The words of both versions of the API.
            let (status, state) =
                if reason.is_empty() { ("True", "Successful") } else { ("False", "Failed") };
            told.push(json!({"image": image, "status": status, "state": state, "reason": reason}));
        }
        let of = job.images.len();
        let failure = (failures > 0).then(|| format!("{failures} of {of} images did not come"));
        Outcome { failure, extend: serde_json::Value::from(told).to_string(), notes: None }
    }

    async fn pull_often(&self, image: &str, job: &Prepull) -> Result<(), String> {
        let secret = job.secret.clone();
        let wanted = Wanted { image: image.into(), secret, ..Wanted::default() };
        let mut tries = 0;
        loop {
            let Err(why) = self.fetch(&wanted).await else { return Ok(()) };
            tries += 1;
            if tries > job.retries {
                return Err(why);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Has edged fetch an image.
    ///
    /// # Errors
    /// Why it does not come.
    pub(super) async fn fetch(&self, wanted: &Wanted) -> Result<(), String> {
        for _ in 0..DEATHS {
            let content = Content::encode(wanted).map_err(|error| error.to_string())?;
            let resource = Resource::Task("image".into());
            let message = self.peers.message(Group::Edged, Operation::Pull, resource, content);
            match self.peers.request(Module::Edged, message, PATIENCE).await {
                Ok(answer) => {
                    answer.settle();
                    return Ok(());
                }
                Err(RequestError::PeerDied { reason, .. }) => {
                    warn!(image = %wanted.image, reason, "edged died over an image; it is asked again");
                }
                Err(RequestError::Failed { answer, .. }) => {
                    return Err(answer.content.decode().unwrap_or_else(|_| "no reason".to_owned()));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("edged died {DEATHS} times over {}", wanted.image))
    }
}
