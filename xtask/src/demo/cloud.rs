//! The demonstration's cloud: minicloud as a program, steered over its control API.

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running cloud; it is killed when dropped.
#[derive(Debug)]
pub(crate) struct Cloud {
    process: Child,
    pub(crate) hub: String,
    pub(crate) https: String,
    pub(crate) token: String,
    pub(crate) control: String,
}

impl Cloud {
    /// Starts a cloud that keeps what it has in `folder`, on free ports of the loopback.
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut command = Command::new(program);
        command.arg("--dir").arg(folder);
        command.args(["--hub", "127.0.0.1:0", "--https", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // out of the terminal's foreground group: Ctrl-C is for the demonstration alone
        let mut process = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = process.stdout.take().context("standard output was piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line)
            .with_context(|| format!("the cloud said '{line}', expected its addresses"))?;
        let word = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        let [hub, https, token, control] = ["hub", "https", "token", "control"].map(word);
        Ok(Self { process, hub, https, token, control })
    }

    /// Makes an object what is given.
    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        self.ask("PUT", "objects", &object.to_string()).map(drop)
    }

    /// Deletes a pod, with the time that it may take to end.
    pub(crate) fn delete(&self, pod: &str) -> Result<()> {
        self.ask("DELETE", &format!("objects/default/pod/{pod}"), "").map(drop)
    }

    /// Returns a pod; nothing where there is none such.
    pub(crate) fn pod(&self, pod: &str) -> Option<Value> {
        self.object(&format!("default/pod/{pod}"))
    }

    /// Returns an object; nothing where there is none such.
    pub(crate) fn object(&self, key: &str) -> Option<Value> {
        self.ask("GET", &format!("objects/{key}"), "").ok()
    }

    /// Tells whether a node is ready, as the cloud finds.
    pub(crate) fn finds_ready(&self, node: &str) -> bool {
        self.ask("GET", &format!("nodes/{node}"), "").is_ok_and(|node| node["ready"] == true)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let answer = http(&self.control, method, path, body)?;
        serde_json::from_str(&answer).with_context(|| format!("no JSON: {answer}"))
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Makes a request and returns the answer's body.
///
/// # Errors
/// When nobody answers, or not with success.
pub(crate) fn http(address: &str, method: &str, path: &str, body: &str) -> Result<String> {
    let address = address.parse().with_context(|| format!("'{address}' is no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} /{path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    if !head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
        bail!("{method} /{path}: {} {body}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
