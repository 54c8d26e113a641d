//! A registry of images on the loopback, with the one image that a private containerd was made with.
//!
//! Repositories under `open/` are for everyone, those under `closed/` for who has the password;
//! there are no others.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{fs, thread};

use anyhow::{Context, Result};
use data_encoding::BASE64;
use serde_json::{Value, json};

/// Who may have what is closed.
pub const LOGIN: &str = "ann:hush";

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The registry; it serves until the test's process ends.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    tags: BTreeMap<String, String>,
}

/// What is served.
#[derive(Debug, Default)]
struct Shelf {
    /// By digest.
    blobs: BTreeMap<String, Vec<u8>>,
    /// The digests of manifests, by tag.
    tags: BTreeMap<String, String>,
}

impl Shelf {
    fn put(&mut self, bytes: Vec<u8>) -> Result<(String, usize)> {
        let (digest, size) = (digest(&bytes)?, bytes.len());
        self.blobs.insert(digest.clone(), bytes);
        Ok((digest, size))
    }

    /// Puts an image of these layers on the shelf.
    fn image(&mut self, tag: &str, config: Vec<u8>, layers: &[(String, usize)]) -> Result<()> {
        let config = self.put(config)?;
        let layer = |(digest, size): &(String, usize)| {
            let kind = "application/vnd.docker.image.rootfs.diff.tar";
            json!({"mediaType": kind, "digest": digest, "size": size})
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": config.0, "size": config.1},
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        });
        let (manifest, _) = self.put(manifest.to_string().into_bytes())?;
        self.tags.insert(tag.to_owned(), manifest);
        Ok(())
    }
}

impl Registry {
    /// Starts a registry with the image whose parts lie in the folder of a private containerd.
    ///
    /// # Errors
    /// When the parts cannot be read, or the loopback has no port left.
    pub fn start(containerd: &Path) -> Result<Self> {
        Self::start_with(containerd, &[])
    }

    /// As [`Registry::start`], with further tags, whose images have the programs of a folder more:
    /// where KubeEdge has its own, in `/usr/local/bin`.
    ///
    /// # Errors
    /// As there, and when a program cannot be packed.
    pub fn start_with(containerd: &Path, programs: &[(&str, &Path)]) -> Result<Self> {
        let parts = containerd.join("image");
        let mut shelf = Shelf::default();
        let base = shelf.put(fs::read(parts.join("layer.tar"))?)?;
        let config = fs::read(parts.join("config.json"))?;
        shelf.image("1", config.clone(), std::slice::from_ref(&base))?;
        for (tag, folder) in programs {
            let layer = shelf.put(packed(folder)?)?;
            let mut config: Value = serde_json::from_slice(&config)?;
            config["rootfs"]["diff_ids"] = json!([base.0, layer.0]);
            shelf.image(tag, config.to_string().into_bytes(), &[base.clone(), layer])?;
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let tags = shelf.tags.clone();
        let shelf = Arc::new(shelf);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shelf = Arc::clone(&shelf);
                // A client that goes away is no fault of the registry's.
                thread::spawn(move || serve(&stream, &shelf).ok());
            }
        });
        Ok(Self { address, tags })
    }

    /// Returns its name, as the first part of an image's.
    #[must_use]
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Returns the digest of the image with this tag.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn digest(&self, tag: &str) -> &str {
        &self.tags[tag]
    }
}

/// Packs the programs of a folder as a layer of an image.
fn packed(programs: &Path) -> Result<Vec<u8>> {
    let root = tempfile::tempdir()?;
    let folder = root.path().join("usr/local/bin");
    fs::create_dir_all(&folder)?;
    for program in fs::read_dir(programs)? {
        let program = program?;
        fs::copy(program.path(), folder.join(program.file_name()))?;
    }
    let packed =
        Command::new("tar").arg("-C").arg(root.path()).args(["-cf", "-", "usr"]).output()?;
    anyhow::ensure!(packed.status.success(), "tar: {}", String::from_utf8_lossy(&packed.stderr));
    Ok(packed.stdout)
}

fn digest(bytes: &[u8]) -> Result<String> {
    let mut command = Command::new("sha256sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("standard input was piped")?.write_all(bytes)?;
    let said = String::from_utf8(child.wait_with_output()?.stdout)?;
    Ok(format!("sha256:{}", said.split(' ').next().unwrap_or_default()))
}

/// Answers the requests of a connection until it ends.
fn serve(stream: &TcpStream, shelf: &Shelf) -> Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(request) = lines.next().transpose()? {
        let mut login = String::new();
        while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("authorization") {
                value.trim().clone_into(&mut login);
            }
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default();
        let known = login == format!("Basic {}", BASE64.encode(LOGIN.as_bytes()));
        let last = path.rsplit('/').next().unwrap_or_default();
        let wanted = if path.contains("/manifests/") && !last.contains(':') {
            shelf.tags.get(last).map(String::as_str)
        } else {
            Some(last)
        };
        let found = wanted.and_then(|digest| Some((digest, shelf.blobs.get(digest)?)));
        let (status, more, body) = match found {
            _ if path.starts_with("/v2/closed/") && !known => {
                ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"test\"\r\n".to_owned(), None)
            }
            Some((digest, blob)) => {
                let is_manifest = shelf.tags.values().any(|it| it == digest);
                let kind = if is_manifest { MANIFEST } else { "application/octet-stream" };
                let more = format!("Content-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\n");
                ("200 OK", more, Some(blob))
            }
            None if path == "/v2/" => ("200 OK", String::new(), None),
            None => ("404 Not Found", String::new(), None),
        };
        let length = body.map_or(0, Vec::len);
        let mut writer = stream;
        write!(writer, "HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\n\r\n")?;
        if let Some(body) = body.filter(|_| method == "GET") {
            writer.write_all(body)?;
        }
    }
    Ok(())
}
