//! What a rig is made of before it runs: a folder, two configuration files, a command line.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use ipc_proto::Module;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::mosquitto::free_port;
use super::privilege::is_root;
use super::{Rig, binaries};

/// The user that modules run as when the test is root: `nobody`, who owns nothing.
const MODULE_USER: u32 = 65_534;

/// The longest path of a Unix socket, its final NUL not counted.
const MAX_SOCKET_PATH: usize = 107;

/// A rig that does not run yet: all ten modules enabled, faults allowed, all else by default.
#[derive(Debug)]
pub struct Setup {
    /// The folder that everything of this rig lives in; it goes with the rig.
    pub folder: TempDir,
    /// `supervisor.yaml`, as JSON, which is YAML.
    pub supervisor: Value,
    /// `edgecore.yaml`, as JSON.
    pub edgecore: Value,
    /// The user and group to start the supervisor as, when it is not to be the caller's.
    pub user: Option<u32>,
    /// The program to run.
    pub program: PathBuf,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// The modules whose places the test takes.
    pub seats: Vec<Module>,
    /// Where the node's own API is served.
    pub api: SocketAddr,
}

/// Returns the configuration of a node that has everything in `folder`: nothing of the host's own
/// agent, certificates or containers is touched.
/// What the node is short of on this machine is not what most tests are about.
fn no_thresholds() -> Value {
    let signals = ["memory.available", "nodefs.available", "nodefs.inodesFree"];
    let signals = signals.into_iter().chain(["imagefs.available", "imagefs.inodesFree"]);
    signals.map(|signal| (signal.to_owned(), json!("0%"))).collect::<Map<_, _>>().into()
}

fn edgecore_yaml(folder: &Path, store: &Path, api: SocketAddr) -> Value {
    let certs = folder.join("certs");
    let runtime = format!("unix://{}", folder.join("containerd.sock").display());
    json!({
        "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
        "kind": "EdgeCore",
        "database": {"dataSource": store.join("edgecore.db")},
        "modules": {
            "edgeHub": {
                "tlsCaFile": certs.join("rootCA.crt"),
                "tlsCertFile": certs.join("server.crt"),
                "tlsPrivateKeyFile": certs.join("server.key"),
            },
            "edged": {
                "hostnameOverride": "edge1",
                "rootDirectory": folder.join("kubelet"),
                "tailoredKubeletConfig": {
                    "containerRuntimeEndpoint": runtime,
                    "imageServiceEndpoint": runtime,
                    "podLogsDir": folder.join("pods"),
                    "readOnlyPort": api.port(),
                    "staticPodPath": folder.join("manifests"),
                    "evictionHard": no_thresholds(),
                    "imageGCHighThresholdPercent": 100,
                },
            },
            "edgeStream": {
                "tlsTunnelCAFile": certs.join("rootCA.crt"),
                "tlsTunnelCertFile": certs.join("server.crt"),
                "tlsTunnelPrivateKeyFile": certs.join("server.key"),
            },
            "deviceTwin": {"dmiSockPath": format!("{}/", folder.join("dmi").display())},
        },
    })
}

impl Setup {
    /// Makes the folder and the configuration.
    ///
    /// # Errors
    /// When there is no room for the folder, or the program under test cannot be built.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("edge").tempdir()?;
        // modules of another user must get through to their sockets
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let longest = folder.path().join("run").join(Module::Metamanager.socket_name());
        ensure!(
            longest.as_os_str().len() <= MAX_SOCKET_PATH,
            "{} is too long for a socket, expected at most {MAX_SOCKET_PATH} bytes: set TMPDIR",
            longest.display()
        );
        let modules =
            Module::ALL.map(|module| (module.name().to_owned(), json!({"enabled": true})));
        let mut supervisor =
            json!({"faults": true, "modules": Value::Object(modules.into_iter().collect())});
        let names = format!("127.0.0.1:{}", free_port()?);
        supervisor["modules"]["edgemesh"]["dns"] = json!({"listen": names});
        // the host's packet filter is nobody's to change; tests of it have a network of their own
        supervisor["modules"]["edgemesh"]["traffic"] = json!({"enabled": false});
        let store = folder.path().join("store");
        fs::create_dir(&store)?;
        if is_root() {
            supervisor["user"] = json!(MODULE_USER);
            chown(&store, Some(MODULE_USER), Some(MODULE_USER))?;
        }
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut edgecore = edgecore_yaml(folder.path(), &store, api);
        let local = format!("127.0.0.1:{}", free_port()?);
        edgecore["modules"]["metaManager"] = json!({"metaServer": {"server": local}});
        let program = binaries::program("edgecore")?;
        let (arguments, seats) = (Vec::new(), Vec::new());
        Ok(Self { folder, supervisor, edgecore, user: None, program, arguments, seats, api })
    }

    /// Lays `patch` over `supervisor.yaml`: objects are merged, all else is replaced.
    #[must_use]
    pub fn with(mut self, patch: Value) -> Self {
        merge(&mut self.supervisor, patch);
        self
    }

    /// Leaves `module`'s place free, so that the test can take it: the real one is stopped as soon
    /// as all run, and who speaks for it has to be of the test's own user. To its peers it is a
    /// module of this node.
    #[must_use]
    pub fn with_seat(mut self, module: Module) -> Self {
        let own = rustix::process::geteuid().as_raw();
        self.seats.push(module);
        self.with(json!({"modules": {module.name(): {"user": own}}}))
    }

    /// Starts the whole as another user.
    ///
    /// # Errors
    /// When the folder cannot be given away; the caller has to be root.
    pub fn as_user(mut self, user: u32) -> Result<Self> {
        for folder in [self.folder.path(), &self.folder.path().join("store")] {
            chown(folder, Some(user), Some(user))?;
        }
        self.user = Some(user);
        if let Value::Object(keys) = &mut self.supervisor {
            keys.remove("user");
        }
        Ok(self)
    }

    /// Runs a copy of the program, which the test can replace and every user can reach.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn with_own_program(mut self) -> Result<Self> {
        let copy = self.folder.path().join("edgecore");
        fs::copy(&self.program, &copy).context("cannot copy the program")?;
        self.program = copy;
        Ok(self)
    }

    /// Returns the runtime folder.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Writes the configuration and returns the command that starts the supervisor on it.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn command(&self) -> Result<Command> {
        let folder = self.folder.path();
        let [edgecore, supervisor] = ["edgecore.yaml", "supervisor.yaml"].map(|f| folder.join(f));
        fs::write(&edgecore, self.edgecore.to_string())?;
        fs::write(&supervisor, self.supervisor.to_string())?;
        let mut command = Command::new(&self.program);
        command.args([Path::new("--config"), &edgecore]);
        command.args([Path::new("--supervisor-config"), &supervisor]);
        command.args([Path::new("--runtime-dir"), &self.runtime_dir()]).args(&self.arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(folder).stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        Ok(command)
    }

    /// Starts the supervisor with its output in a file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self) -> Result<Child> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = self.command()?;
        command.stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// Returns the file that the supervisor's output goes to.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("supervisor.log")
    }

    /// Starts the supervisor and waits until every enabled module runs, but those whose place is to
    /// be free.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn start(self) -> Result<Rig> {
        let rig = self.launch()?;
        rig.settle_in()?;
        Ok(rig)
    }

    /// Starts the supervisor and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(self) -> Result<Rig> {
        Rig::launch(self)
    }
}

/// Lays `patch` over `value`.
fn merge(value: &mut Value, patch: Value) {
    match (value, patch) {
        (Value::Object(value), Value::Object(patch)) => {
            for (key, patch) in patch {
                merge(value.entry(key).or_insert(Value::Null), patch);
            }
        }
        (value, patch) => *value = patch,
    }
}
