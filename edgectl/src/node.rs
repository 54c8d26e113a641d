//! The APIs of the node, on the loopback: kubelet's, which edged serves, and Kubernetes', which
//! metaserver serves. Found through the supervisor, asked over plain HTTP.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use ipc_proto::{Module, ModuleState};
use serde::Deserialize;
use serde_json::Value;

use crate::client::Client;
use crate::failure::Failure;

/// How long a connection and the beginning of an answer may take.
const PATIENCE: Duration = Duration::from_secs(35);

/// The longest head of an answer, and the longest text of a failure, in bytes.
const MAX_HEAD: u64 = 64 * 1024;

/// The longest list of pods, in bytes.
const MAX_LIST: u64 = 64 * 1024 * 1024;

/// What the address of a Unix socket begins with.
const UNIX: &str = "unix:";

/// What a module reports of its API.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    address: String,
    serving: bool,
    reason: String,
}

/// An API of the node that the supervisor's agent serves, and the module that does.
#[derive(Clone, Debug)]
pub(crate) struct Node(Address, Module);

/// Where an API is.
#[derive(Clone, Debug)]
enum Address {
    Tcp(SocketAddr),
    /// A socket that root alone can open.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Address {
    fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        }
    }
}

/// A connection to an API.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(crate) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(on),
            Self::Unix(stream) => stream.set_nonblocking(on),
        }
    }

    fn set_read_timeout(&self, bound: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(bound),
            Self::Unix(stream) => stream.set_read_timeout(bound),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl io::Read for Stream {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(space),
            Self::Unix(stream) => stream.read(space),
        }
    }
}

impl io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer behind its head.
#[derive(Debug)]
pub(crate) struct Answer {
    stream: BufReader<Stream>,
    /// What is left of a part, if it comes in parts that say how long they are; then it says, too,
    /// when it is over, and an end without that is none.
    part: Option<u64>,
}

impl io::Read for Answer {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let Some(left) = &mut self.part else { return self.stream.read(space) };
        if *left == 0 {
            *left = part(&mut self.stream)?;
            if *left == 0 {
                // Behind it are an empty line and the end.
                self.part = None;
                self.stream.read_exact(&mut [0; 2])?;
                return Ok(0);
            }
        }
        let count = self.stream.by_ref().take(*left).read(space)?;
        if count == 0 && !space.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        if *left == 0 {
            // The end of the line behind a part.
            self.stream.read_exact(&mut [0; 2])?;
        }
        Ok(count)
    }
}

impl Answer {
    /// Returns the connection, and what was read of it already.
    pub(crate) fn into_parts(self) -> (Stream, Vec<u8>) {
        let read = self.stream.buffer().to_vec();
        (self.stream.into_inner(), read)
    }
}

/// Reads how long the next part is.
fn part(stream: &mut BufReader<Stream>) -> io::Result<u64> {
    let mut line = String::new();
    stream.take(MAX_HEAD).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let odd = |_| io::Error::other(format!("a part of {line:?} bytes, expected a number"));
    u64::from_str_radix(line.trim_end(), 16).map_err(odd)
}

impl Node {
    /// Asks the supervisor where edged's API is.
    pub(crate) fn find(client: &Client) -> Result<Self, Failure> {
        let none = "edged does not run, so nobody can tell of pods: see 'edgectl status edged'";
        Self::of(client, Module::Edged, none, |report| report.pointer("/api").cloned())
    }

    /// Asks the supervisor where the local Kubernetes API is.
    pub(crate) fn local_api(client: &Client) -> Result<Self, Failure> {
        let none = "metaserver does not run, through which this is done: set \
                    modules.metaManager.metaServer.enable in edgecore.yaml, or see \
                    'edgectl status metaserver'";
        Self::of(client, Module::Metaserver, none, |report| {
            let doors = report.pointer("/doors")?.as_array()?;
            // Where clients have to say who they are, root has a way in.
            let is_roots = |door: &&Value| {
                door["address"].as_str().is_some_and(|address| address.starts_with(UNIX))
            };
            doors.iter().find(is_roots).or(doors.first()).cloned()
        })
    }

    /// Asks the supervisor what a module says of its API, somewhere in its report.
    fn of(
        client: &Client,
        name: Module,
        none: &str,
        find: impl FnOnce(&Value) -> Option<Value>,
    ) -> Result<Self, Failure> {
        let status = client.status()?;
        let module = status.modules.into_iter().find(|module| module.name == name);
        let module = module.filter(|module| module.state == ModuleState::Running);
        let module = module.ok_or_else(|| Failure::Failed(none.to_owned()))?;
        let report = module.report.unwrap_or_default();
        let service = find(&report).unwrap_or_default();
        let service = Service::deserialize(service).unwrap_or_default();
        if !service.serving {
            let Service { address, reason, .. } = service;
            let text = format!("{name} does not serve its API on {address} now: {reason}");
            return Err(Failure::Failed(text));
        }
        if let Some(path) = service.address.strip_prefix(UNIX) {
            return Ok(Self(Address::Unix(path.into()), name));
        }
        let unknown = |error| Failure::Failed(format!("{name}'s address is odd: {error}"));
        let mut address: SocketAddr = service.address.parse().map_err(unknown)?;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        Ok(Self(Address::Tcp(address), name))
    }

    /// Returns what a request names as its host.
    fn host(&self) -> String {
        match &self.0 {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Returns all pods, as JSON.
    pub(crate) fn pods(&self) -> Result<Value, Failure> {
        let answer = self.get("/pods")?;
        let list = serde_json::from_reader(answer.take(MAX_LIST));
        list.map_err(|error| Failure::Failed(format!("the list of pods cannot be read: {error}")))
    }

    /// Asks for something; what comes ends with the connection.
    pub(crate) fn get(&self, target: &str) -> Result<Answer, Failure> {
        let host = self.host();
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let (answer, status) = self.ask(&head)?;
        if status == 200 { Ok(answer) } else { Err(refusal(answer)) }
    }

    /// Has something done.
    pub(crate) fn post(&self, target: &str, body: &str) -> Result<Answer, Failure> {
        let (host, length) = (self.host(), body.len());
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let (answer, status) = self.ask(&request)?;
        if status == 200 { Ok(answer) } else { Err(refusal(answer)) }
    }

    /// Asks for another protocol on the connection.
    pub(crate) fn upgrade(&self, target: &str, headers: &str) -> Result<Answer, Failure> {
        let host = self.host();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n{headers}\r\n\r\n"
        );
        let (answer, status) = self.ask(&head)?;
        if status == 101 { Ok(answer) } else { Err(refusal(answer)) }
    }

    /// Sends the head of a request and takes that of the answer: its status.
    fn ask(&self, head: &str) -> Result<(Answer, u16), Failure> {
        let Self(address, module) = self;
        let broken = |error: io::Error| {
            Failure::Failed(format!("cannot ask {module} on {address}: {error}"))
        };
        let exchange = || {
            let mut stream = address.connect()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(head.as_bytes())?;
            let mut stream = BufReader::new(stream);
            let (status, in_parts) = status(&mut stream)?;
            stream.get_ref().set_read_timeout(None)?;
            Ok((Answer { stream, part: in_parts.then_some(0) }, status))
        };
        exchange().map_err(broken)
    }
}

/// Reads the head of an answer: the status, and whether the body comes in parts.
fn status(answer: &mut BufReader<Stream>) -> io::Result<(u16, bool)> {
    let odd = |text: &str| io::Error::other(format!("it answers {text:?}, expected HTTP"));
    let mut head = answer.take(MAX_HEAD);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| odd(&line))?;
    let mut in_parts = false;
    while line != "\r\n" {
        in_parts |= line.trim_end().eq_ignore_ascii_case("transfer-encoding: chunked");
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(odd("a head without an end"));
        }
    }
    Ok((status, in_parts))
}

/// Says what the API says.
fn refusal(answer: Answer) -> Failure {
    // A connection that goes on has no end to wait for.
    answer.stream.get_ref().set_read_timeout(Some(Duration::from_secs(1))).unwrap_or_default();
    let mut text = Vec::new();
    // What came is said, however it ended.
    drop(answer.take(MAX_HEAD).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    // Kubernetes says it in an object.
    let object = serde_json::from_str::<Value>(&text).unwrap_or_default();
    let text = object["message"].as_str().unwrap_or(text.trim());
    Failure::Failed(text.to_owned())
}

/// Writes a text as a part of a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
