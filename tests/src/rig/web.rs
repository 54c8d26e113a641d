//! HTTP as tests need it: a small server whose answers they choose, and one request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::SOON;

/// A request that a server got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The first line, such as `POST /x HTTP/1.1`.
    pub line: String,
    /// The headers as they came.
    pub headers: Vec<String>,
    /// The body.
    pub body: String,
}

/// A server that answers each request with what `answer` returns, until its test ends.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    got: Receiver<Got>,
}

impl Web {
    /// Starts it on a free port of the loopback.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(answer: impl Fn(&Got) -> Vec<u8> + Send + 'static) -> Result<Self> {
        Self::serve(None, answer)
    }

    /// As [`Self::start`], over TLS.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start_secure(
        tls: Arc<ServerConfig>,
        answer: impl Fn(&Got) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        Self::serve(Some(tls), answer)
    }

    fn serve(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Got) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, got) = sync_channel(4096);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One that breaks off is the next one's chance.
                drop(serve(stream, tls.as_ref(), &answer, &sender));
            }
        });
        Ok(Self { address, got })
    }

    /// Returns its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits for the next request.
    ///
    /// # Errors
    /// When none comes soon.
    pub fn next(&self) -> Result<Got> {
        self.got.recv_timeout(SOON).context("no request came")
    }

    /// Returns a request that has come, if there is one.
    #[must_use]
    pub fn look(&self) -> Option<Got> {
        self.got.try_recv().ok()
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<&Arc<ServerConfig>>,
    answer: &impl Fn(&Got) -> Vec<u8>,
    sender: &SyncSender<Got>,
) -> Result<()> {
    stream.set_read_timeout(Some(SOON))?;
    let mut stream: Box<dyn Duplex> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let connection = ServerConnection::new(Arc::clone(tls))?;
            Box::new(StreamOwned::new(connection, stream))
        }
    };
    let got = read(&mut BufReader::new(&mut stream))?;
    let bytes = answer(&got);
    // A test that is over looks no more.
    drop(sender.try_send(got));
    stream.write_all(&bytes)?;
    stream.flush()?;
    Ok(())
}

/// A connection, secured or not.
trait Duplex: Read + Write {}

impl<T: Read + Write> Duplex for T {}

/// Reads a request or a reply.
fn read(reader: &mut impl BufRead) -> Result<Got> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        headers.push(header.to_owned());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Got { line: line.trim().to_owned(), headers, body })
}

/// Makes a reply.
#[must_use]
pub fn reply(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nX-Served-By: test\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// Sends one request and returns the reply.
///
/// # Errors
/// When nobody listens, or no reply comes within a minute.
pub fn request(port: u16, method: &str, path: &str, body: &[u8]) -> Result<Got> {
    ask(&mut connect(port)?, method, path, body)
}

/// As [`request`], over TLS; the server is `127.0.0.1` to its certificate.
///
/// # Errors
/// As [`request`], and when the server is not to be trusted.
pub fn request_secure(
    port: u16,
    tls: &Arc<ClientConfig>,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Got> {
    let name = ServerName::try_from("127.0.0.1")?;
    let connection = ClientConnection::new(Arc::clone(tls), name)?;
    ask(&mut StreamOwned::new(connection, connect(port)?), method, path, body)
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Sends one request over a connection and returns the reply.
///
/// # Errors
/// When no reply comes as long as the connection waits.
pub fn ask(stream: &mut (impl Read + Write), method: &str, path: &str, body: &[u8]) -> Result<Got> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Asked-By: test\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    // A server that has read enough may answer, and close, before it has read all.
    let _enough = stream.write_all(body);
    read(&mut BufReader::new(stream))
}
