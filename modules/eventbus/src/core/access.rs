//! Who may use the internal broker, and for what.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::topic;

/// The users of the internal broker. With none at all everybody may do everything; the broker then
/// listens on the loopback alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Access(BTreeMap<Box<str>, User>);

/// What one user may do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    password: Box<str>,
    /// Filters of the topics that it may publish on.
    #[serde(default = "everything")]
    publish: Vec<Box<str>>,
    /// Filters of the topics that it may be sent.
    #[serde(default = "everything")]
    subscribe: Vec<Box<str>>,
}

fn everything() -> Vec<Box<str>> {
    ["#", "$hw/#", "$ke/#"].map(Into::into).into()
}

impl Access {
    /// Tells whether no user is named.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what is wrong with the filters.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.0.iter().find_map(|(name, user)| {
            let bad =
                user.publish.iter().chain(&user.subscribe).find(|it| !topic::is_filter(it))?;
            Some(format!("user '{name}' has '{bad}', expected a topic filter"))
        })
    }

    /// Tells whether a client may come in.
    pub(crate) fn admits(&self, user: Option<&str>, password: Option<&[u8]>) -> bool {
        if self.is_open() {
            return true;
        }
        let known = user.and_then(|user| self.0.get(user));
        // Compared in the same time for every wrong password of a length.
        known.is_some_and(|known| {
            let (wanted, given) = (known.password.as_bytes(), password.unwrap_or_default());
            let differences = wanted.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
            wanted.len() == given.len() && differences == 0
        })
    }

    /// Tells whether a user may publish on a topic.
    pub(crate) fn may_publish(&self, user: &str, topic: &str) -> bool {
        self.is_open()
            || self
                .0
                .get(user)
                .is_some_and(|user| user.publish.iter().any(|filter| topic::matches(filter, topic)))
    }

    /// Tells whether a user may subscribe with a filter: it must take no more than one of the
    /// user's own.
    pub(crate) fn may_subscribe(&self, user: &str, filter: &str) -> bool {
        self.is_open()
            || self
                .0
                .get(user)
                .is_some_and(|user| user.subscribe.iter().any(|own| topic::covers(own, filter)))
    }
}
