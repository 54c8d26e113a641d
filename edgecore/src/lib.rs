//! The shipped binary: the supervisor, all modules and the converter of the configuration in one
//! file, so that all processes of a node share its text in memory. Which of them a process is, its
//! name says (argv\[0\]), or else its first argument; without either it is the supervisor.

mod cli;
mod config;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use ipc_proto::Module;

/// The first argument that makes a process the converter.
const CONVERTER: &str = "config";

/// Does what name and arguments ask for and returns the process's exit code.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let first = arguments.first().and_then(|first| first.to_str());
    if let Some(module) = module_of(&name).or_else(|| first.and_then(|first| first.parse().ok())) {
        return run_module(module);
    }
    if first == Some(CONVERTER) {
        return cli::convert(&arguments[1..]);
    }
    cli::supervise(&arguments)
}

/// Reads a module's name from a program's path.
fn module_of(name: &OsString) -> Option<Module> {
    Path::new(name).file_name()?.to_str()?.parse().ok()
}

fn run_module(module: Module) -> ExitCode {
    match module {
        Module::Metamanager => module_runtime::main(module, metamanager::run),
        Module::Devicetwin => module_runtime::main(module, devicetwin::run),
        Module::Edgehub => module_runtime::main(module, edgehub::run),
        Module::Edged => module_runtime::main(module, edged::run),
        Module::Eventbus => module_runtime::main(module, eventbus::run),
        Module::Servicebus => module_runtime::main(module, servicebus::run),
        Module::Taskmanager => module_runtime::main(module, taskmanager::run),
        Module::Metaserver => module_runtime::main(module, metaserver::run),
        Module::Edgestream => module_runtime::main(module, edgestream::run),
        Module::Edgemesh => module_runtime::main(module, edgemesh::run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_chooses_the_module() {
        assert_eq!(module_of(&"edged".into()), Some(Module::Edged));
        assert_eq!(module_of(&"/usr/libexec/metamanager".into()), Some(Module::Metamanager));
        assert_eq!(module_of(&"/usr/local/bin/edgecore".into()), None);
        assert_eq!(module_of(&"".into()), None);
    }
}
