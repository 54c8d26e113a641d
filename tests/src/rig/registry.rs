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
use serde_json::json;

/// Who may have what is closed.
pub const LOGIN: &str = "ann:hush";

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The registry; it serves until the test's process ends.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
}

/// What is served, by digest.
type Blobs = BTreeMap<String, Vec<u8>>;

impl Registry {
    /// Starts a registry with the image whose parts lie in the folder of a private containerd.
    ///
    /// # Errors
    /// When the parts cannot be read, or the loopback has no port left.
    pub fn start(containerd: &Path) -> Result<Self> {
        let mut blobs = Blobs::new();
        let mut part = |bytes: Vec<u8>| -> Result<(String, usize)> {
            let (digest, size) = (digest(&bytes)?, bytes.len());
            blobs.insert(digest.clone(), bytes);
            Ok((digest, size))
        };
        let parts = containerd.join("image");
        let config = part(fs::read(parts.join("config.json"))?)?;
        let layer = part(fs::read(parts.join("layer.tar"))?)?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": config.0, "size": config.1},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar",
                "digest": layer.0, "size": layer.1}],
        });
        let (manifest, _) = part(manifest.to_string().into_bytes())?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shelf = Arc::new((blobs, manifest));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shelf = Arc::clone(&shelf);
                // A client that goes away is no fault of the registry's.
                thread::spawn(move || serve(&stream, &shelf).ok());
            }
        });
        Ok(Self { address })
    }

    /// Returns its name, as the first part of an image's.
    #[must_use]
    pub fn name(&self) -> String {
        self.address.to_string()
    }
}

fn digest(bytes: &[u8]) -> Result<String> {
    let mut command = Command::new("sha256sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("standard input was piped")?.write_all(bytes)?;
    let said = String::from_utf8(child.wait_with_output()?.stdout)?;
    Ok(format!("sha256:{}", said.split(' ').next().unwrap_or_default()))
}

/// Answers the requests of a connection until it ends.
fn serve(stream: &TcpStream, (blobs, manifest): &(Blobs, String)) -> Result<()> {
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
            (last == "1").then_some(manifest.as_str())
        } else {
            Some(last)
        };
        let found = wanted.and_then(|digest| Some((digest, blobs.get(digest)?)));
        let (status, more, body) = match found {
            _ if path.starts_with("/v2/closed/") && !known => {
                ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"test\"\r\n".to_owned(), None)
            }
            Some((digest, blob)) => {
                let kind = if digest == manifest { MANIFEST } else { "application/octet-stream" };
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
