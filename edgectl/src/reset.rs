//! `edgectl reset`: makes a node no node, so that it can join again, this cloud or another.
//!
//! The configuration goes last: as long as it is there, a reset that was interrupted can be run
//! again and knows where the rest is.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::ResetArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::join::effective;
use crate::screen::Screen;
use crate::service;

/// Where keadm leaves a token, in the folder above the configuration's.
const TOKEN_FILE: &str = "bootstrap-edgecore.conf";

/// Where the certificates are named.
const CERTIFICATES: [&str; 3] = ["tlsCaFile", "tlsCertFile", "tlsPrivateKeyFile"];

/// Resets.
pub(crate) fn run(
    arguments: &ResetArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let config = &arguments.file.config;
    if !config.exists() {
        writeln!(screen, "there is no {}: nothing to do", config.display())?;
        return Ok(());
    }
    let effective = effective(config)?;
    let goes: Vec<PathBuf> =
        goes(&effective, config).into_iter().filter(|path| path.exists()).collect();
    if !arguments.force && !asked(&goes, screen)? {
        return Err(Failure::Failed("nothing was removed".to_owned()));
    }
    if service::is_there() {
        service::stop()?;
    }
    if client.status().is_ok() {
        let reason = "edgecore still runs: end it first; nothing was removed";
        return Err(Failure::Failed(reason.to_owned()));
    }
    for path in goes {
        remove(&path).map_err(|error| {
            Failure::Failed(format!("cannot remove {}: {error}", path.display()))
        })?;
        writeln!(screen, "removed {}", path.display())?;
    }
    writeln!(screen, "containers that run were left: 'crictl rmp -fa' removes them")?;
    Ok(())
}

/// Returns what the node has of its cloud, the configuration last.
fn goes(effective: &Value, config: &Path) -> Vec<PathBuf> {
    let hub = &effective["modules"]["edgeHub"];
    let above = config.parent().and_then(Path::parent);
    let mut goes: Vec<_> = above.map(|folder| folder.join(TOKEN_FILE)).into_iter().collect();
    goes.extend(CERTIFICATES.iter().filter_map(|key| hub[*key].as_str()).map(PathBuf::from));
    if let Some(database) = effective["database"]["dataSource"].as_str() {
        goes.extend(database_files(Path::new(database)));
    }
    // that the node was short of something, for which it would refuse pods of the next cloud
    if let Some(root) = effective["modules"]["edged"]["rootDirectory"].as_str() {
        goes.push(Path::new(root).join("edged-pressure.json"));
    }
    goes.push(config.to_owned());
    goes
}

/// Returns the database with its journals and snapshots, and the folders that modules have beside it.
fn database_files(database: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (database.parent(), database.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of_it = entries.map(|entry| entry.path()).filter(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.strip_prefix(&*name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
    });
    // eventbus's journal; metaserver's certificate, which is the old cloud's
    let beside = ["mqtt/journal", "mqtt/journal.new", "mqtt", "metaserver"];
    of_it.chain(beside.map(|name| folder.join(name))).collect()
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Asks whether these may go.
fn asked(goes: &[PathBuf], screen: &mut Screen) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage("nobody can be asked here: add --force".to_owned()));
    }
    writeln!(screen, "This node forgets its cloud. These go:")?;
    for path in goes {
        writeln!(screen, "  {}", path.display())?;
    }
    write!(screen, "Remove them? [y/N] ")?;
    screen.flush()?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::Failed(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
