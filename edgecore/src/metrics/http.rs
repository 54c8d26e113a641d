//! As much of HTTP/1 as a question for metrics takes: one bounded head, one answer, the end.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::page::Format;

/// The greatest head of a request in bytes.
pub(super) const MAX_HEAD: usize = 8 * 1024;

const TOO_LONG: Refusal = ("431 Request Header Fields Too Large", "expected a head of 8 KiB\n");

/// Somebody who asks.
#[derive(Debug)]
pub(super) struct Connection {
    stream: OwnedFd,
    /// When it is cut.
    pub(super) until: Instant,
    head: Vec<u8>,
    answer: Option<Answer>,
}

#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    sent: usize,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to read or to write.
    Waits,
    /// It asked for the metrics.
    Asked(Question),
    /// It is over.
    Ended,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Whether only the head of the answer is wanted.
    pub(super) bare: bool,
    pub(super) format: Format,
}

/// Why there are no metrics for an answer: the status, and a sentence.
pub(super) type Refusal = (&'static str, &'static str);

impl Connection {
    pub(super) const fn new(stream: OwnedFd, until: Instant) -> Self {
        Self { stream, until, head: Vec::new(), answer: None }
    }

    /// Returns what it waits for.
    pub(super) fn interest(&self) -> PollFd<'_> {
        let flags = if self.answer.is_some() { PollFlags::OUT } else { PollFlags::IN };
        PollFd::new(&self.stream, flags)
    }

    /// Reads or writes as much as goes without waiting.
    pub(super) fn advance(&mut self) -> Step {
        if self.answer.is_some() {
            return self.write();
        }
        let mut part = [0; 4096];
        match recv(&self.stream, &mut part, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Step::Ended,
            Ok((_, count)) => self.head.extend_from_slice(&part[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return Step::Waits,
            Err(_) => return Step::Ended,
        }
        match question(&self.head) {
            None => Step::Waits,
            Some(Ok(question)) => Step::Asked(question),
            Some(Err((status, reason))) => self.say(status, PLAIN, reason, false),
        }
    }

    /// Answers with the metrics, or with why there are none.
    pub(super) fn answer(&mut self, question: Question, metrics: &Result<String, String>) -> Step {
        let Question { bare, format } = question;
        match metrics {
            Ok(text) => self.say("200 OK", format.content_type(), text, bare),
            Err(why) => self.say("503 Service Unavailable", PLAIN, &format!("{why}\n"), bare),
        }
    }

    fn say(&mut self, status: &str, kind: &str, body: &str, bare: bool) -> Step {
        let length = body.len();
        let mut text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        );
        if !bare {
            text.push_str(body);
        }
        self.answer = Some(Answer { bytes: text.into_bytes(), sent: 0 });
        self.write()
    }

    /// Writes what goes without waiting.
    fn write(&mut self) -> Step {
        let Some(Answer { bytes, sent }) = &mut self.answer else { return Step::Ended };
        match send(&self.stream, &bytes[*sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => *sent += count,
            Err(Errno::AGAIN | Errno::INTR) => return Step::Waits,
            Err(_) => return Step::Ended,
        }
        if *sent < bytes.len() {
            return Step::Waits;
        }
        // Who is gone already has taken what he wanted.
        shutdown(&self.stream, Shutdown::Write).ok();
        Step::Ended
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// Reads a head, once it is whole.
pub(super) fn question(head: &[u8]) -> Option<Result<Question, Refusal>> {
    let end = head.windows(4).position(|part| part == b"\r\n\r\n");
    if end.unwrap_or(head.len()) > MAX_HEAD {
        return Some(Err(TOO_LONG));
    }
    let Ok(head) = std::str::from_utf8(&head[..end?]) else {
        return Some(Err(("400 Bad Request", "expected a head in ASCII\n")));
    };
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let (method, target) = match words[..] {
        [method, target, version] if version.starts_with("HTTP/1.") => (method, target),
        _ => return Some(Err(("400 Bad Request", "expected 'GET /metrics HTTP/1.1'\n"))),
    };
    let bare = method == "HEAD";
    if !bare && method != "GET" {
        return Some(Err(("405 Method Not Allowed", "expected GET\n")));
    }
    if target.split('?').next() != Some("/metrics") {
        return Some(Err(("404 Not Found", "expected /metrics\n")));
    }
    let wants = |line: &str| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("accept") && value.contains("application/openmetrics-text")
        })
    };
    let format = if lines.any(wants) { Format::OpenMetrics } else { Format::Text };
    Some(Ok(Question { bare, format }))
}
