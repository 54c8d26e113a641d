//! Who runs which module, once the names are looked up on this host.

use ipc_proto::Module;
use nix::unistd::{Uid, User};

use super::reader::Findings;
use super::supervisor_yaml::{Settings, UserName};

/// The user that the packages make for the modules that need no root.
const USUAL: &str = "edgecore";

/// Returns the user and group of each module; none means as the supervisor.
pub(super) fn resolve(
    settings: &Settings,
    root: bool,
    findings: &mut Findings,
) -> [Option<(u32, u32)>; Module::COUNT] {
    if !root {
        findings
            .not_in_force
            .push("users: the supervisor is not root, so every module runs as its user".to_owned());
        return [None; Module::COUNT];
    }
    let common = match &settings.user {
        Some(user) => look_up("user", user, findings),
        None => usual(findings),
    };
    Module::ALL.map(|module| match &settings.modules[module.index()].user {
        Some(user) => look_up(&format!("modules.{module}.user"), user, findings),
        None if module.needs_root() || module.owns_files() => None,
        None => common,
    })
}

/// Looks up the usual user, which a host without our package does not have.
fn usual(findings: &mut Findings) -> Option<(u32, u32)> {
    let user = User::from_name(USUAL).ok().flatten();
    if user.is_none() {
        findings.not_in_force.push(format!(
            "users: this host has no user '{USUAL}' and supervisor.yaml names none, \
             so every module runs as root"
        ));
    }
    user.map(|user| (user.uid.as_raw(), user.gid.as_raw()))
}

fn look_up(place: &str, user: &UserName, findings: &mut Findings) -> Option<(u32, u32)> {
    let found = match user {
        UserName::Id(0) => return None,
        UserName::Id(id) => {
            let entry = User::from_uid(Uid::from_raw(*id)).ok().flatten();
            return Some((*id, entry.map_or(*id, |user| user.gid.as_raw())));
        }
        UserName::Name(name) => User::from_name(name).ok().flatten(),
    };
    match found {
        Some(user) if user.uid.is_root() => None,
        Some(user) => Some((user.uid.as_raw(), user.gid.as_raw())),
        None => {
            let UserName::Name(name) = user else { return None };
            findings.errors.push(format!(
                "supervisor.yaml: {place} is \"{name}\", expected a user of this host or an id"
            ));
            None
        }
    }
}
