//! `edgectl config`: what `edgecore.yaml` says and comes to. The agent's own program reads it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{ConfigCommand, Format};
use crate::failure::Failure;
use crate::program;
use crate::screen::Screen;
use crate::tree;

/// Shows or checks the configuration.
pub(crate) fn run(command: &ConfigCommand, screen: &mut Screen) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file, supervisor_config } => {
            check(&file.config, supervisor_config, screen)
        }
        ConfigCommand::Show { file, effective: true } => {
            let both = both(&file.config)?;
            Ok(screen.write_all(tree::yaml(&both["effective"]).as_bytes())?)
        }
        ConfigCommand::Show { file, effective: false } => {
            let text = fs::read(&file.config).map_err(|error| {
                Failure::Failed(format!("cannot read {}: {error}", file.config.display()))
            })?;
            Ok(screen.write_all(&text)?)
        }
        ConfigCommand::DiffDefaults { file, output } => {
            differences(&file.config, output.format, screen)
        }
    }
}

/// Returns what a file comes to under `effective`, and KubeEdge's defaults under `defaults`.
pub(crate) fn both(config: &Path) -> Result<Value, Failure> {
    let words = ["config", "--effective", "--config"].map(OsStr::new);
    let text = program::ask(words.into_iter().chain([config.as_os_str()]));
    text.and_then(|text| serde_json::from_slice(&text).map_err(|error| program::foreign(&error)))
        .map_err(Failure::Failed)
}

/// Says what is wrong; a warning is no failure.
fn check(config: &Path, supervisor: &Path, screen: &mut Screen) -> Result<(), Failure> {
    let words = ["config", "--config"].map(OsStr::new);
    let more = [config.as_os_str(), OsStr::new("--supervisor-config"), supervisor.as_os_str()];
    let output = program::run(words.into_iter().chain(more)).map_err(Failure::Failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(Failure::Failed(format!("the configuration is wrong:\n{}", said.trim_end())));
    }
    screen.write_all(said.as_bytes())?;
    Ok(writeln!(screen, "the configuration is good")?)
}

fn differences(config: &Path, format: Format, screen: &mut Screen) -> Result<(), Failure> {
    let both = both(config)?;
    let found = tree::differences(&both["effective"], &both["defaults"]);
    match format {
        Format::Json => {
            let entry =
                |(key, value, default)| json!({ "key": key, "value": value, "default": default });
            screen.json(&found.into_iter().map(entry).collect::<Vec<_>>())
        }
        Format::Text => {
            for (key, value, default) in found {
                writeln!(screen, "{key}: {value}   (default {default})")?;
            }
            Ok(())
        }
    }
}
