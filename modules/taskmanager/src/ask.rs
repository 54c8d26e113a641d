//! What is asked of the supervisor, on the operator's socket, and of our own program.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ipc_proto::control::{MAX_RESPONSE, Request, Response, SOCKET_NAME, Status};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;

/// How long the supervisor may take; a reload reads the configuration first.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long our own program may take over a question.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(20);

/// The most that our own program may print, in bytes.
const MAX_OUTPUT: u64 = 4 * 1024 * 1024;

/// The supervisor.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor(Box<Path>);

impl Supervisor {
    /// The one that serves this runtime folder.
    pub(crate) fn new(runtime_dir: &Path) -> Self {
        Self(runtime_dir.join(SOCKET_NAME).into())
    }

    /// Gives an order.
    ///
    /// # Errors
    /// Why it is not done.
    pub(crate) async fn order(&self, request: &Request) -> Result<(), String> {
        match self.ask(request).await? {
            Response::Done | Response::Status(_) => Ok(()),
            Response::Failed { reason } => Err(reason),
        }
    }

    /// Asks how everything is.
    ///
    /// # Errors
    /// Why that cannot be known.
    pub(crate) async fn status(&self) -> Result<Status, String> {
        match self.ask(&Request::Status).await? {
            Response::Status(status) => Ok(*status),
            Response::Failed { reason } => Err(reason),
            Response::Done => Err("the supervisor answers a question with 'done'".to_owned()),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Response, String> {
        let answered = tokio::time::timeout(PATIENCE, self.exchange(request)).await;
        let late =
            |_| Err(format!("the supervisor does not answer within {} s", PATIENCE.as_secs()));
        answered.unwrap_or_else(late)
    }

    async fn exchange(&self, request: &Request) -> Result<Response, String> {
        let broken = |error: std::io::Error| format!("cannot ask the supervisor: {error}");
        let mut line = serde_json::to_vec(request).map_err(|error| error.to_string())?;
        line.push(b'\n');
        let mut stream = UnixStream::connect(&*self.0).await.map_err(broken)?;
        stream.write_all(&line).await.map_err(broken)?;
        let mut answer = Vec::new();
        let bound = u64::try_from(MAX_RESPONSE).unwrap_or(u64::MAX);
        BufReader::new(stream.take(bound)).read_until(b'\n', &mut answer).await.map_err(broken)?;
        serde_json::from_slice(&answer)
            .map_err(|error| format!("the supervisor's answer is not understood: {error}"))
    }
}

/// Asks a program of ours something: every word is an argument of its own, and no shell is near.
/// Returns what it prints.
///
/// # Errors
/// What it says is wrong, or why it cannot be asked.
pub(crate) async fn program<'a>(
    program: &Path,
    words: impl IntoIterator<Item = &'a OsStr>,
) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot run {}: {error}", program.display());
    let mut child = Command::new(program)
        .args(words)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let heard = async {
        let (mut printed, mut said) = (Vec::new(), Vec::new());
        if let (Some(output), Some(errors)) = (output, errors) {
            let (mut output, mut errors) = (output.take(MAX_OUTPUT), errors.take(MAX_OUTPUT));
            let printing = output.read_to_end(&mut printed);
            tokio::try_join!(printing, errors.read_to_end(&mut said))?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, printed, said))
    };
    let late =
        |_| format!("{} takes longer than {} s", program.display(), PROGRAM_PATIENCE.as_secs());
    let (status, printed, said) =
        tokio::time::timeout(PROGRAM_PATIENCE, heard).await.map_err(late)?.map_err(cannot)?;
    if status.success() {
        return String::from_utf8(printed).map_err(|error| error.to_string());
    }
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    let why = if lines.is_empty() { said.trim().to_owned() } else { lines.join("; ") };
    Err(if why.is_empty() { format!("{} ended with {status}", program.display()) } else { why })
}
