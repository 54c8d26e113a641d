//! `edgectl logs-pod`: what a container on this node wrote.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

use crate::cli::PodLogsArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::node::Node;
use crate::screen::Screen;

/// How much is read at once, in bytes.
const PART: usize = 64 * 1024;

/// Shows a container's log.
pub(crate) fn run(
    arguments: &PodLogsArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let node = Node::find(client)?;
    let mut target = format!("/containerLogs/{}?", arguments.place.path(&node)?);
    let flags = [
        ("follow", arguments.follow),
        ("previous", arguments.previous),
        ("timestamps", arguments.timestamps),
    ];
    let numbers = [("tailLines", arguments.tail), ("sinceSeconds", arguments.since)];
    let set = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| (key, 1));
    for (key, value) in set.chain(numbers.into_iter().filter_map(|(key, it)| Some((key, it?)))) {
        write!(target, "{key}={value}&").expect("a string takes what is written");
    }
    let mut answer = node.get(target.trim_end_matches(['&', '?']))?;
    let mut part = vec![0; PART];
    loop {
        let broken = |error| Failure::Failed(format!("the log broke off: {error}"));
        let count = answer.read(&mut part).map_err(broken)?;
        if count == 0 {
            return Ok(());
        }
        screen.write_all(&part[..count])?;
        screen.flush()?;
    }
}
