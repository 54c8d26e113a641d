//! `edgectl tap`: every message between modules, live.
//!
//! The records come straight from the modules on a socket that this command makes and the
//! supervisor hands out; they stop with the control connection.

use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

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

/// The greatest number of records between two looks at whether anybody still watches.
const BURST: u64 = 256;

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
    let mut supervised = true;
    loop {
        let records_left = read(&records, arguments, &mut tally, screen)?;
        if arguments.count.is_some_and(|count| tally.shown >= count) {
            break;
        }
        // What was sent before the supervisor hung up is still read.
        match records_left {
            Left::Nothing if supervised => {}
            Left::Something => {}
            Left::Nothing | Left::End => {
                tally.tell();
                let reason = "edgecore ended the tap, which it does when it stops";
                return Err(Failure::Failed(reason.into()));
            }
        }
        // Also while there is more to read: this is where Ctrl-C is noticed.
        if view.wait(&[records.as_fd(), control.as_fd()], None)? == Wake::Ended {
            break;
        }
        supervised &= !hung_up(&mut control);
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

/// What a read has left on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// There may be more.
    Something,
    /// Nothing at the moment.
    Nothing,
    /// Nothing will come any more.
    End,
}

/// Shows the records that are there, at most [`BURST`], in one write: a write for each would drop
/// more of them.
fn read(
    records: &OwnedFd,
    arguments: &TapArguments,
    tally: &mut Tally,
    screen: &mut Screen,
) -> Result<Left, Failure> {
    let burst = arguments.count.map_or(BURST, |count| BURST.min(count - tally.shown));
    let mut space = [MaybeUninit::uninit(); MAX_RECORD];
    let mut text = String::new();
    let mut left = Left::Something;
    for _ in 0..burst {
        let datagram = match recv(records, &mut space, RecvFlags::DONTWAIT) {
            Ok((([], _), _)) => {
                left = Left::End;
                break;
            }
            Ok(((datagram, _), _)) => datagram,
            Err(Errno::AGAIN | Errno::INTR) => {
                left = Left::Nothing;
                break;
            }
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
        text.push_str(&match arguments.output.format {
            Format::Json => serde_json::to_string(&Line::from(&record)).map_err(io::Error::from)?,
            Format::Text => line(&record, screen.style()),
        });
        text.push('\n');
    }
    screen.write_all(text.as_bytes())?;
    Ok(left)
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
