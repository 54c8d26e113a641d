//! nginx as Debian ships it, passing one port on.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::rig::network::Network;
use crate::rig::{SOON, process, wait_until};

/// Where Debian puts it, and what it needs for this.
const PROGRAM: &str = "/usr/sbin/nginx";
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// The program at work; it ends when dropped.
#[derive(Debug)]
pub(super) struct Nginx {
    process: Child,
    _folder: TempDir,
}

impl Nginx {
    /// Passes what comes to `from` on to `to`; nothing where it is not installed.
    pub(super) fn start(network: &Network, from: &str, to: &str) -> Result<Option<Self>> {
        if !Path::new(PROGRAM).exists() || !Path::new(STREAM).exists() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("nginx.conf");
        let place = folder.path().display();
        let text = format!(
            "load_module {STREAM};\nuser root;\nworker_processes auto;\ndaemon off;\n\
             pid {place}/pid;\nerror_log {place}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             stream {{ server {{ listen {from}; proxy_pass {to}; }} }}\n"
        );
        fs::write(&path, text)?;
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(&path).args(["-e", "/dev/null"]).stdin(Stdio::null());
        let process = network.run(|| command.spawn().context("cannot run nginx"))?;
        let nginx = Self { process, _folder: folder };
        wait_until("nginx listens", SOON, || {
            network.run(|| Ok(TcpStream::connect(from)?)).is_ok()
        })?;
        Ok(Some(nginx))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // its first process ends the others, if it is asked to
        let asked = process::signal(self.process.id(), rustix::process::Signal::TERM);
        asked.and_then(|()| Ok(self.process.wait()?)).map(drop).unwrap_or_default();
    }
}
