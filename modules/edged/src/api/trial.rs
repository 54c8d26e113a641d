//! A trial of requests, of logs, and of figures.

use hyper::{Method, Uri};

use super::logs::{Options, Shape, options};
use super::route::{Route, route};
use super::stats;
use super::stream::{Streams, ports};
use crate::cri::words as w;

/// A request, up to where the runtime or the host would be asked.
///
/// # Panics
/// When a way through the host's files leads up.
pub(crate) fn request(method: &Method, uri: &Uri) {
    match route(method, uri) {
        Ok(Route::Logs(_, query)) => drop(options(&query)),
        Ok(Route::Exec(_, query) | Route::Attach(_, query)) => drop(Streams::read(&query)),
        Ok(Route::PortForward(_, query)) => drop(ports(&query)),
        Ok(Route::Files(names)) => {
            for name in names {
                assert!(!matches!(&*name, "" | "." | "..") && !name.contains(['/', '\0']));
            }
        }
        Ok(_) | Err(_) => {}
    }
}

/// A log, by lines as they are read.
///
/// # Panics
/// When there is more than was wanted.
pub(crate) fn log(wanted: u8, amount: u8, log: &[u8]) {
    let is = |bit: u8| wanted & 1 << bit != 0;
    let wanted = Options {
        follow: is(0),
        timestamps: is(1),
        tail: is(2).then_some(u64::from(amount)),
        bytes: is(3).then_some(usize::from(amount)),
        since: is(4).then_some(1_700_000_000_000_000_000),
        stream: is(5).then_some("stderr"),
        ..Options::default()
    };
    let bound = wanted.bytes.unwrap_or(usize::MAX);
    let (mut shape, mut out) = (Shape::new(wanted), Vec::new());
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        shape.take(line, &mut out);
    }
    assert!(out.len() <= bound, "{} bytes where {bound} were wanted", out.len());
}

/// What the runtime says a container uses.
pub(crate) fn used(stats: &w::ContainerStats) {
    let (cpu, memory) = stats::figures(stats);
    let _shown = (cpu.map(stats::show_cpu), memory.map(stats::show_memory));
}
