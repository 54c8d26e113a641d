//! The table of modules: their names, who dials whom, and what each needs of the machine.
//!
//! The order of [`Module`]'s variants is the dial order: a module dials only modules that stand
//! before it, so that two processes can never wait for each other. Once a connection stands,
//! messages go both ways on it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of the processes that the supervisor keeps running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Module {
    /// The store of the node's objects; the only writer of `edgecore.db`.
    Metamanager,
    /// Device twins and the mappers' gRPC server.
    Devicetwin,
    /// The cloud link.
    Edgehub,
    /// The pod engine.
    Edged,
    /// MQTT: broker or client of one.
    Eventbus,
    /// HTTP calls between cloud and node.
    Servicebus,
    /// Node upgrade, configuration update and image pre-pull jobs.
    Taskmanager,
    /// The local Kubernetes API.
    Metaserver,
    /// The tunnel for logs, exec, attach and metrics.
    Edgestream,
    /// The service mesh.
    Edgemesh,
}

/// The life of a module in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleState {
    /// Its process serves.
    Running,
    /// Its process was made and is not ready yet, or waits for its turn to be made.
    Starting,
    /// It died and will be started again.
    Backoff,
    /// It keeps dying; it is tried again at the longest pause.
    Held,
    /// The operator stopped it.
    Stopped,
    /// The configuration does not want it.
    Disabled,
}

impl Module {
    /// How many modules there are.
    pub const COUNT: usize = 10;

    /// All modules in dial order: nobody dials a module that stands after it.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Metamanager,
        Self::Devicetwin,
        Self::Edgehub,
        Self::Edged,
        Self::Eventbus,
        Self::Servicebus,
        Self::Taskmanager,
        Self::Metaserver,
        Self::Edgestream,
        Self::Edgemesh,
    ];

    /// Returns the name that operators, configuration and file names use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metamanager => "metamanager",
            Self::Devicetwin => "devicetwin",
            Self::Edgehub => "edgehub",
            Self::Edged => "edged",
            Self::Eventbus => "eventbus",
            Self::Servicebus => "servicebus",
            Self::Taskmanager => "taskmanager",
            Self::Metaserver => "metaserver",
            Self::Edgestream => "edgestream",
            Self::Edgemesh => "edgemesh",
        }
    }

    /// Returns the modules that this one dials, all of which stand before it in [`Module::ALL`].
    #[must_use]
    pub const fn dials(self) -> &'static [Self] {
        match self {
            Self::Metamanager => &[],
            Self::Devicetwin | Self::Edged | Self::Edgemesh => &[Self::Metamanager],
            Self::Edgehub => &[Self::Metamanager, Self::Devicetwin],
            Self::Eventbus => &[Self::Metamanager, Self::Devicetwin, Self::Edgehub],
            Self::Servicebus => &[Self::Metamanager, Self::Edgehub],
            Self::Taskmanager => &[Self::Metamanager, Self::Edgehub, Self::Edged],
            Self::Metaserver => &[Self::Metamanager, Self::Edgehub, Self::Edged, Self::Taskmanager],
            Self::Edgestream => &[Self::Edgehub, Self::Edged],
        }
    }

    /// Returns the modules that dial this one.
    pub fn dialled_by(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |other| other.dials().contains(&self))
    }

    /// Returns every module that shares a connection with this one, in dial order.
    pub fn peers(self) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(move |other| self.dials().contains(other) || other.dials().contains(&self))
    }

    /// Returns the position in [`Module::ALL`], from 0 to [`Module::COUNT`] − 1.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the file name of the module's listening socket inside the runtime folder.
    #[must_use]
    pub fn socket_name(self) -> String {
        format!("{}.sock", self.name())
    }

    /// Tells whether the module's work needs root powers: edged mounts and enters namespaces,
    /// edgemesh programs the kernel's packet filter. All others run as an ordinary user.
    #[must_use]
    pub const fn needs_root(self) -> bool {
        matches!(self, Self::Edged | Self::Edgemesh)
    }

    /// Tells whether the module's work is on the agent's own files, which are the supervisor's
    /// user's: taskmanager replaces program and configuration, and whoever may do that may do
    /// anything in the end. It runs as that user, and has none of root's powers beyond.
    #[must_use]
    pub const fn owns_files(self) -> bool {
        matches!(self, Self::Taskmanager)
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is none of the ten modules'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown module '{0}', expected one of {names}", names = Module::ALL.map(Module::name).join(", "))]
pub struct UnknownModule(pub String);

impl FromStr for Module {
    type Err = UnknownModule;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|module| module.name() == name)
            .ok_or_else(|| UnknownModule(name.chars().take(64).collect()))
    }
}

/// A set of modules in two bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleSet(u16);

impl ModuleSet {
    /// The set of no module.
    pub const EMPTY: Self = Self(0);

    /// Returns this set with `module` in it.
    #[must_use]
    pub const fn with(self, module: Module) -> Self {
        Self(self.0 | 1 << module.index())
    }

    /// Returns this set without `module`.
    #[must_use]
    pub const fn without(self, module: Module) -> Self {
        Self(self.0 & !(1 << module.index()))
    }

    /// Tells whether `module` is in the set.
    #[must_use]
    pub const fn contains(self, module: Module) -> bool {
        self.0 & 1 << module.index() != 0
    }

    /// Tells whether the set has no module in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the set's modules in dial order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Module> {
        Module::ALL.into_iter().filter(move |module| self.contains(*module))
    }
}

impl FromIterator<Module> for ModuleSet {
    fn from_iter<I: IntoIterator<Item = Module>>(modules: I) -> Self {
        modules.into_iter().fold(Self::EMPTY, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dial_order_has_no_circle() {
        for module in Module::ALL {
            for dialled in module.dials() {
                assert!(dialled < &module, "{module} dials {dialled}, which stands after it");
            }
        }
    }

    #[test]
    fn positions_and_names_agree_with_the_table() {
        for (position, module) in Module::ALL.into_iter().enumerate() {
            assert_eq!(module.index(), position);
            assert_eq!(module.name().parse(), Ok(module));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_names_that_exist() {
        let error = "edgedd".parse::<Module>().unwrap_err().to_string();
        assert!(
            error.starts_with("unknown module 'edgedd', expected one of metamanager"),
            "{error}"
        );
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set: ModuleSet = [Module::Edged, Module::Edgehub].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Module::Edgehub, Module::Edged]);
        assert!(!set.without(Module::Edged).contains(Module::Edged));
        assert!(ModuleSet::EMPTY.is_empty());
    }
}
