//! The files of a containerd: its configuration, that of its network, and an image.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::{PLUGINS, output, program};
use crate::{IMAGE, PAUSE};

/// The names under which busybox is in the image.
const NAMES: [&str; 13] = [
    "sh", "sleep", "cat", "true", "false", "echo", "env", "httpd", "ls", "nc", "touch", "wget",
    "cp",
];

pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join("c.sock")
}

pub(crate) fn config(folder: &Path) -> PathBuf {
    folder.join("config.toml")
}

/// What is in memory on a real node.
pub(crate) fn state(folder: &Path) -> PathBuf {
    folder.join("state")
}

/// Where the network plug-in notes who has which address.
pub(crate) fn addresses(folder: &Path) -> PathBuf {
    folder.join("ipam/test")
}

/// Writes the configuration. What makes it differ from every other is in `bridge` and `stamp`.
pub(crate) fn configure(folder: &Path, bridge: &str, stamp: u32) -> Result<()> {
    let path = folder.display();
    let subnet = format!("10.{}.{}.0/24", 128 + stamp % 100, stamp / 100 % 250);
    let network = format!(
        r#"{{"cniVersion":"0.4.0","name":"test","plugins":[{{"type":"bridge","bridge":"{bridge}",
        "isGateway":true,"hairpinMode":true,"ipam":{{"type":"host-local","dataDir":"{path}/ipam",
        "ranges":[[{{"subnet":"{subnet}"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}}},
        {{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}"#
    );
    fs::create_dir(folder.join("net.d"))?;
    fs::write(folder.join("net.d/10-test.conflist"), network)?;
    // Each in its own network namespace folder, so that what is left can be told from others'.
    let text = format!(
        r#"version = 2
root = "{path}/root"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{socket}"
[ttrpc]
  address = ""
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{path}/net.d"
"#,
        state = state(folder).display(),
        socket = socket(folder).display(),
    );
    fs::write(config(folder), text).context("cannot write the configuration")
}

/// Makes an image of busybox, with both names, in a folder; returns its file.
///
/// # Errors
/// When a file cannot be written, or a program fails.
pub fn image(folder: &Path) -> Result<PathBuf> {
    let (root, parts) = (folder.join("rootfs"), folder.join("image"));
    fs::create_dir_all(root.join("bin"))?;
    fs::create_dir_all(&parts)?;
    fs::copy(program("busybox")?, root.join("bin/busybox")).context("cannot copy busybox")?;
    for name in NAMES {
        symlink("busybox", root.join("bin").join(name))?;
    }
    let layer = parts.join("layer.tar");
    output(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&layer).arg("."))?;
    let sum = output(Command::new("sha256sum").arg(&layer))?;
    let sum = sum.split_whitespace().next().context("sha256sum says nothing")?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{"Env":["PATH=/bin"],
        "Cmd":["/bin/sleep","1000000"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{sum}"]}}}}"#
    );
    fs::write(parts.join("config.json"), config)?;
    let manifest = format!(
        r#"[{{"Config":"config.json","RepoTags":["{IMAGE}","{PAUSE}"],"Layers":["layer.tar"]}}]"#
    );
    fs::write(parts.join("manifest.json"), manifest)?;
    let image = folder.join("image.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    output(Command::new("tar").arg("-C").arg(&parts).arg("-cf").arg(&image).args(files))?;
    Ok(image)
}
