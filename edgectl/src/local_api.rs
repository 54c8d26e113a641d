//! What KubeEdge's `keadm ctl` does through the node's local Kubernetes API: starting pods again,
//! letting go of pods that are held back, going on with an upgrade.

use std::io::{Read as _, Write as _};

use serde::Deserialize;

use crate::cli::{RestartPodArguments, UnholdArguments, UnholdWhat};
use crate::client::Client;
use crate::failure::Failure;
use crate::node::{Node, encoded};
use crate::screen::Screen;

/// The longest answer, in bytes.
const MAX: u64 = 1024 * 1024;

/// What became of pods that were to be started again, as KubeEdge tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Restarted {
    #[serde(rename = "errMessages")]
    failed: Vec<String>,
    #[serde(rename = "LogMessages")]
    done: Vec<String>,
}

/// Has the containers of pods started again.
pub(crate) fn restart(
    arguments: &RestartPodArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let path = format!("/api/v1/namespaces/{}/pods/restart", encoded(&arguments.namespace));
    let names = serde_json::Value::from(arguments.pods.clone()).to_string();
    let answer = Node::local_api(client)?.post(&path, &names)?;
    let odd = |error| Failure::Failed(format!("the answer cannot be read: {error}"));
    let Restarted { failed, done } = serde_json::from_reader(answer.take(MAX)).map_err(odd)?;
    for line in done {
        writeln!(screen, "{line}")?;
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Failed(failed.join("\n"))) }
}

/// Lets go of pods that are held back.
pub(crate) fn unhold(arguments: &UnholdArguments, client: &Client) -> Result<(), Failure> {
    let (path, body) = match &arguments.what {
        UnholdWhat::Pod { namespace, pod } => {
            ("/api/v1/pods/unhold-upgrade", format!("{namespace}/{pod}"))
        }
        UnholdWhat::Node => {
            let node = client.status()?.node;
            ("/api/v1/nodes/unhold-upgrade", node)
        }
    };
    Node::local_api(client)?.post(path, &body).map(drop)
}

/// Lets an upgrade go on that waits for a word from the node.
pub(crate) fn confirm(client: &Client) -> Result<(), Failure> {
    Node::local_api(client)?.post("/api/v1/taskupgrade/confirm-upgrade", "").map(drop)
}
