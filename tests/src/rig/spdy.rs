//! The client's side of a stream into a container over SPDY/3.1, as kubectl's and the API server's:
//! several streams in one connection, the last word of which is how the command ended.

use std::io::{self, Read as _, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Which streams a user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// What the user types.
    pub stdin: bool,
    /// A terminal, whose output is one.
    pub tty: bool,
}

/// Streams of the output only.
pub const OUTPUT: Streams = Streams { stdin: false, tty: false };

/// Those and the input.
pub const BOTH: Streams = Streams { stdin: true, tty: false };

/// Frames that open a stream.
const SYN_STREAM: u8 = 1;

/// The last bytes of a stream.
const FIN: u8 = 1;

/// The most bytes in a frame that this side writes.
const PART: usize = 32 * 1024;

/// The streams' numbers, in the order in which they are opened.
const ERROR: u32 = 1;
const STDIN: u32 = 3;
const STDOUT: u32 = 5;
const STDERR: u32 = 7;
const RESIZE: u32 = 9;

impl Streams {
    /// Returns the query that asks for them.
    pub(super) const fn query(self) -> &'static str {
        match (self.stdin, self.tty) {
            (false, false) => "output=1&error=1",
            (true, false) => "input=1&output=1&error=1",
            (false, true) => "output=1&tty=1",
            (true, true) => "input=1&output=1&tty=1",
        }
    }

    fn all(self) -> Vec<(u32, &'static str)> {
        let mut all = vec![(ERROR, "error")];
        all.extend(self.stdin.then_some((STDIN, "stdin")));
        all.push((STDOUT, "stdout"));
        all.push(if self.tty { (RESIZE, "resize") } else { (STDERR, "stderr") });
        all
    }
}

/// Where bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command's output.
    Stdout,
    /// The command's other output.
    Stderr,
    /// How it ended.
    Error,
}

/// A session whose streams are open.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
}

/// The end of a session, as the user sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The command's output, as far as it was not read before.
    pub stdout: Vec<u8>,
    /// The command's other output.
    pub stderr: Vec<u8>,
    /// What the runtime says of its end; nothing when the session was cut off.
    pub status: Option<Value>,
}

impl Outcome {
    /// Returns the command's exit code, where the runtime said one.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        let status = self.status.as_ref()?;
        if status["status"] == "Success" {
            return Some(0);
        }
        let causes = status["details"]["causes"].as_array()?;
        let code = causes.iter().find(|cause| cause["reason"] == "ExitCode")?;
        code["message"].as_str()?.parse().ok()
    }
}

impl Session {
    /// Opens the streams on a connection that was handed over.
    ///
    /// # Errors
    /// When it breaks.
    pub fn begin(mut stream: TcpStream, streams: Streams) -> Result<Self> {
        let mut frames = Vec::new();
        // Headers are packed, all of a connection in one zlib stream; it begins with the first.
        let mut packed = vec![0x78, 0x01];
        for (id, name) in streams.all() {
            // One block, stored as it is, and an empty one, which says that no more is to be waited for.
            let headers = headers(name);
            let length = u16::try_from(headers.len())?;
            packed.push(0);
            packed.extend(length.to_le_bytes());
            packed.extend((!length).to_le_bytes());
            packed.extend(headers);
            packed.extend([0, 0, 0, 0xff, 0xff]);
            frames.extend([0x80, 3, 0, SYN_STREAM]);
            frames.extend(u32::try_from(packed.len() + 10)?.to_be_bytes());
            frames.extend(id.to_be_bytes());
            frames.extend([0; 6]);
            frames.append(&mut packed);
        }
        stream.write_all(&frames)?;
        Ok(Self { stream })
    }

    /// Returns the command's input.
    ///
    /// # Errors
    /// When the system has no descriptor for it.
    pub fn stdin(&self) -> Result<Stdin> {
        Ok(Stdin(self.stream.try_clone()?))
    }

    /// Returns the connection itself.
    #[must_use]
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads the next bytes of a stream into `data`; nothing at the end.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes in time.
    pub fn next(&mut self, data: &mut Vec<u8>) -> io::Result<Option<Source>> {
        loop {
            let mut head = [0; 8];
            match self.stream.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) if over(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
            let [a, b, c, d, _, length @ ..] = head;
            let [high, middle, low] = length;
            let length = u64::from(u32::from_be_bytes([0, high, middle, low]));
            data.clear();
            let came = (&mut self.stream).take(length).read_to_end(data);
            match came {
                Ok(_) => {}
                Err(error) if over(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
            if data.is_empty() {
                continue;
            }
            match u32::from_be_bytes([a, b, c, d]) {
                STDOUT => return Ok(Some(Source::Stdout)),
                STDERR => return Ok(Some(Source::Stderr)),
                ERROR => return Ok(Some(Source::Error)),
                // The answers to opened streams, and what is said about them.
                _ => {}
            }
        }
    }

    /// Reads the command's output up to a text.
    ///
    /// # Errors
    /// When it does not come.
    pub fn read_until(&mut self, text: &str) -> Result<String> {
        let (mut all, mut data) = (String::new(), Vec::new());
        while !all.contains(text) {
            match self.next(&mut data)? {
                Some(Source::Stdout) => all += &String::from_utf8_lossy(&data),
                Some(Source::Stderr | Source::Error) => {}
                None => bail!("no {text:?} in {all:?}"),
            }
        }
        Ok(all)
    }

    /// Counts the bytes of the command's output up to its end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn count(&mut self) -> Result<u64> {
        let (mut count, mut data) = (0, Vec::with_capacity(2 * PART));
        while let Some(source) = self.next(&mut data)? {
            if source == Source::Stdout {
                count += data.len() as u64;
            }
        }
        Ok(count)
    }

    /// Reads up to the end.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn finish(mut self) -> Result<Outcome> {
        let (mut outcome, mut data) = (Outcome::default(), Vec::new());
        while let Some(source) = self.next(&mut data)? {
            match source {
                Source::Stdout => outcome.stdout.append(&mut data),
                Source::Stderr => outcome.stderr.append(&mut data),
                Source::Error => {
                    let status = serde_json::from_slice(&data);
                    outcome.status = Some(status.context("the end is no status")?);
                }
            }
        }
        Ok(outcome)
    }
}

/// Tells whether the other side has gone.
fn over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

/// Writes the headers that open a stream.
fn headers(name: &str) -> Vec<u8> {
    let mut headers = vec![0, 0, 0, 1];
    for text in ["streamtype", name] {
        headers.extend(&(text.len() as u64).to_be_bytes()[4..]);
        headers.extend(text.bytes());
    }
    headers
}

/// The input of a command.
#[derive(Debug)]
pub struct Stdin(TcpStream);

impl Stdin {
    /// Says that this was all.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn close(mut self) -> io::Result<()> {
        self.frame(FIN, &[]).map(drop)
    }

    fn frame(&mut self, flags: u8, data: &[u8]) -> io::Result<usize> {
        let data = &data[..data.len().min(PART)];
        let mut frame = STDIN.to_be_bytes().to_vec();
        let [_, length @ ..] = u32::try_from(data.len()).unwrap_or(0).to_be_bytes();
        frame.push(flags);
        frame.extend(length);
        frame.extend(data);
        self.0.write_all(&frame)?;
        Ok(data.len())
    }
}

impl Write for Stdin {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.frame(0, data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
