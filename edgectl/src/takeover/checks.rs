//! What is looked at before anything is changed. What stands in the way is said all at once.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::course::Agent;
use super::journal::Site;
use super::keeper::{Keeper, Unit};
use super::place::Place;
use super::prepare::needs_settings;
use super::rights::claims;
use super::verify::process;
use crate::cli::TakeoverArguments;
use crate::client::Client;
use crate::doctor::{self, Finding, Level};
use crate::failure::Failure;
use crate::program;

/// What the doctor finds of a node that runs the Go edgecore, and is as it should be.
const OF_THE_OTHER: [&str; 2] = ["agent", "ports"];

/// What the doctor calls wrong and what another agent lived with as well.
const LIVED_WITH: [&str; 3] = ["mqtt", "cni", "clock"];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// What stands in the way.
    pub(super) errors: Vec<String>,
    /// What will be different, or should be known.
    pub(super) remarks: Vec<String>,
}

/// Finds out what is to be exchanged.
///
/// # Errors
/// When there is nothing to exchange, or it cannot be found out.
pub(super) fn site(arguments: &TakeoverArguments, found: &mut Checked) -> Result<Site, Failure> {
    let keeper = Keeper::find(arguments.service.as_deref())?;
    let ours = program::place();
    let unit = keeper.unit()?;
    let path = unit.as_ref().map_or(&arguments.program, |unit| &unit.program).clone();
    let program = Place { path, ours: Some(ours.clone()) };
    if program.holder() == Some(Agent::Ours) || program.path == ours {
        return Err(Failure::Failed(format!("the service starts {} already", ours.display())));
    }
    Ok(Site {
        unit: unit.and_then(|unit| exchanged(unit, found)),
        keeper,
        program,
        config: arguments.file.config.clone(),
        supervisor_config: arguments.supervisor_config.clone(),
    })
}

/// Returns KubeEdge's unit where ours is to take its place.
fn exchanged(unit: Unit, found: &mut Checked) -> Option<Place> {
    let Unit { file, arguments, hidden, changed_by, .. } = unit;
    for path in changed_by {
        found.remarks.push(format!("{} goes on changing the unit", path.display()));
    }
    let name = file.display();
    if hidden.is_none() {
        found.remarks.push(format!("{name} stays: no package has brought a unit"));
        return None;
    }
    if !arguments.is_empty() {
        let words = arguments.join(" ");
        found.remarks.push(format!("{name} stays, because it says '{words}'"));
        return None;
    }
    Some(Place { path: file, ours: None })
}

/// Looks at everything.
pub(super) fn all(site: &Site, client: &Client, found: &mut Checked) {
    programs(site, client, found);
    for finding in doctor::findings(&site.config, client) {
        weigh(&finding, found);
    }
    rights(site, found);
    match unsupported(&site.config) {
        Ok(pods) => found.errors.extend(pods),
        Err(reason) => found.errors.push(reason),
    }
    if let Ok(effective) = crate::join::effective(&site.config) {
        statics(&effective, found);
    }
}

fn programs(site: &Site, client: &Client, found: &mut Checked) {
    let path = &site.program.path;
    let ours = program::place();
    if !ours.is_file() {
        found.errors.push(format!("{} is not there: install the package", ours.display()));
    }
    if path.symlink_metadata().is_err() {
        found.errors.push(format!("{} is not there, which the service starts", path.display()));
    }
    if client.status().is_ok() {
        found.errors.push(format!("{} runs on this machine already", Agent::Ours.name()));
    }
    let Some(pid) = process(&site.program) else {
        let program = path.display();
        found
            .errors
            .push(format!("nothing runs {program}: start the service, or use 'edgectl join'"));
        return;
    };
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let used = configuration(&words);
    if used.is_some_and(|used| Path::new(used) != site.config) {
        let (used, config) = (used.unwrap_or_default(), site.config.display());
        found.errors.push(format!("process {pid} runs on {used}, not on {config}: say --config"));
    }
}

/// Returns the configuration that a command line names.
fn configuration(words: &[impl AsRef<str>]) -> Option<&str> {
    let at = words.iter().position(|word| matches!(word.as_ref(), "--config" | "-config"));
    let attached = words.iter().find_map(|word| {
        let word = word.as_ref();
        word.strip_prefix("--config=").or_else(|| word.strip_prefix("-config="))
    });
    attached.or_else(|| words.get(at? + 1).map(AsRef::as_ref))
}

/// What the doctor finds stands in the way, unless it is as it should be now, or was lived with.
fn weigh(finding: &Finding, found: &mut Checked) {
    let Finding { check, level, found: text, .. } = finding;
    let text = format!("{check}: {text}");
    let expected =
        OF_THE_OTHER.contains(check) || (*check == "other agents" && !text.contains("kubelet"));
    match level {
        _ if expected => {}
        Level::Ok => {}
        Level::Error if !LIVED_WITH.contains(check) => found.errors.push(text),
        Level::Error | Level::Warning => found.remarks.push(text),
    }
}

fn rights(site: &Site, found: &mut Checked) {
    let claims = match claims(&site.config, &site.supervisor_config) {
        Ok(claims) => claims,
        Err(reason) => return found.errors.push(reason),
    };
    let written = needs_settings(&claims) && !site.supervisor_config.exists();
    if written {
        let path = site.supervisor_config.display();
        found.remarks.push(format!("{path} is written, so that devicetwin runs as root"));
    }
    for claim in claims {
        let (module, folder) = (claim.module, claim.folder.display());
        match (claim.grantable, module) {
            (true, _) => found.remarks.push(format!("{folder} is given to the user of {module}")),
            (false, ipc_proto::Module::Devicetwin) => {
                if !written {
                    found.remarks.push(format!(
                        "devicetwin cannot write in {folder}, so mappers do not reach it; see \
                         'Rights' in the operations guide"
                    ));
                }
            }
            (false, _) => found.errors.push(format!(
                "{module} cannot write in {folder}, which is root's: give {module} 'user: root' in \
                 {}",
                site.supervisor_config.display()
            )),
        }
    }
}

/// Asks which pods of the node our agent could not run.
fn unsupported(config: &Path) -> Result<Vec<String>, String> {
    let config = config.to_string_lossy();
    let text = program::ask(["survey", "pods", "--config", &config])?;
    serde_json::from_slice(&text).map_err(|error| program::foreign(&error))
}

fn statics(effective: &Value, found: &mut Checked) {
    let path = effective.pointer("/modules/edged/tailoredKubeletConfig/staticPodPath");
    let path = path.and_then(Value::as_str).unwrap_or_default();
    let count = fs::read_dir(path).map_or(0, Iterator::count);
    if count > 0 {
        found.remarks.push(format!(
            "the static pods of {path} are made anew: their identities are each agent's own"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_a_command_line_is_found() {
        let of = |line: &str| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            configuration(&words).map(str::to_owned)
        };
        assert_eq!(of("edgecore --v=2 --config /a"), Some("/a".to_owned()));
        assert_eq!(of("edgecore --config=/b"), Some("/b".to_owned()));
        assert_eq!(of("edgecore --v=2"), None);
        assert_eq!(of("edgecore --config"), None);
    }

    #[test]
    fn what_the_doctor_finds_is_weighed() {
        let mut found = Checked::default();
        let mut say = |check, level, text: &str| {
            weigh(&Finding { check, level, found: text.to_owned(), advice: "" }, &mut found);
        };
        say("agent", Level::Error, "it does not run");
        say("other agents", Level::Error, "edgecore (process 7)");
        say("mqtt", Level::Error, "nobody listens");
        say("memory", Level::Warning, "little");
        say("other agents", Level::Error, "kubelet (process 8)");
        say("cloud port", Level::Error, "refused");
        assert_eq!(found.errors, ["other agents: kubelet (process 8)", "cloud port: refused"]);
        assert_eq!(found.remarks, ["mqtt: nobody listens", "memory: little"]);
    }

    #[test]
    fn a_unit_with_arguments_or_without_ours_below_it_stays() {
        let unit = |arguments: &[&str], hidden: Option<&str>| Unit {
            file: "/etc/edgecore.service".into(),
            program: "/usr/local/bin/edgecore".into(),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            hidden: hidden.map(Into::into),
            changed_by: Vec::new(),
        };
        let mut found = Checked::default();
        assert!(exchanged(unit(&[], Some("/usr/lib/x")), &mut found).is_some());
        assert!(found.remarks.is_empty());
        assert!(exchanged(unit(&[], None), &mut found).is_none());
        assert!(exchanged(unit(&["--config=/x"], Some("/usr/lib/x")), &mut found).is_none());
        assert_eq!(found.remarks.len(), 2);
    }
}
