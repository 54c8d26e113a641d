//! The bare socket: bytes there and back, and bytes one way, with nothing around them. Once with
//! plain system calls, the least that two processes can do, and once on tokio, the least that a
//! module can do.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ipc::Load;
use crate::rig::{SOON, wait_for};

/// The other process's role: plain system calls.
pub(super) const ROLE: &str = "bare";

/// The other process's role: tokio.
pub(super) const TOKIO_ROLE: &str = "tokio";

/// What follows a job's description.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Each message comes back.
    ThereAndBack,
    /// All messages go one way, then one byte comes back.
    OneWay,
}

fn socket(folder: &Path, role: &str) -> PathBuf {
    folder.join(format!("{role}.sock"))
}

/// Waits until the other process listens, and connects.
pub(super) fn connect(folder: &Path, role: &str) -> Result<UnixStream> {
    let path = socket(folder, role);
    wait_for("the other process listens", SOON, || UnixStream::connect(&path).ok())
}

/// Does one job and returns the seconds it took.
pub(super) fn time(stream: &mut UnixStream, way: Way, load: Load) -> Result<f64> {
    let Load { size, count } = load;
    stream.write_all(&header(way, load))?;
    let mut message = vec![b'x'; size];
    let begin = Instant::now();
    for _ in 0..count {
        stream.write_all(&message)?;
        if way == Way::ThereAndBack {
            stream.read_exact(&mut message)?;
        }
    }
    if way == Way::OneWay {
        stream.read_exact(&mut [0])?;
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// Does jobs for one caller until it hangs up.
pub(super) fn play(folder: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket(folder, ROLE)).context("cannot listen")?;
    let (mut stream, _) = listener.accept()?;
    let mut job = [0; HEADER];
    while stream.read_exact(&mut job).is_ok() {
        let (way, Load { size, count }) = job_of(&job);
        let mut message = vec![0; size];
        for _ in 0..count {
            stream.read_exact(&mut message)?;
            if way == Way::ThereAndBack {
                stream.write_all(&message)?;
            }
        }
        if way == Way::OneWay {
            stream.write_all(&[0])?;
        }
    }
    Ok(())
}

/// As [`time`], there and back on tokio.
pub(super) async fn time_tokio(stream: &mut tokio::net::UnixStream, load: Load) -> Result<f64> {
    stream.write_all(&header(Way::ThereAndBack, load)).await?;
    let mut message = vec![b'x'; load.size];
    let begin = Instant::now();
    for _ in 0..load.count {
        stream.write_all(&message).await?;
        stream.read_exact(&mut message).await?;
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// As [`play`], there and back on tokio.
pub(super) fn play_tokio(folder: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket(folder, TOKIO_ROLE))?;
        let (mut stream, _) = listener.accept().await?;
        let mut job = [0; HEADER];
        while stream.read_exact(&mut job).await.is_ok() {
            let (_, Load { size, count }) = job_of(&job);
            let mut message = vec![0; size];
            for _ in 0..count {
                stream.read_exact(&mut message).await?;
                stream.write_all(&message).await?;
            }
        }
        Ok(())
    })
}

/// The bytes that describe a job.
const HEADER: usize = 9;

fn header(way: Way, Load { size, count }: Load) -> [u8; HEADER] {
    let mut header = [u8::from(way == Way::OneWay); HEADER];
    let [size, count] = [size, count].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    header[1..5].copy_from_slice(&size.to_le_bytes());
    header[5..].copy_from_slice(&count.to_le_bytes());
    header
}

fn job_of(header: &[u8; HEADER]) -> (Way, Load) {
    let [way, a, b, c, d, e, f, g, h] = *header;
    let way = if way == 0 { Way::ThereAndBack } else { Way::OneWay };
    let [size, count] =
        [[a, b, c, d], [e, f, g, h]].map(|bytes| u32::from_le_bytes(bytes) as usize);
    (way, Load { size, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_comes_back_as_it_was() {
        for way in [Way::ThereAndBack, Way::OneWay] {
            let (back, load) = job_of(&header(way, Load { size: 1 << 20, count: 70_000 }));
            assert!(back == way && load.size == 1 << 20 && load.count == 70_000);
        }
    }
}
