//! A node job: its name, its steps and what the cloud is told of them, in both versions of the API
//! (WIRE.md §10).

use std::fmt;

use ipc_proto::{Content, Operation, Resource};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The longest name of a job: as Kubernetes' own.
const MAX_NAME: usize = 253;

/// The group of the API.
const GROUP: &str = "operations.kubeedge.io";

/// Which version of the API a job came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Api {
    /// Clouds up to 1.20, and later ones on request: the cloud orders each step.
    V1alpha1,
    /// The node goes from step to step.
    V1alpha2,
}

/// What a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Another version of the agent.
    Upgrade,
    /// Images for pods to come.
    Prepull,
    /// Another configuration.
    Config,
}

impl Kind {
    /// All of them, and the types that the cloud calls them by.
    pub(crate) const ALL: [(Self, &str); 3] = [
        (Self::Upgrade, "nodeupgradejob"),
        (Self::Prepull, "imageprepulljob"),
        (Self::Config, "configupdatejob"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    /// Tells whether a job of this kind changes the agent, of which there is one.
    pub(crate) const fn is_exclusive(self) -> bool {
        matches!(self, Self::Upgrade | Self::Config)
    }
}

/// Which job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) api: Api,
    pub(crate) kind: Kind,
    pub(crate) job: Box<str>,
    pub(crate) node: Box<str>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.word(), self.job)
    }
}

impl Name {
    /// Reads the resource of an order for `node`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str, node: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let known = |word: &str| Kind::ALL.into_iter().find(|(_, known)| *known == word);
        let (api, kind, job, of) = match parts[..] {
            [GROUP, "v1alpha2", kind, job, "node", of] => {
                (Api::V1alpha2, known(kind).map(|(kind, _)| kind), job, of)
            }
            // How this node keeps the orders of the older API.
            [GROUP, "v1alpha1", kind, job, "node", of] => {
                (Api::V1alpha1, known(kind).map(|(kind, _)| kind), job, of)
            }
            ["upgrade", job, "node", of] => (Api::V1alpha1, Some(Kind::Upgrade), job, of),
            ["prepull", job, "node", of] => (Api::V1alpha1, Some(Kind::Prepull), job, of),
            _ => return Err(format!("a node job called {}", shown(text))),
        };
        let kind = kind.ok_or_else(|| format!("a node job of an unknown type: {}", shown(text)))?;
        if of != node {
            return Err(format!("a job for node {}, expected {node}", shown(of)));
        }
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if job.is_empty() || job.len() > MAX_NAME || !job.bytes().all(letter) {
            let expected = "letters, digits, '-', '.' and '_'";
            return Err(format!("a job called {}, expected {expected}", shown(job)));
        }
        Ok(Self { api, kind, job: job.into(), node: of.into() })
    }

    /// Returns what a question for the records of one kind is about.
    pub(crate) fn records(api: Api, kind: Kind) -> Resource {
        let version = match api {
            Api::V1alpha1 => "v1alpha1",
            Api::V1alpha2 => "v1alpha2",
        };
        Resource::Task(format!("{GROUP}/{version}/{}", kind.word()).into())
    }

    /// Returns what the job's record in the store is called.
    pub(crate) fn record(&self) -> Resource {
        let records = Self::records(self.api, self.kind);
        Resource::Task(format!("{records}/{}/node/{}", self.job, self.node).into())
    }

    /// Returns the operation and the resource of a report to the cloud.
    pub(crate) fn route(&self) -> (Operation, Resource) {
        match (self.api, self.kind) {
            (Api::V1alpha2, _) => (Operation::UpdateNodeActionStatus, self.record()),
            (Api::V1alpha1, kind) => {
                let resource = format!("task/{}/node/{}", self.job, self.node);
                let operation =
                    if kind == Kind::Prepull { Operation::Prepull } else { Operation::Upgrade };
                (operation, Resource::Task(resource.into()))
            }
        }
    }
}

/// Shows a text from outside, no more of it than a reader needs.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// A step of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// The older API's first step: what is needed is fetched.
    Init,
    /// The host is looked at, and what is needed is fetched.
    Check,
    /// Somebody on the node has to agree.
    WaitingConfirmation,
    /// What is to be changed is kept.
    BackUp,
    /// The other version is tried, and taken where it works.
    Upgrade,
    /// What was is put back.
    RollBack,
    /// Images are fetched.
    Pull,
    /// The configuration is changed, and taken where it works.
    Update,
}

impl Action {
    /// Reads the step that an order asks for: its operation, or its state in the older API.
    pub(crate) fn parse(api: Api, word: &str) -> Option<Self> {
        Some(match (api, word) {
            (Api::V1alpha1, "" | "Init") => Self::Init,
            (Api::V1alpha2, "Check") | (Api::V1alpha1, "Checking") => Self::Check,
            (Api::V1alpha2, "WaitingConfirmation") => Self::WaitingConfirmation,
            (Api::V1alpha2, "BackUp") | (Api::V1alpha1, "BackingUp") => Self::BackUp,
            (Api::V1alpha2, "Upgrade") | (Api::V1alpha1, "Upgrading") => Self::Upgrade,
            (Api::V1alpha2, "RollBack") | (Api::V1alpha1, "RollingBack") => Self::RollBack,
            (Api::V1alpha2, "Pull") | (Api::V1alpha1, "Pulling") => Self::Pull,
            (Api::V1alpha2, "Update") => Self::Update,
            _ => return None,
        })
    }

    /// Tells whether jobs of this kind have such a step.
    pub(crate) const fn is_of(self, kind: Kind) -> bool {
        match self {
            Self::Check => true,
            Self::Init => matches!(kind, Kind::Upgrade | Kind::Prepull),
            Self::WaitingConfirmation | Self::Upgrade => matches!(kind, Kind::Upgrade),
            Self::BackUp | Self::RollBack => kind.is_exclusive(),
            Self::Pull => matches!(kind, Kind::Prepull),
            Self::Update => matches!(kind, Kind::Config),
        }
    }

    /// Returns the step that follows. In the older API the cloud orders each, but for the way back
    /// and where the node `goes_on` by itself.
    pub(crate) const fn next(self, name: &Name, worked: bool, goes_on: bool) -> Option<Self> {
        let is_old = matches!(name.api, Api::V1alpha1);
        let goes_on = !is_old || goes_on;
        match (self, worked) {
            (Self::Upgrade | Self::Update, false) => Some(Self::RollBack),
            (Self::Init, true) if goes_on => Some(Self::BackUp),
            (Self::Check, true) if goes_on => match name.kind {
                Kind::Upgrade => Some(Self::WaitingConfirmation),
                Kind::Prepull => Some(Self::Pull),
                Kind::Config => Some(Self::BackUp),
            },
            (Self::WaitingConfirmation, true) if is_old => Some(Self::Init),
            (Self::WaitingConfirmation, true) => Some(Self::BackUp),
            (Self::BackUp, true) if goes_on => match name.kind {
                Kind::Config => Some(Self::Update),
                Kind::Upgrade | Kind::Prepull => Some(Self::Upgrade),
            },
            _ => None,
        }
    }
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) action: Action,
    /// Why it failed; none when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    /// What the API tells beside.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) extend: String,
    /// RFC 3339, in whole seconds.
    pub(crate) time: String,
}

/// The longest reason that the cloud is told: it stands in an object of Kubernetes.
const MAX_REASON: usize = 2048;

impl Report {
    /// Returns what the cloud is told.
    pub(crate) fn content(&self, name: &Name) -> Content {
        let reason: String =
            self.failure.as_deref().unwrap_or_default().chars().take(MAX_REASON).collect();
        let content = match name.api {
            Api::V1alpha2 => json!({
                "action": self.action,
                "succ": self.failure.is_none(),
                "finishTime": self.time,
                "reason": reason,
                "extend": self.extend,
            }),
            Api::V1alpha1 => {
                let (event, action) = match (self.action, &self.failure) {
                    (Action::WaitingConfirmation, _) => ("Confirm", "Confirmation"),
                    (action, failure) => {
                        (action.event(), if failure.is_none() { "Success" } else { "Failure" })
                    }
                };
                json!({
                    "NodeName": name.node,
                    "State": "",
                    "Event": event,
                    "Action": action,
                    "Reason": reason,
                    "Time": self.time,
                    "ExternalMessage": self.extend,
                })
            }
        };
        Content::from_raw(content.to_string().into())
    }
}

impl Action {
    /// Returns the older API's word for the end of this step.
    const fn event(self) -> &'static str {
        match self {
            Self::Init => "Init",
            Self::Check => "Check",
            Self::WaitingConfirmation => "Confirm",
            Self::BackUp => "Backup",
            Self::Upgrade => "Upgrade",
            Self::RollBack => "Rollback",
            Self::Pull => "Pull",
            Self::Update => "ConfigUpdate",
        }
    }
}

#[cfg(test)]
mod tests;
