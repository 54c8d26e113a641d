//! A man in the middle: a TLS server where the real one should be, with whichever certificate a test
//! puts into its files, which keeps all that is said to it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::SOON;

/// The most that is kept of what one connection says.
const MOST: usize = 64 * 1024;

/// A man in the middle, until its test ends.
#[derive(Debug)]
pub struct Middle {
    port: u16,
    heard: Receiver<String>,
}

impl Middle {
    /// Listens at a free port of the loopback with `<name>.crt` and `<name>.key` of a folder, read
    /// for each connection, and says `answer` to whoever asks.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start(folder: &Path, name: &str, answer: &[u8]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let files = ["crt", "key"].map(|end| folder.join(format!("{name}.{end}")));
        let (sender, heard) = sync_channel(4096);
        let answer = answer.to_vec();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, answer, sender) = (files.clone(), answer.clone(), sender.clone());
                thread::spawn(move || hear(stream, &files, &answer, &sender));
            }
        });
        Ok(Self { port, heard })
    }

    /// Returns its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns what was said since the last time, of each connection one text: an empty one where
    /// the other side ended it.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        self.heard.try_iter().collect()
    }
}

/// Takes a connection: what comes before and after it is secured is kept, up to a pause.
fn hear(
    mut stream: TcpStream,
    [certificate, key]: &[PathBuf; 2],
    answer: &[u8],
    sender: &SyncSender<String>,
) -> Result<()> {
    stream.set_read_timeout(Some(SOON))?;
    let chain = vec![CertificateDer::from_pem_file(certificate).context("no certificate")?];
    let key = PrivateKeyDer::from_pem_file(key).context("no key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let mut connection = ServerConnection::new(Arc::new(config))?;
    let mut said = Vec::new();
    while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
    if !connection.is_handshaking() {
        let mut secured = StreamOwned::new(connection, stream);
        let mut part = [0; 4096];
        while said.len() < MOST {
            match secured.read(&mut part) {
                Ok(0) => break,
                Ok(count) => said.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            }
            if said.ends_with(b"\r\n\r\n") && !answer.is_empty() {
                secured.write_all(answer)?;
                secured.flush()?;
                break;
            }
        }
    }
    // A test that is over looks no more.
    sender.try_send(String::from_utf8_lossy(&said).into_owned()).unwrap_or_default();
    Ok(())
}
