//! Who uses streams: what Kubernetes' API server asks on behalf of kubectl, of the cloud, or of the
//! node's own API directly.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

use super::SOON;
use super::cloud::{Cloud, NODE};
use super::spdy::{Session, Streams};

/// Where streams are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Door(SocketAddr);

impl Door {
    /// The cloud's, behind which is the tunnel.
    #[must_use]
    pub fn of_cloud(cloud: &Cloud) -> Self {
        Self(cloud.with(|cloud| async move { cloud.stream() }))
    }

    /// The node's own API.
    #[must_use]
    pub const fn of_node(api: SocketAddr) -> Self {
        Self(api)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn get(self, target: &str) -> Result<TcpStream> {
        self.ask("GET", target, "")
    }

    /// Asks that the connection become a stream of SPDY, as CloudCore's clients do.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn upgrade(self, target: &str) -> Result<TcpStream> {
        let headers = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
            X-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
        self.ask("POST", target, headers)
    }

    /// Sends a request with further headers, each with its line's end.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn ask(self, method: &str, target: &str, headers: &str) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.0).context("cannot ask for a stream")?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_nodelay(true)?;
        // By this name the cloud finds the tunnel when numbers of the node are asked for.
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {NODE}:10350\r\n{headers}\r\n");
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }

    /// Reads a page to its end, the head with it.
    ///
    /// # Errors
    /// When it does not come.
    pub fn page(self, target: &str) -> Result<String> {
        read_all(&mut self.ask("GET", target, "Connection: close\r\n")?)
    }

    /// Asks for the log of a pod's container.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn logs(self, pod: &str, container: &str, query: &str) -> Result<TcpStream> {
        self.get(&format!("/containerLogs/default/{pod}/{container}?{query}"))
    }

    /// Runs a command in a pod's container `c`, with these streams.
    ///
    /// # Errors
    /// When it is refused.
    pub fn exec(self, pod: &str, command: &[&str], streams: Streams) -> Result<Session> {
        let mut target = format!("/exec/default/{pod}/c?{}", streams.query());
        for word in command {
            target += "&command=";
            target += &escaped(word);
        }
        self.session(&target, streams)
    }

    /// Joins the streams of a pod's container.
    ///
    /// # Errors
    /// When it is refused.
    pub fn attach(self, pod: &str, container: &str, streams: Streams) -> Result<Session> {
        let target = format!("/attach/default/{pod}/{container}?{}", streams.query());
        self.session(&target, streams)
    }

    fn session(self, target: &str, streams: Streams) -> Result<Session> {
        let mut stream = self.upgrade(target)?;
        agreed(&mut stream)?;
        Session::begin(stream, streams)
    }
}

/// Reads the head of an answer that agrees to an upgrade.
///
/// # Errors
/// When it does not; the text tells the answer.
pub fn agreed(stream: &mut TcpStream) -> Result<()> {
    let head = read_until(stream, "\r\n\r\n")?;
    ensure!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    Ok(())
}

/// Writes a text so that it can stand in a query.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).into(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Reads up to a text.
///
/// # Errors
/// When the stream ends before; the text tells what came.
pub fn read_until(stream: &mut TcpStream, end: &str) -> Result<String> {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .with_context(|| format!("{:?} came", String::from_utf8_lossy(&text)))?;
        text.extend(byte);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Reads up to the end.
///
/// # Errors
/// When there is none in time.
pub fn read_all(stream: &mut TcpStream) -> Result<String> {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).with_context(|| String::from_utf8_lossy(&text).into_owned())?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Reads up to the end and forgets; a cut counts as one.
///
/// # Errors
/// When there is none in time.
pub fn ends(stream: &mut TcpStream) -> Result<()> {
    match std::io::copy(stream, &mut std::io::sink()) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error).context("the stream does not end"),
    }
}
