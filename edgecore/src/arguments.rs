//! The command line: KubeEdge's options, ours beside them, and the flags of Go's logger, which
//! existing units carry and which mean nothing here.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use supervisor::Options;

use crate::config::{defaults_text, minimal_text};

const CONFIG: &str = "/etc/kubeedge/config/edgecore.yaml";
const SUPERVISOR_CONFIG: &str = "/etc/kubeedge/config/supervisor.yaml";
const RUNTIME_DIR: &str = "/run/edgecore";

/// The KubeEdge release whose protocol and files this agent follows.
const KUBEEDGE: &str = "v1.23.1";

const HELP: &str = "\
edgecore: the agent of a KubeEdge edge node

Usage: edgecore [OPTION]...

It runs in the foreground, as one supervisor and one process for each module.
'edgectl status' shows them.

Options:
  --config FILE             KubeEdge's configuration
                            [/etc/kubeedge/config/edgecore.yaml]
  --supervisor-config FILE  what KubeEdge's has no room for; may be missing
                            [/etc/kubeedge/config/supervisor.yaml]
  --runtime-dir DIR         sockets, logs and the evidence of crashes
                            [/run/edgecore]
  --defaultconfig           print a configuration with every default, and end
  --minconfig               print the configuration to begin with, and end
  --version                 print the version, and end
  --help                    print this, and end
";

/// The flags of Go's logger; those marked take a value.
const LOGGER_FLAGS: &[(&str, bool)] = &[
    ("v", true),
    ("vmodule", true),
    ("logtostderr", false),
    ("alsologtostderr", false),
    ("stderrthreshold", true),
    ("log_dir", true),
    ("log_file", true),
    ("log_file_max_size", true),
    ("log_backtrace_at", true),
    ("skip_headers", false),
    ("skip_log_headers", false),
    ("add_dir_header", false),
    ("one_output", false),
];

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Run the agent.
    Supervise(Options),
    /// Read the configuration for the supervisor.
    Convert { config: PathBuf, supervisor_config: PathBuf, forget_token: bool },
    /// Print the configuration's text with keys set, for node jobs.
    Edit { config: PathBuf, set: Vec<String> },
    /// Print what the configuration comes to, and the defaults, for `edgectl config`.
    Effective { config: PathBuf },
    /// Look whether the cloud is the one that the token is of, for `edgectl join`.
    CheckCloud { config: PathBuf },
    /// Print the devices that the database has, for `edgectl device`.
    Devices { config: PathBuf },
    /// Print the services that the database has, for `edgectl mesh`.
    Services { config: PathBuf },
    /// Ask the mesh for a name as a pod does, for `edgectl mesh resolve`.
    Resolve { server: SocketAddr, domain: String, namespace: String, name: String },
    /// Follow a connection to a service, for `edgectl mesh trace`.
    Trace { config: PathBuf, asked: edgemesh::Asked },
    /// Remove what the mesh left in the kernel, for `edgectl mesh remove`.
    Unmesh,
    /// Serve metrics at the doors that this process was given, or print them.
    Metrics { runtime_dir: PathBuf },
    /// Look at a node that another agent may run, for `edgectl takeover`, `bundle` and `doctor`.
    Survey { what: Survey, config: PathBuf },
    /// Print this and end.
    Print(String),
}

/// What of a node is looked at.
#[derive(Debug)]
pub(crate) enum Survey {
    /// The containers that run.
    Containers,
    /// The pods of the database that this agent could not run.
    Pods,
    /// The tables of the database.
    Tables,
    /// Whether the database is whole.
    Database,
    /// From when until when the node's certificate holds.
    Certificate,
    /// What the container runtime is.
    Runtime,
    /// The database, copied to a file.
    Copy(PathBuf),
}

/// A command line that makes no sense; the text says why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageError(pub(crate) String);

/// Reads the words behind the program's name. `--resume` is the supervisor's own: it stands where a
/// reload executes the program again. The second value holds remarks for the operator.
pub(crate) fn parse(words: Vec<OsString>) -> Result<(Command, Vec<String>), UsageError> {
    let mut config = PathBuf::from(CONFIG);
    let mut supervisor_config = PathBuf::from(SUPERVISOR_CONFIG);
    let mut runtime_dir = PathBuf::from(RUNTIME_DIR);
    let (mut resume, mut forget_token) = (false, false);
    let (mut effective, mut check_cloud) = (false, false);
    let mut set = Vec::new();
    let mut remarks = Vec::new();
    if let Some(command) = of_others(&words)? {
        return Ok((command, remarks));
    }
    let mut words = words.into_iter().peekable();
    let convert = words.next_if(|word| word == "config").is_some();
    let devices = words.next_if(|word| !convert && word == "devices").is_some();
    while let Some(word) = words.next() {
        let (name, attached) = split(&word)?;
        let mut value = || {
            let value = attached.clone().map(OsString::from).or_else(|| words.next());
            value.map(PathBuf::from).ok_or_else(|| UsageError(format!("--{name} needs a value")))
        };
        match name.as_str() {
            "config" => config = value()?,
            "supervisor-config" if !devices => supervisor_config = value()?,
            "runtime-dir" if !convert && !devices => runtime_dir = value()?,
            "resume" if !convert && !devices => resume = true,
            "forget-token" if convert => forget_token = true,
            "effective" if convert => effective = true,
            "check-cloud" if convert => check_cloud = true,
            "set" if convert => set.push(value()?.to_string_lossy().into_owned()),
            "defaultconfig" => return Ok((Command::Print(defaults_text()), remarks)),
            "minconfig" => return Ok((Command::Print(minimal_text()), remarks)),
            "version" => return Ok((Command::Print(version()), remarks)),
            "help" | "h" => return Ok((Command::Print(HELP.to_owned()), remarks)),
            name => match LOGGER_FLAGS.iter().find(|(flag, _)| *flag == name) {
                Some((_, takes_value)) => {
                    if *takes_value {
                        value()?;
                    }
                    remarks.push(format!(
                        "--{name} is passed over: logs are set by logLevel in supervisor.yaml"
                    ));
                }
                None => return Err(UsageError(format!("unknown option --{name}"))),
            },
        }
    }
    let command = if !set.is_empty() {
        Command::Edit { config, set }
    } else if effective {
        Command::Effective { config }
    } else if check_cloud {
        Command::CheckCloud { config }
    } else if convert {
        Command::Convert { config, supervisor_config, forget_token }
    } else if devices {
        Command::Devices { config }
    } else {
        let runtime_dir = absolute(&runtime_dir)?;
        Command::Supervise(Options { config, supervisor_config, runtime_dir, resume })
    };
    Ok((command, remarks))
}

/// Reads what is no option: the words of edgectl, and of the supervisor's helpers.
fn of_others(words: &[OsString]) -> Result<Option<Command>, UsageError> {
    let Some((first, rest)) = words.split_first() else { return Ok(None) };
    Ok(Some(match first.to_str() {
        Some("mesh") => of_mesh(rest)?,
        Some("survey") => of_survey(rest)?,
        Some("metrics") => {
            let runtime_dir = rest.first().map_or_else(|| RUNTIME_DIR.into(), PathBuf::from);
            Command::Metrics { runtime_dir }
        }
        Some(_) | None => return Ok(None),
    }))
}

/// Reads what edgectl wants to know of the mesh.
fn of_mesh(words: &[OsString]) -> Result<Command, UsageError> {
    let words: Option<Vec<_>> = words.iter().map(|word| word.to_str()).collect();
    match words.as_deref() {
        Some(["services", "--config", config]) => Ok(Command::Services { config: config.into() }),
        Some(["remove"]) => Ok(Command::Unmesh),
        Some(["resolve", server, domain, namespace, name]) => {
            let server = server.parse().map_err(|_| {
                UsageError(format!("the server is '{server}', expected an address and a port"))
            })?;
            let [domain, namespace, name] = [domain, namespace, name].map(|it| (*it).to_owned());
            Ok(Command::Resolve { server, domain, namespace, name })
        }
        Some(["trace", "--config", config, asked]) => {
            let asked = serde_json::from_str(asked);
            let asked = asked.map_err(|error| UsageError(format!("what is asked: {error}")))?;
            Ok(Command::Trace { config: config.into(), asked })
        }
        Some(_) | None => Err(UsageError("'mesh' is edgectl's own".to_owned())),
    }
}

/// Reads what edgectl wants to know of a node.
fn of_survey(words: &[OsString]) -> Result<Command, UsageError> {
    let texts: Vec<_> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let what = match texts[..] {
        ["containers", "--config", _] => Survey::Containers,
        ["pods", "--config", _] => Survey::Pods,
        ["tables", "--config", _] => Survey::Tables,
        ["database", "--config", _] => Survey::Database,
        ["certificate", "--config", _] => Survey::Certificate,
        ["runtime", "--config", _] => Survey::Runtime,
        ["copy", "--config", _, _] => Survey::Copy(PathBuf::from(&words[3])),
        _ => return Err(UsageError("'survey' is edgectl's own".to_owned())),
    };
    Ok(Command::Survey { what, config: PathBuf::from(&words[2]) })
}

/// Modules and their supervisor do not work in the folder that the command was given in.
fn absolute(folder: &Path) -> Result<PathBuf, UsageError> {
    std::path::absolute(folder)
        .map_err(|error| UsageError(format!("--runtime-dir '{}': {error}", folder.display())))
}

/// Takes an option apart: its name without dashes, and what stands behind an equals sign.
fn split(word: &OsString) -> Result<(String, Option<String>), UsageError> {
    let shown = || word.to_string_lossy().chars().take(64).collect::<String>();
    let text = word.to_str().ok_or_else(|| UsageError(format!("'{}' is no UTF-8", shown())))?;
    let unexpected = || UsageError(format!("unexpected argument '{}'", shown()));
    let option = text.strip_prefix("--").or_else(|| text.strip_prefix('-'));
    let option = option.filter(|option| !option.is_empty()).ok_or_else(unexpected)?;
    Ok(match option.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (option.to_owned(), None),
    })
}

/// Returns what `--version` prints: KubeEdge's form, which its tools read; `raw` prints the same.
fn version() -> String {
    format!("KubeEdge {KUBEEDGE}+edgecore.{}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests;
