//! The containers that run, and whether they are the same afterwards.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::program;

/// A container that was started again so lately may be again, whoever the agent is.
const RESTLESS: u128 = 600 * 1_000_000_000;

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) id: String,
    pod: String,
    name: String,
    /// How often its name was started before.
    attempt: u32,
    /// Nanoseconds since 1970.
    started_at: i64,
    /// Each agent gives static pods identities of its own, so that these are made anew.
    r#static: bool,
}

/// Asks the container runtime, through the agent's program.
///
/// # Errors
/// With a sentence when the runtime does not answer.
pub(super) fn running(config: &Path) -> Result<Vec<Container>, String> {
    let config = config.to_string_lossy();
    let text = program::ask(["survey", "containers", "--config", &config])?;
    serde_json::from_slice(&text).map_err(|error| program::foreign(&error))
}

/// Returns those of them that have to be the same in the end.
pub(super) fn steady(all: Vec<Container>) -> Vec<Container> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    all.into_iter().filter(|it| it.is_steady(now)).collect()
}

impl Container {
    fn is_steady(&self, now: u128) -> bool {
        let age = now.saturating_sub(u128::try_from(self.started_at).unwrap_or_default());
        !self.r#static && (self.attempt == 0 || age > RESTLESS)
    }
}

/// Returns a sentence when one that ran before is gone or was started anew.
pub(super) fn touched(before: &[Container], after: &[Container]) -> Option<String> {
    let other = |old: &&Container| {
        let new = after.iter().find(|new| new.id == old.id);
        new.is_none_or(|new| new.started_at != old.started_at)
    };
    let first = before.iter().find(other)?;
    let Container { pod, name, .. } = first;
    let more = match before.iter().filter(other).count() {
        1 => String::new(),
        count => format!(" and of {} more", count - 1),
    };
    Some(format!("container '{name}' of pod {pod}{more} did not run on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, started_at: i64) -> Container {
        let (pod, name) = ("default/p".to_owned(), "c".to_owned());
        Container { id: id.to_owned(), pod, name, attempt: 0, started_at, r#static: false }
    }

    #[test]
    fn what_is_gone_or_was_started_anew_is_named() {
        let before = [container("a", 1), container("b", 2)];
        assert_eq!(touched(&before, &before), None);
        let more = [container("c", 3), container("b", 2), container("a", 1)];
        assert_eq!(touched(&before, &more), None, "a new one is no harm");
        let said = touched(&before, &[container("a", 1), container("b", 9)]).unwrap();
        assert_eq!(said, "container 'c' of pod default/p did not run on");
        let said = touched(&before, &[]).unwrap();
        assert_eq!(said, "container 'c' of pod default/p and of 1 more did not run on");
    }

    #[test]
    fn what_restarts_by_itself_or_belongs_to_an_agent_is_not_looked_at() {
        let now = 10_000 * 1_000_000_000;
        let lately = i64::try_from(now - RESTLESS / 2).unwrap();
        assert!(container("a", lately).is_steady(now));
        assert!(!Container { attempt: 3, ..container("a", lately) }.is_steady(now));
        assert!(Container { attempt: 3, ..container("a", 1) }.is_steady(now));
        assert!(!Container { r#static: true, ..container("a", 1) }.is_steady(now));
    }
}
