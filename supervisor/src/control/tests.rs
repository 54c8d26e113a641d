//! Operators good and bad, over real sockets and with a clock of our own.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

struct Desk {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    listener: OwnedFd,
    control: Control,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap().into();
        Self { _folder: folder, path, listener, control: Control::default() }
    }

    fn connect(&mut self) -> (UnixStream, Id) {
        let client = UnixStream::connect(&self.path).unwrap();
        self.control.accept(0, &self.listener);
        (client, self.control.next - 1)
    }
}

fn answer_of(mut client: UnixStream) -> Option<Response> {
    let mut line = String::new();
    client.read_to_string(&mut line).unwrap();
    (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
}

#[test]
fn a_request_may_come_in_parts_and_gets_one_answer() {
    let mut desk = Desk::new();
    let (mut client, id) = desk.connect();
    client.write_all(b"{\"command\":\"sta").unwrap();
    assert!(desk.control.advance(1, id).is_none());
    client.write_all(b"tus\"}\n").unwrap();
    let news = desk.control.advance(2, id);
    assert!(matches!(news, Some(News::Asked(Request::Status, None))), "{news:?}");
    desk.control.answer(2, id, &Response::Done, false);
    assert_eq!(answer_of(client), Some(Response::Done));
    assert!(desk.control.connections.is_empty());
}

#[test]
fn an_unknown_module_is_named_with_what_is_expected() {
    let mut desk = Desk::new();
    let (mut client, id) = desk.connect();
    client.write_all(b"{\"command\":\"stop\",\"modules\":[\"edgedd\"]}\n").unwrap();
    assert!(desk.control.advance(1, id).is_none());
    let Some(Response::Failed { reason }) = answer_of(client) else { panic!("no reason") };
    assert!(reason.contains("unknown variant `edgedd`, expected one of `metamanager`"), "{reason}");
}

#[test]
fn a_line_without_an_end_and_a_silent_client_are_cut() {
    let mut desk = Desk::new();
    let (mut client, id) = desk.connect();
    client.write_all(&[b'x'; MAX_REQUEST + 1]).unwrap();
    while desk.control.connections.iter().any(|connection| connection.id == id) {
        assert!(desk.control.advance(1, id).is_none());
    }
    assert!(matches!(answer_of(client), Some(Response::Failed { .. })));
    let (silent, _) = desk.connect();
    assert_eq!(desk.control.deadline(), Some(LIMIT));
    desk.control.expire(LIMIT - 1);
    assert_eq!(desk.control.connections.len(), 1);
    desk.control.expire(LIMIT);
    assert_eq!(answer_of(silent), None);
}

#[test]
fn an_answer_that_nobody_reads_is_kept_no_longer_than_the_limit() {
    let mut desk = Desk::new();
    let (mut client, id) = desk.connect();
    client.write_all(b"{\"command\":\"status\"}\n").unwrap();
    desk.control.advance(1, id);
    let reason = "x".repeat(900_000);
    desk.control.answer(10, id, &Response::Failed { reason: reason.clone() }, false);
    assert_eq!(desk.control.deadline(), Some(10 + LIMIT));
    let reader = std::thread::spawn(move || answer_of(client));
    while !desk.control.connections.is_empty() {
        desk.control.advance(11, id);
    }
    assert_eq!(reader.join().unwrap(), Some(Response::Failed { reason }));
}

#[test]
fn a_watcher_stays_until_it_goes() {
    let mut desk = Desk::new();
    let (mut client, id) = desk.connect();
    client.write_all(b"{\"command\":\"tap\",\"filter\":{}}\n").unwrap();
    assert!(matches!(desk.control.advance(1, id), Some(News::Asked(Request::Tap { .. }, None))));
    desk.control.answer(1, id, &Response::Done, true);
    desk.control.expire(Millis::MAX);
    assert!(desk.control.stream(id).is_some());
    drop(client);
    assert!(matches!(desk.control.advance(2, id), Some(News::Gone)));
}

#[test]
fn connections_are_bounded() {
    let mut desk = Desk::new();
    let clients: Vec<_> = (0..MAX_CONNECTIONS).map(|_| desk.connect()).collect();
    assert!(!desk.control.has_room());
    desk.control.expire(LIMIT);
    assert!(desk.control.has_room());
    drop(clients);
}
