//! What the store is told by `edgecore.yaml`: where the database is, and how long the cloud may
//! take to answer.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// The sections of the file, as they come.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sections {
    database: Option<Database>,
    meta_manager: Option<MetaManager>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Database {
    driver_name: Option<String>,
    data_source: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MetaManager {
    remote_query_timeout: Option<i64>,
}

/// The configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The database's file.
    pub(crate) database: PathBuf,
    /// How long the cloud may take to answer.
    pub(crate) patience: Duration,
}

/// KubeEdge's own default.
const DATABASE: &str = "/var/lib/kubeedge/edgecore.db";

/// KubeEdge's own default, in seconds.
const PATIENCE: i64 = 60;

impl Sections {
    /// Checks the configuration.
    ///
    /// # Errors
    /// All that is wrong with it, one line each.
    pub(crate) fn check(self) -> anyhow::Result<Config> {
        let mut errors = Vec::new();
        let Database { data_source, driver_name, .. } = self.database.unwrap_or_default();
        let database = PathBuf::from(data_source.unwrap_or_else(|| DATABASE.to_owned()));
        if !database.is_absolute() || database.file_name().is_none() {
            let shown = database.display();
            errors.push(format!("database.dataSource is '{shown}', expected a file's full path"));
        }
        if let Some(driver) = driver_name.filter(|driver| driver != "sqlite3") {
            errors.push(format!("database.driverName is '{driver}', expected 'sqlite3'"));
        }
        let seconds = self.meta_manager.unwrap_or_default().remote_query_timeout;
        let seconds = seconds.unwrap_or(PATIENCE);
        if !(1..=86_400).contains(&seconds) {
            errors.push(format!(
                "metaManager.remoteQueryTimeout is {seconds}, expected 1 to 86400 seconds"
            ));
        }
        anyhow::ensure!(errors.is_empty(), "{}", errors.join("; "));
        Ok(Config { database, patience: Duration::from_secs(seconds.unsigned_abs()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> anyhow::Result<Config> {
        serde_json::from_str::<Sections>(json)?.check()
    }

    #[test]
    fn what_is_missing_takes_kubeedges_defaults() {
        let default = Config { database: DATABASE.into(), patience: Duration::from_secs(60) };
        for json in ["{}", r#"{"database":null,"metaManager":{"remoteQueryTimeout":null}}"#] {
            assert_eq!(check(json).unwrap(), default, "{json}");
        }
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let json = r#"{"database":{"dataSource":"db","driverName":"mysql"},
                       "metaManager":{"remoteQueryTimeout":0}}"#;
        let error = check(json).unwrap_err().to_string();
        for part in ["'db'", "'mysql'", "is 0, expected 1 to 86400"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(check(r#"{"database":7}"#).is_err());
    }
}
