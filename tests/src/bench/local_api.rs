//! The local Kubernetes API: what a list of 5,000 pods takes of the process that serves it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ipc_proto::Module;

use super::{ROUNDS, Row};
use crate::rig::process::kib;
use crate::rig::{SOON, Setup, filled};

/// How many pods are listed.
const PODS: u32 = 5000;

/// How much is read between two looks at the process.
const PART: u64 = 256 * 1024;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut setup = Setup::new()?;
    let server = &mut setup.edgecore["modules"]["metaManager"]["metaServer"];
    server["enable"] = true.into();
    let address = server["server"].as_str().context("an address")?.to_owned();
    filled::with_pods(&setup, PODS)?;
    let rig = setup.start()?;
    let pid = rig.pid_of(Module::Metaserver)?;
    let (mut times, mut most) = (Vec::new(), 0.0_f64);
    for watched in [false, true] {
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let greatest = list(&address, watched.then_some(pid))?;
            if watched {
                most = most.max(greatest / 1024.0);
            } else {
                times.push(begin.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(vec![
        Row::of(format!("list of {PODS} pods by the local API"), "ms", &times),
        Row::of(format!("PSS of metaserver while it lists {PODS} pods"), "MiB", &[most])
            .target("≤ 12")
            .go("700 in one process with all else, with informers"),
    ])
}

/// Reads a list to its end; returns the greatest memory of the process on the way, in KiB.
fn list(address: &str, pid: Option<u32>) -> Result<f64> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    stream.get_ref().set_read_timeout(Some(SOON))?;
    stream.get_mut().write_all(b"GET /api/v1/pods HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    ensure!(line.contains(" 200 "), "no list but {line}");
    let (mut part, mut length, mut most) = (Vec::new(), 0, 0.0_f64);
    while stream.by_ref().take(PART).read_to_end(&mut part)? > 0 {
        length += part.len();
        part.clear();
        if let Some(pid) = pid {
            most = most.max(kib(pid, &["Pss"])?);
        }
    }
    ensure!(length > 10 << 20, "the list has {length} bytes");
    Ok(most)
}
