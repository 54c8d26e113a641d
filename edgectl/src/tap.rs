//! `edgectl tap`: every message between modules, live.
//!
//! The records come straight from the modules on a socket that this command makes and the
//! supervisor hands out; they stop with the control connection.

use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

use ipc_proto::tap::{Filter, Happening, MAX_RECORD, Record};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use serde::Serialize;

use crate::cli::{self, Format, TapArguments};
use crate::client::Client;
use crate::clock::{rfc3339, time_of_day};
use crate::failure::Failure;
use crate::screen::{Paint, Screen, Style, View, Wake, harmless};
use crate::table::{counted, size};

/// Shows records until nobody looks any more, or as many as wanted.
pub(crate) fn run(
    arguments: &TapArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let module = arguments.module.as_deref().map(cli::module).transpose()?;
    let filter = Filter { module, resource: arguments.resource.clone() };
    let view = View::begin()?;
    let (records, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|error| Failure::Failed(format!("cannot make a socket pair: {error}")))?;
    let mut control = client.tap(filter, theirs)?;
    let mut tally = Tally::default();
    let mut open = true;
    loop {
        // What was sent before the supervisor hung up is still read.
        open &= read(&records, arguments, &mut tally, screen)?;
        if arguments.count.is_some_and(|count| tally.shown >= count) {
            break;
        }
        if !open {
            tally.tell();
            return Err(Failure::Failed(
                "edgecore ended the tap, which it does when it stops".into(),
            ));
        }
        if view.wait(&[records.as_fd(), control.as_fd()], None)? == Wake::Ended {
            break;
        }
        open = !hung_up(&mut control);
    }
    tally.tell();
    Ok(())
}

/// What was seen and what was not.
#[derive(Debug, Default)]
struct Tally {
    shown: u64,
    dropped: u64,
    unreadable: u64,
}

impl Tally {
    /// Sums up on standard error, so that the records stay pure.
    #[expect(clippy::print_stderr, reason = "the summary is no part of the output")]
    fn tell(&self) {
        let Self { shown, dropped, unreadable } = self;
        let mut text = format!("{}, {dropped} dropped", counted(*shown, "record", "records"));
        if *unreadable > 0 {
            text.push_str(&format!(", {unreadable} of another version not shown"));
        }
        eprintln!("edgectl: {text}");
    }
}

/// Shows all records that are there; tells whether more can come.
fn read(
    records: &impl std::os::fd::AsFd,
    arguments: &TapArguments,
    tally: &mut Tally,
    screen: &mut Screen,
) -> Result<bool, Failure> {
    let mut space = [MaybeUninit::uninit(); MAX_RECORD];
    while arguments.count.is_none_or(|count| tally.shown < count) {
        let datagram = match recv(records, &mut space, RecvFlags::DONTWAIT) {
            Ok((([], _), _)) => return Ok(false),
            Ok(((datagram, _), _)) => datagram,
            Err(Errno::AGAIN) => return Ok(true),
            Err(Errno::INTR) => continue,
            Err(error) => {
                let error = io::Error::from(error);
                return Err(Failure::Failed(format!("cannot read records: {error}")));
            }
        };
        let Ok(record) = Record::decode(datagram) else {
            tally.unreadable += 1;
            continue;
        };
        tally.shown += 1;
        tally.dropped += record.dropped;
        match arguments.output.format {
            Format::Json => screen.json_line(&Line::from(&record))?,
            Format::Text => writeln!(screen, "{}", line(&record, screen.style()))?,
        }
    }
    Ok(true)
}

/// Tells whether the supervisor is gone; it says nothing more on this connection.
fn hung_up(control: &mut std::os::unix::net::UnixStream) -> bool {
    match control.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Returns a record as people read it.
fn line(record: &Record, style: Style) -> String {
    let way = format!("{}→{}", record.from, record.to);
    let mut text = format!(
        "{} {way:<23} {:<8} {} {}",
        time_of_day(record.at),
        harmless(record.operation.as_str()),
        harmless(if record.resource.is_empty() { "-" } else { &record.resource }),
        size(record.bytes),
    );
    let (paint, happening) = match &record.happening {
        Happening::Sent => (Paint::Plain, String::from("sent")),
        Happening::Settled(after) => (Paint::Good, format!("settled in {}", duration(*after))),
        Happening::Refused(reason) => (Paint::Bad, format!("refused: {}", harmless(reason))),
    };
    text.push(' ');
    text.push_str(&style.paint(paint, &happening));
    if record.dropped > 0 {
        let lost = counted(record.dropped, "record", "records");
        let lost = format!(" ({lost} dropped before this one)");
        text.push_str(&style.paint(Paint::Fair, &lost));
    }
    text
}

/// Returns microseconds in a unit that fits.
fn duration(microseconds: u64) -> String {
    match microseconds {
        0..1000 => format!("{microseconds}us"),
        1000..1_000_000 => format!("{}.{}ms", microseconds / 1000, microseconds % 1000 / 100),
        _ => format!("{}.{}s", microseconds / 1_000_000, microseconds % 1_000_000 / 100_000),
    }
}

/// A record as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    at: String,
    from: &'static str,
    to: &'static str,
    operation: &'a str,
    resource: &'a str,
    bytes: u64,
    happening: &'static str,
    settled_microseconds: Option<u64>,
    reason: Option<&'a str>,
    id: String,
    parent: Option<String>,
    source: &'a str,
    group: &'a str,
    dropped: u64,
}

impl<'a> From<&'a Record> for Line<'a> {
    fn from(record: &'a Record) -> Self {
        let (happening, settled_microseconds, reason) = match &record.happening {
            Happening::Sent => ("sent", None, None),
            Happening::Settled(after) => ("settled", Some(*after), None),
            Happening::Refused(reason) => ("refused", None, Some(&**reason)),
        };
        Self {
            at: rfc3339(record.at),
            from: record.from.name(),
            to: record.to.name(),
            operation: record.operation.as_str(),
            resource: &record.resource,
            bytes: record.bytes,
            happening,
            settled_microseconds,
            reason,
            id: record.id.to_string(),
            parent: record.parent.as_ref().map(ToString::to_string),
            source: record.source.as_str(),
            group: record.group.as_str(),
            dropped: record.dropped,
        }
    }
}

#[cfg(test)]
mod tests;
