//! A containerd of the test's own: its folders, socket and bridge are made for it and go with it.
//! The system's own service is not touched.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cri::{Runtime, Trouble, words as w};

/// The image that the tests' pods and sandboxes are made of.
pub(super) const IMAGE: &str = "registry.test/busybox:1";
const PAUSE: &str = "registry.test/pause:1";

/// Where Debian has the network plug-ins.
const PLUGINS: &str = "/usr/lib/cni";

/// How long anything may take here.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// A running containerd.
pub(super) struct Containerd {
    child: Child,
    bridge: String,
    folder: tempfile::TempDir,
}

/// Starts a containerd, unless this machine has none; then it says so, and in CI it fails.
pub(super) async fn containerd() -> Option<Containerd> {
    let root = rustix::process::geteuid().is_root();
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let has = |name: &str| path.split(':').any(|folder| Path::new(folder).join(name).exists());
    let mut missing: Vec<&str> =
        ["containerd", "ctr", "runc", "busybox"].into_iter().filter(|name| !has(name)).collect();
    if !Path::new(PLUGINS).join("bridge").exists() {
        missing.push("the network plug-ins");
    }
    if !root {
        missing.push("root's powers");
    }
    if missing.is_empty() {
        return Some(Containerd::start().await);
    }
    let missing = missing.join(", ");
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!ci, "this test needs {missing}, and in CI it must run");
    eprintln!("skipped: this machine lacks {missing}");
    None
}

impl Containerd {
    async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("cd").tempdir_in("/tmp").unwrap();
        let number = std::process::id();
        // Tests run side by side: in processes of their own, and in threads of one.
        let stamp = folder
            .path()
            .to_string_lossy()
            .bytes()
            .fold(number, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let bridge = format!("cd{stamp:x}");
        configure(folder.path(), &bridge, stamp);
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(folder.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let this = Self { child, bridge, folder };
        let runtime = this.runtime();
        until("containerd answers", async || runtime.status(w::StatusRequest {}).await.is_ok())
            .await;
        let image = image(this.path());
        run(Command::new("ctr")
            .arg("-a")
            .arg(this.socket())
            .args(["-n", "k8s.io", "images", "import", "--snapshotter", "native"])
            .arg(image));
        let here = async || {
            let image = Some(w::ImageSpec { image: IMAGE.to_owned() });
            let status = runtime.image_status(w::ImageStatusRequest { image }).await;
            status.is_ok_and(|status| status.image.is_some())
        };
        until("the image is known", here).await;
        this
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("c.sock")
    }

    pub(super) fn runtime(&self) -> Runtime {
        Runtime::new(self.socket())
    }

    /// Removes all that runs, and ends.
    pub(super) async fn end(self) {
        let runtime = self.runtime();
        let (sandboxes, _) = runtime.list(std::collections::BTreeMap::new()).await.unwrap();
        for sandbox in sandboxes {
            let request = w::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            // An engine that still works may have been faster.
            let stopped = runtime.stop_sandbox(request).await;
            assert!(stopped.as_ref().is_err_and(Trouble::is_not_found) || stopped.is_ok());
            let request = w::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
            runtime.remove_sandbox(request).await.unwrap();
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // A test that failed leaves its sandboxes behind: their processes go with their shims.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        let _no_bridge =
            Command::new("ip").args(["link", "del", &self.bridge]).stderr(Stdio::null()).status();
        let _leftover = crate::volumes::tree::remove(self.folder.path());
    }
}

/// Waits until something holds.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn configure(folder: &Path, bridge: &str, stamp: u32) {
    let path = folder.display();
    let subnet = format!("10.{}.{}.0/24", 128 + stamp % 100, stamp / 100 % 250);
    let network = format!(
        r#"{{"cniVersion":"0.4.0","name":"test","plugins":[{{"type":"bridge","bridge":"{bridge}",
        "isGateway":true,"hairpinMode":true,"ipam":{{"type":"host-local","dataDir":"{path}/ipam",
        "ranges":[[{{"subnet":"{subnet}"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}}}]}}"#
    );
    fs::create_dir(folder.join("net.d")).unwrap();
    fs::write(folder.join("net.d/10-test.conflist"), network).unwrap();
    let config = format!(
        r#"version = 2
root = "{path}/root"
state = "{path}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{path}/c.sock"
[ttrpc]
  address = ""
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{path}/net.d"
"#
    );
    fs::write(folder.join("config.toml"), config).unwrap();
}

/// Makes an image of busybox and returns its file.
fn image(folder: &Path) -> PathBuf {
    let (root, parts) = (folder.join("rootfs"), folder.join("image"));
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(&parts).unwrap();
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.unwrap(), root.join("bin/busybox")).unwrap();
    for name in ["sh", "sleep", "cat", "true", "false", "echo", "env", "httpd"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let layer = parts.join("layer.tar");
    run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&layer).arg("."));
    let sum = run(Command::new("sha256sum").arg(&layer));
    let sum = sum.split_whitespace().next().unwrap();
    let arch = crate::node::host::architecture();
    let config = format!(
        r#"{{"architecture":"{arch}","os":"linux","config":{{"Env":["PATH=/bin"],
        "Cmd":["/bin/sleep","1000000"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{sum}"]}}}}"#
    );
    fs::write(parts.join("config.json"), config).unwrap();
    let manifest = format!(
        r#"[{{"Config":"config.json","RepoTags":["{IMAGE}","{PAUSE}"],"Layers":["layer.tar"]}}]"#
    );
    fs::File::create(parts.join("manifest.json")).unwrap().write_all(manifest.as_bytes()).unwrap();
    let image = folder.join("image.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    run(Command::new("tar").arg("-C").arg(&parts).arg("-cf").arg(&image).args(files));
    image
}
