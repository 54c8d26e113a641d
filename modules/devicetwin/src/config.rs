//! The module's part of edgecore.yaml.

use std::path::PathBuf;

use serde::Deserialize;

use crate::dmi;

/// The sections that the module is given.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sections {
    #[serde(default)]
    device_twin: Option<DeviceTwin>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeviceTwin {
    dmi_sock_path: Option<String>,
}

/// The checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// The socket for mappers.
    pub(crate) socket: PathBuf,
}

impl Sections {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When the socket's path is not absolute.
    pub(crate) fn check(self) -> anyhow::Result<Config> {
        let twin = self.device_twin.unwrap_or_default();
        let path = twin.dmi_sock_path.filter(|path| !path.is_empty());
        let path = path.unwrap_or_else(|| "/etc/kubeedge/".to_owned());
        anyhow::ensure!(
            path.starts_with('/'),
            "deviceTwin.dmiSockPath is '{path}', expected an absolute path"
        );
        Ok(Config { socket: dmi::socket_path(&path) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_socket_has_one_name_in_the_configured_folder() {
        let socket = |path: &str| {
            let sections: Sections =
                serde_json::from_value(serde_json::json!({"deviceTwin": {"dmiSockPath": path}}))
                    .unwrap();
            sections.check().map(|config| config.socket)
        };
        for (path, expected) in [
            ("/etc/kubeedge/", "/etc/kubeedge/dmi.sock"),
            ("/run/a", "/run/a/dmi.sock"),
            ("/run/a/other.sock", "/run/a/dmi.sock"),
            ("", "/etc/kubeedge/dmi.sock"),
        ] {
            assert_eq!(socket(path).unwrap(), Path::new(expected), "{path}");
        }
        assert!(socket("relative/").is_err());
    }
}
