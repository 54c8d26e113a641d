//! What the operator sees of this module.

use serde::Serialize;
use tracing::{info, warn};

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Note {
    /// The listener is open, or closed; or why it cannot be opened.
    Door(Result<bool, String>),
    /// A service of the node was called, and whether that worked.
    FromCloud(bool),
    /// An application of the node called, and whether the cloud answered.
    FromNode(bool),
}

/// The module's part of the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    listening: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    pub(crate) urls: usize,
    calls_from_cloud: Calls,
    calls_from_node: Calls,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Calls {
    done: u64,
    failed: u64,
}

impl Calls {
    const fn count(&mut self, worked: bool) {
        if worked {
            self.done += 1;
        } else {
            self.failed += 1;
        }
    }
}

impl Report {
    /// Takes what happened.
    pub(crate) fn note(&mut self, note: Note) {
        match note {
            Note::Door(Ok(open)) => {
                info!("{}", if open { "takes calls" } else { "takes no calls: no rule is left" });
                self.listening = open;
                self.reason = None;
            }
            Note::Door(Err(why)) => {
                if self.reason.as_ref() != Some(&why) {
                    warn!("{why}");
                }
                self.listening = false;
                self.reason = Some(why);
            }
            Note::FromCloud(worked) => self.calls_from_cloud.count(worked),
            Note::FromNode(worked) => self.calls_from_node.count(worked),
        }
    }
}
