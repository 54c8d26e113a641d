//! What the modules' configurations have in common: every value is checked, and all that is wrong is
//! said at once.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::net::Endpoint;

/// The longest time that a configuration can ask for, in seconds.
const DAY: u64 = 86_400;

/// All that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Invalid(Vec<String>);

/// Checks values and collects what is wrong with them. A wrong one is replaced by one that lets the
/// check go on.
#[derive(Debug, Default)]
pub struct Check(Vec<String>);

impl Check {
    /// Takes down that the value of a key is wrong.
    pub fn wrong(&mut self, key: &str, value: &impl fmt::Debug, expected: &str) {
        self.0.push(format!("{key} is {value:?}, expected {expected}"));
    }

    /// Looks at the node's name, a DNS subdomain.
    pub fn node(&mut self, name: &str) {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)) {
            self.wrong("node", &name, "a DNS subdomain");
        }
    }

    /// Takes seconds, at most a day; 0 and what is missing mean the default, as in KubeEdge.
    pub fn seconds(&mut self, key: &str, value: Option<i64>, default: u64) -> Duration {
        let seconds = match value {
            None | Some(0) => default,
            Some(value) => {
                let seconds = u64::try_from(value).ok().filter(|seconds| *seconds <= DAY);
                seconds.unwrap_or_else(|| {
                    self.wrong(key, &value, "seconds from 1 to 86400");
                    default
                })
            }
        };
        Duration::from_secs(seconds)
    }

    /// Takes a far end; `expected` says how it is written.
    pub fn endpoint(&mut self, key: &str, value: Option<&str>, expected: &str) -> Endpoint {
        let text = value.unwrap_or_default();
        Endpoint::parse(text).unwrap_or_else(|| {
            self.wrong(key, &text, expected);
            Endpoint { host: String::new(), port: 0 }
        })
    }

    /// Takes the absolute path of a file, which need not be there.
    pub fn file(&mut self, key: &str, value: Option<PathBuf>) -> PathBuf {
        let file = value.unwrap_or_default();
        if !file.is_absolute() || file.file_name().is_none() {
            self.wrong(key, &file, "the absolute path of a file");
        }
        file
    }

    /// Returns what was checked.
    ///
    /// # Errors
    /// All that was wrong.
    pub fn done<T>(self, checked: T) -> Result<T, Invalid> {
        if self.0.is_empty() { Ok(checked) } else { Err(Invalid(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_is_taken_and_all_that_is_wrong_is_said() {
        let mut check = Check::default();
        check.node("edge-1.example");
        let seconds = [None, Some(0), Some(86_400)].map(|value| check.seconds("a", value, 15));
        assert_eq!(seconds.map(|it| it.as_secs()), [15, 15, 86_400]);
        assert_eq!(check.file("b", Some("/b".into())), PathBuf::from("/b"));
        assert_eq!(check.endpoint("c", Some("[::1]:7"), "host:port").to_string(), "[::1]:7");
        assert_eq!(check.done(7), Ok(7));

        let mut check = Check::default();
        check.node("a/b");
        assert_eq!(check.seconds("a", Some(86_401), 15).as_secs(), 15);
        check.seconds("a", Some(-1), 15);
        check.file("b", Some("b".into()));
        check.file("b", Some("/".into()));
        check.endpoint("c", None, "host:port");
        let said = "node is \"a/b\", expected a DNS subdomain; \
            a is 86401, expected seconds from 1 to 86400; a is -1, expected seconds from 1 to 86400; \
            b is \"b\", expected the absolute path of a file; \
            b is \"/\", expected the absolute path of a file; c is \"\", expected host:port";
        assert_eq!(check.done(()).map_err(|invalid| invalid.to_string()), Err(said.to_owned()));
    }
}
