//! The supervisor's socket, spoken to directly.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipc_proto::control::{MAX_RESPONSE, Request, Response, SOCKET_NAME, Status};

/// How long the supervisor may take to answer before a test gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to the supervisor of a runtime folder.
///
/// # Errors
/// When nobody listens there.
pub fn connect(runtime_dir: &Path) -> Result<UnixStream> {
    let path = runtime_dir.join(SOCKET_NAME);
    let stream = UnixStream::connect(&path)
        .with_context(|| format!("cannot reach the supervisor at {}", path.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks the supervisor of a runtime folder.
///
/// # Errors
/// When it is not there, does not answer in time, or with something that is no answer.
pub fn request(runtime_dir: &Path, request: &Request) -> Result<Response> {
    let mut stream = connect(runtime_dir)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).context("cannot ask the supervisor")?;
    read_response(&mut stream)
}

/// Reads the supervisor's answer to its end.
///
/// # Errors
/// When it does not come in time, or is no answer.
pub fn read_response(stream: &mut UnixStream) -> Result<Response> {
    let mut answer = Vec::new();
    stream
        .take(MAX_RESPONSE as u64)
        .read_to_end(&mut answer)
        .context("the supervisor does not answer")?;
    serde_json::from_slice(&answer)
        .with_context(|| format!("no answer: {:?}", String::from_utf8_lossy(&answer)))
}

/// Asks for the state of everything.
///
/// # Errors
/// As [`request`].
pub fn status(runtime_dir: &Path) -> Result<Status> {
    match request(runtime_dir, &Request::Status)? {
        Response::Status(status) => Ok(*status),
        other @ (Response::Done | Response::Failed { .. }) => bail!("no status: {other:?}"),
    }
}
