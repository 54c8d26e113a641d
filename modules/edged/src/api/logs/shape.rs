//! What a reader of a log gets of each of its lines. Pure.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What is wanted of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    /// How many of the last lines; all if none.
    pub(crate) tail: Option<u64>,
    /// How many bytes at most.
    pub(crate) bytes: Option<usize>,
    /// Only lines from then on: Unix nanoseconds.
    pub(crate) since: Option<i128>,
    /// Only lines of `stdout` or `stderr`.
    pub(crate) stream: Option<&'static str>,
}

/// Turns a log's lines into what is wanted of them.
#[derive(Debug)]
pub(crate) struct Shape {
    options: Options,
    /// Bytes that may still be given.
    remain: usize,
    /// Lines that may still be given.
    lines: Option<u64>,
    /// Whether the last line had an end.
    is_new: bool,
}

impl Shape {
    pub(crate) fn new(options: Options) -> Self {
        let remain = options.bytes.unwrap_or(usize::MAX);
        let lines = options.tail.filter(|_| !options.follow);
        Self { options, remain, lines, is_new: true }
    }

    /// Tells whether nothing more is wanted.
    pub(crate) fn is_done(&self) -> bool {
        self.remain == 0 || self.lines == Some(0)
    }

    /// Takes a line with its end, and writes what is wanted of it. Lines that the runtime did not
    /// write are passed over.
    pub(crate) fn take(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some((time, stream, is_partial, text)) = parse(line) else { return };
        if self.is_done() {
            return;
        }
        if let Some(lines) = &mut self.lines {
            *lines -= 1;
        }
        let is_new = std::mem::replace(&mut self.is_new, !is_partial);
        if self.options.stream.is_some_and(|wanted| wanted != stream) {
            return;
        }
        if self.options.since.is_some_and(|since| nanos(time).is_none_or(|time| time < since)) {
            return;
        }
        let mut give = |part: &[u8]| {
            let part = &part[..part.len().min(self.remain)];
            self.remain -= part.len();
            out.extend_from_slice(part);
        };
        if self.options.timestamps && is_new {
            give(&fixed(time));
            give(b" ");
        }
        give(text);
    }
}

/// Takes a line apart: time, stream, whether the text goes on in the next line, text.
fn parse(line: &[u8]) -> Option<(&str, &str, bool, &[u8])> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let (tags, text) = (parts.next()?, parts.next()?);
    let known = matches!(stream, "stdout" | "stderr") && time.len() >= 20 && time.is_ascii();
    let is_partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    let text = if is_partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
    known.then_some((time, stream, is_partial, text))
}

/// Returns a time as Unix nanoseconds.
pub(crate) fn nanos(time: &str) -> Option<i128> {
    Some(OffsetDateTime::parse(time, &Rfc3339).ok()?.unix_timestamp_nanos())
}

/// Writes a time with all nine digits of its fraction, as kubelet does.
fn fixed(time: &str) -> Vec<u8> {
    let (seconds, rest) = time.split_at(time.len().min(19));
    let zone = rest.find(|it: char| it != '.' && !it.is_ascii_digit()).unwrap_or(rest.len());
    let (fraction, zone) = rest.split_at(zone);
    let fraction = fraction.trim_start_matches('.');
    format!("{seconds}.{fraction:0<9}{zone}").into_bytes()
}

#[cfg(test)]
mod tests;
