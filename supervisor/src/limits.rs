//! What each module's process is confined to: computed here from the configuration, put on by the
//! process itself before it does anything.

use ipc_proto::Module;
use ipc_proto::lifeline::Confine;

use crate::config::{Config, ModuleConfig};

/// What this supervisor may do on this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Powers {
    /// Our user id.
    pub(crate) uid: u32,
    /// Whether memory is bounded by control groups.
    pub(crate) memory_groups: bool,
}

impl Powers {
    const fn root(self) -> bool {
        self.uid == 0
    }

    /// Returns the user and group that a module's process becomes; none where it stays what we are.
    pub(crate) const fn user(self, config: &ModuleConfig) -> Option<(u32, u32)> {
        if self.root() { config.user } else { None }
    }

    /// Returns the user id of each module's process, by [`Module::index`].
    pub(crate) fn uids(self, config: &Config) -> [u32; Module::COUNT] {
        Module::ALL.map(|module| self.user(config.of(module)).map_or(self.uid, |(uid, _)| uid))
    }

    /// Returns what a module's process is to put on.
    pub(crate) fn confine(self, module: Module, config: &ModuleConfig) -> Confine {
        let user = self.user(config);
        Confine {
            user,
            keep_root: self.root() && module.needs_root() && user.is_none_or(|(uid, _)| uid == 0),
            seccomp: config.seccomp,
            landlock: config.landlock,
            writable: config.writable.clone(),
            readable: config.readable.clone(),
            address_space: if self.memory_groups { None } else { config.memory_max },
            open_files: config.open_files,
        }
    }
}
