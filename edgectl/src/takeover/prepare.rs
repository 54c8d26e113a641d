//! What is done while the old agent still runs: copies for the operator's hand, and rights for the
//! modules that are not root. All of it can be done again.

use std::fs;
use std::io;
use std::path::Path;

use ipc_proto::Module;

use super::journal::{Folder, Site};
use super::rights::{Claim, claims};
use crate::failure::Failure;
use crate::program;
use crate::whole_file::Staged;

/// The first line of a `supervisor.yaml` of ours.
const HEAD: &str = "# Written by 'edgectl takeover'.";

/// Where the certificates are named.
const CERTIFICATES: [&str; 3] = ["tlsCaFile", "tlsCertFile", "tlsPrivateKeyFile"];

/// Copies and gives.
///
/// # Errors
/// When something cannot be written; nothing that runs has noticed.
pub(super) fn prepare(folder: &Folder, site: &Site) -> Result<(), Failure> {
    let copy = folder.file("edgecore.db");
    let (config, to) = (site.config.to_string_lossy(), copy.to_string_lossy());
    program::ask(["survey", "copy", "--config", &config, &to]).map_err(Failure::Failed)?;
    let effective = crate::join::effective(&site.config)?;
    let hub = &effective["modules"]["edgeHub"];
    let certificates = CERTIFICATES.iter().filter_map(|key| hub[*key].as_str()).map(Path::new);
    for file in certificates.chain([&*site.config, &*site.supervisor_config]) {
        keep(folder, file)?;
    }
    let cannot = |path: &Path, error: io::Error| {
        Failure::Failed(format!("cannot give {} to its module: {error}", path.display()))
    };
    let claims = claims(&site.config, &site.supervisor_config).map_err(Failure::Failed)?;
    if needs_settings(&claims) && !site.supervisor_config.exists() {
        write_settings(&site.supervisor_config)?;
    }
    for claim in claims.iter().filter(|claim| claim.grantable) {
        claim.grant().map_err(|error| cannot(&claim.folder, error))?;
    }
    Ok(())
}

/// Copies a text file under its own name; one that is not there is none to keep.
fn keep(folder: &Folder, file: &Path) -> Result<(), Failure> {
    let cannot =
        |error: io::Error| Failure::Failed(format!("cannot copy {}: {error}", file.display()));
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(cannot)?,
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Staged::write(&folder.file(&name), &text).and_then(Staged::publish).map_err(cannot)
}

/// Tells whether devicetwin has to run as root: its socket's folder is root's, and so are the
/// sockets of mappers that registered with the Go edgecore.
pub(super) fn needs_settings(claims: &[Claim]) -> bool {
    claims.iter().any(|claim| claim.module == Module::Devicetwin && !claim.grantable)
}

fn write_settings(path: &Path) -> Result<(), Failure> {
    let text = format!(
        "{HEAD} Mappers of the Go edgecore are root's, and so is the folder of\n\
         # the socket where they register.\nmodules: {{ devicetwin: {{ user: root }} }}\n"
    );
    Staged::write(path, &text)
        .and_then(Staged::publish)
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

/// Takes back what was written for our agent alone.
///
/// # Errors
/// When it cannot be removed.
pub(super) fn undo(site: &Site) -> Result<(), Failure> {
    let path = &site.supervisor_config;
    let ours = fs::read_to_string(path).is_ok_and(|text| text.starts_with(HEAD));
    if ours {
        fs::remove_file(path).map_err(|error| {
            Failure::Failed(format!("cannot remove {}: {error}", path.display()))
        })?;
    }
    Ok(())
}
