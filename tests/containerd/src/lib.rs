//! A containerd of a test's own: its folders, socket and bridge are made for it and go with it. The
//! system's own service is not touched.
//!
//! [`Containerd`] starts, kills and reboots it; [`Leftovers`] tells what is there of it on the host,
//! asked of the host and not of containerd. What it runs is asked of it by its users, over its
//! socket.

mod files;
mod groups;
mod host;
mod leftovers;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

pub use files::image;
pub use groups::{group, remove as remove_groups};
pub use host::{Lack, lacks};
pub use leftovers::Leftovers;

/// The image that pods are made of: busybox, with a few of its names.
pub const IMAGE: &str = "registry.test/busybox:1";

/// The image of sandboxes.
pub const PAUSE: &str = "registry.test/pause:1";

/// How long it may take to start, or to take an image.
const SOON: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A containerd. Everything of it goes when it is dropped, also what runs in it.
#[derive(Debug)]
pub struct Containerd {
    child: Option<Child>,
    bridge: String,
    folder: TempDir,
}

impl Containerd {
    /// Starts one that has the images; when this returns, it answers.
    ///
    /// # Errors
    /// When it does not start; its log's end stands in the text.
    pub fn start() -> Result<Self> {
        let mut containerd = Self::prepare()?;
        containerd.begin()?;
        Ok(containerd)
    }

    /// Starts one that was prepared, and gives it the images; when this returns, it answers.
    ///
    /// # Errors
    /// When it does not start; its log's end stands in the text.
    pub fn begin(&mut self) -> Result<()> {
        self.start_again()?;
        self.import(&image(self.path())?)
    }

    /// Makes its folder and its configuration; nothing runs yet, and it has no images.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn prepare() -> Result<Self> {
        // Short: sockets of its helpers have a bound on their paths.
        let folder = tempfile::Builder::new().prefix("cd").tempdir_in("/tmp")?;
        // Tests run side by side, in processes of their own and in threads of one.
        let path = folder.path().to_string_lossy();
        let stamp = path.bytes().fold(std::process::id(), |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u32::from(byte))
        });
        let bridge = format!("cd{stamp:x}");
        files::configure(folder.path(), &bridge, stamp)?;
        Ok(Self { child: None, bridge, folder })
    }

    /// Returns the folder that everything of it is in; the caller may put more there.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the socket that it listens on.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        files::socket(self.path())
    }

    /// Returns its process; none while it is dead.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it, and nothing of what runs in it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("cannot kill containerd")?;
            child.wait().context("cannot wait for containerd")?;
        }
        Ok(())
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// When it does not; its log's end stands in the text.
    pub fn start_again(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_for("it answers", || Ok(self.ctr(&["version"]).is_ok()))
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be run, or runs already.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "containerd runs already");
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(files::config(self.path())).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("cannot run containerd")?);
        Ok(())
    }

    /// Does what a reboot does: every process of it is gone at once, and with them what lives in
    /// memory: mounts, network namespaces, the bridge, its state folder. It does not run then.
    ///
    /// # Errors
    /// When something stays.
    pub fn reboot(&mut self) -> Result<()> {
        self.kill()?;
        leftovers::end_all(self.path())?;
        host::delete_link(&self.bridge);
        let state = files::state(self.path());
        match fs::remove_dir_all(&state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", state.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Loads the images of a file, and waits until pods can use them.
    ///
    /// # Errors
    /// When it refuses them.
    pub fn import(&self, image: &Path) -> Result<()> {
        let image = image.to_str().context("a path that is no text")?;
        self.ctr(&["-n", "k8s.io", "images", "import", "--snapshotter", "native", image])?;
        // The part that serves pods marks what it has taken up.
        let filter = format!("name=={IMAGE}");
        self.wait_for("its images are known", || {
            let list = self.ctr(&["-n", "k8s.io", "images", "ls", &filter])?;
            Ok(list.contains("io.cri-containerd.image=managed"))
        })
    }

    /// Runs its own command-line program on it, and returns what that writes.
    ///
    /// # Errors
    /// When the program fails; what it said stands in the text.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(arguments);
        host::output(&mut command)
    }

    /// Returns what is there of it on the host.
    ///
    /// # Errors
    /// When the host cannot be looked at.
    pub fn leftovers(&self) -> Result<Leftovers> {
        Leftovers::of(self.path())
    }

    /// Returns the file that it logs to.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    fn wait_for(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !holds()? {
            if begin.elapsed() > SOON {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                let lines: Vec<_> = log.lines().rev().take(10).collect();
                let end: Vec<_> = lines.into_iter().rev().collect();
                bail!("waited {SOON:?} until {what}; its log ends:\n{}", end.join("\n"));
            }
            park_timeout(LOOK);
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // What stays in spite of this is in a temporary folder.
        drop(self.reboot());
    }
}
