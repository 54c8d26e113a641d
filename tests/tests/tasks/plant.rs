//! A node with pods whose programs may be replaced, and a registry with new ones.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context, Result};
use edgecore_tests::rig::pods::{LONG, Node};
use edgecore_tests::rig::registry::Registry;
use edgecore_tests::rig::{Setup, wait_until};
use ipc_proto::Module;
use serde_json::{Value, json};

use super::orders::{order, steps, wait_step};

/// What the cloud calls jobs that bring another version.
const UPGRADE: &str = "nodeupgradejob";

/// The version that the programs of this repository have.
pub(crate) const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Where the programs are in the images of upgrades; the test's registry has them there.
const PACKAGE: &str = "open/installation-package";

/// What an installation is made of.
const PROGRAMS: [&str; 2] = ["edgecore", "edgectl"];

/// Starts a node that has pods and takes jobs; nothing where the machine cannot run pods.
pub(crate) fn with_pods(change: impl FnOnce(&mut Setup)) -> Result<Option<Node>> {
    Node::start_with(|setup| {
        setup.supervisor["modules"]["taskmanager"]["enabled"] = true.into();
        change(setup);
    })
}

/// The node and the registry.
pub(crate) struct Plant {
    pub(crate) node: Node,
    pub(crate) registry: Registry,
}

impl Plant {
    /// Starts one; nothing where the machine cannot run pods. The registry has our own programs
    /// under their version, and under the tags given scripts for edgecore and edgectl.
    pub(crate) fn new(others: &[(&str, [&str; 2])]) -> Result<Option<Self>> {
        let Some(node) = with_pods(|setup| {
            let folder = setup.folder.path().join("bin");
            let copy = |name| fs::copy(setup.program.with_file_name(name), folder.join(name));
            fs::create_dir(&folder).expect("a folder");
            for name in PROGRAMS {
                copy(name).expect("a copy");
            }
            setup.program = folder.join("edgecore");
            setup.supervisor["modules"]["metaserver"]["enabled"] = true.into();
            let server = &mut setup.edgecore["modules"]["metaManager"]["metaServer"];
            (server["enable"], server["dummyServer"]) = (true.into(), "".into());
        })?
        else {
            return Ok(None);
        };
        let scripts = tempfile::tempdir()?;
        let installed = node.rig.setup().program.with_file_name("");
        let mut folders = vec![(VERSION, installed)];
        for (tag, texts) in others {
            let folder = scripts.path().join(tag);
            fs::create_dir(&folder)?;
            for (name, text) in PROGRAMS.iter().zip(texts).filter(|(_, text)| !text.is_empty()) {
                let program = node.rig.setup().program.display().to_string();
                let file = folder.join(name);
                fs::write(&file, text.replace("PROGRAM", &program))?;
                fs::set_permissions(&file, Permissions::from_mode(0o755))?;
            }
            folders.push((tag, folder));
        }
        let folders: Vec<(&str, &Path)> =
            folders.iter().map(|(tag, folder)| (*tag, folder.as_path())).collect();
        let registry = Registry::start_with(node.containerd.path(), &folders)?;
        Ok(Some(Self { node, registry }))
    }

    pub(crate) fn order(&self, job: &str, version: &str, more: Value) -> Result<()> {
        let image = format!("{}/{PACKAGE}", self.registry.name());
        let mut spec = json!({"version": version, "image": image, "timeoutSeconds": 40});
        if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
            spec.extend(more);
        }
        order(&self.node.cloud, UPGRADE, job, spec)
    }

    pub(crate) fn wait(&self, job: &str, step: &str) -> Result<Value> {
        wait_step(&self.node.cloud, UPGRADE, job, step).with_context(|| {
            format!("{}\n{}", self.node.rig.module_log(Module::Taskmanager), self.node.rig.log())
        })
    }

    pub(crate) fn steps(&self, job: &str) -> Result<Vec<(String, bool)>> {
        steps(&self.node.cloud, UPGRADE, job)
    }

    /// Returns the files that are installed, by their numbers: edgecore's and edgectl's.
    pub(crate) fn installed(&self) -> Result<[u64; 2]> {
        let number = |name| {
            let file = self.node.rig.setup().program.with_file_name(name);
            fs::metadata(&file).with_context(|| format!("no {}", file.display()))
        };
        Ok([number(PROGRAMS[0])?.ino(), number(PROGRAMS[1])?.ino()])
    }

    /// Tells which file the supervisor runs, by its number.
    pub(crate) fn running(&self) -> Result<u64> {
        let pid = self.node.rig.supervisor_pid();
        Ok(fs::metadata(format!("/proc/{pid}/exe"))?.ino())
    }

    /// Waits until the supervisor and all modules run the program that is installed, and nothing is
    /// left beside it.
    pub(crate) fn wait_until_at_rest(&self) -> Result<()> {
        let folder = self.node.rig.setup().program.with_file_name("");
        wait_until("the installed program runs, alone", LONG, || {
            let alone = fs::read_dir(&folder).is_ok_and(|all| all.count() == PROGRAMS.len());
            alone && self.installed().ok().map(|it| it[0]) == self.running().ok()
        })
        .with_context(|| self.node.rig.log())?;
        self.node.rig.wait_until_whole()?;
        Ok(())
    }
}
