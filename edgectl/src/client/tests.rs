//! The client against supervisors that behave and others that do not.

use std::io;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use ipc_proto::control::{MAX_RESPONSE, Response, SOCKET_NAME};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::testing::{Answer, line, status, supervisor};

fn says(bytes: Vec<u8>) -> Answer {
    Answer { says: bytes, ..Answer::default() }
}

/// Asks a supervisor that answers so for its status, and returns the failure's text.
fn failure(answer: Answer) -> String {
    let folder = tempdir().unwrap();
    let served = supervisor(folder.path(), [answer]);
    let failure = client(&folder).status().unwrap_err();
    assert!(matches!(failure, Failure::Unreachable(_)), "{failure:?}");
    served.join().unwrap();
    failure.to_string().replace(&folder.path().display().to_string(), "/run/edgecore")
}

fn client(folder: &TempDir) -> Client {
    Client::new(folder.path()).with_patience(Duration::from_secs(20))
}

#[test]
fn an_answer_is_taken() {
    let folder = tempdir().unwrap();
    let served = supervisor(folder.path(), [Answer::proper(&Response::Status(Box::new(status())))]);
    assert_eq!(client(&folder).status().unwrap(), status());
    assert_eq!(served.join().unwrap(), [Request::Status]);
}

#[test]
fn a_refusal_is_told_in_the_supervisors_words() {
    let folder = tempdir().unwrap();
    let reason = String::from("faults are off");
    let served = supervisor(folder.path(), [Answer::proper(&Response::Failed { reason })]);
    let failure = client(&folder).order(&Request::Reload).unwrap_err();
    assert!(matches!(&failure, Failure::Failed(reason) if reason == "faults are off"));
    served.join().unwrap();
}

#[test]
fn no_socket_and_a_stale_one_mean_that_edgecore_is_not_running() {
    let way_out = "start it with 'systemctl start edgecore' or run 'edgecore' in a terminal";
    let folder = tempdir().unwrap();
    let socket = folder.path().join(SOCKET_NAME);
    let text = client(&folder).status().unwrap_err().to_string();
    assert_eq!(
        text,
        format!("edgecore is not running (no socket {}): {way_out}", socket.display())
    );
    drop(UnixListener::bind(&socket).unwrap());
    let text = client(&folder).status().unwrap_err().to_string();
    assert!(text.starts_with("edgecore is not running (nobody listens on /"), "{text}");
}

#[test]
fn permission_denied_is_not_taken_for_not_running() {
    let client = Client::new(Path::new("/run/edgecore"));
    let text = client.unreachable(io::Error::from(Errno::ACCESS)).to_string();
    assert_eq!(
        text,
        "permission denied on /run/edgecore/control.sock: run edgectl as root or as the user that \
         edgecore runs as"
    );
}

#[test]
fn a_path_too_long_for_a_socket_is_told() {
    let client = Client::new(Path::new(&"/x".repeat(100)));
    let text = client.status().unwrap_err().to_string();
    assert!(text.starts_with("cannot ask edgecore on /x/x"), "{text}");
}

#[test]
fn who_speaks_another_protocol_is_told_apart() {
    let text = failure(says(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let start = "what listens on /run/edgecore/control.sock is no edgecore of this version: ";
    assert!(text.starts_with(&format!("{start}its answer is not understood: ")), "{text}");
    let text = failure(says(b"{\"answer\":\"frobnicated\"}\n".to_vec()));
    assert!(text.contains("unknown variant `frobnicated`"), "{text}");
    let text = failure(Answer::proper(&Response::Done));
    assert_eq!(text, format!("{start}it answers a question with 'done'"));
}

#[test]
fn an_oversized_answer_is_not_read_to_its_end() {
    let text = failure(says(vec![b'x'; MAX_RESPONSE + 100_000]));
    assert!(text.ends_with("its answer is over 1048576 bytes"), "{text}");
}

#[test]
fn half_an_answer_and_none_are_told_apart() {
    let mut half = line(&Response::Status(Box::new(status())));
    half.truncate(100);
    let text = failure(says(half));
    assert!(text.ends_with("it hung up in the middle of its answer"), "{text}");
    let text = failure(says(Vec::new()));
    assert!(text.ends_with("it hung up before it answered"), "{text}");
}

#[test]
fn a_silent_supervisor_is_not_waited_for_for_ever() {
    let folder = tempdir().unwrap();
    let served = supervisor(folder.path(), [Answer { stays: true, ..Answer::default() }]);
    let client = Client::new(folder.path()).with_patience(Duration::from_millis(50));
    let failure = client.status().unwrap_err();
    assert!(matches!(failure, Failure::Unreachable(Unreachable::Silent { .. })), "{failure:?}");
    served.join().unwrap();
}

#[test]
fn a_full_backlog_is_not_waited_for_for_ever() {
    let folder = tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(SOCKET_NAME)).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let client = Client::new(folder.path()).with_patience(Duration::from_millis(50));
    let waiting = client.connect().unwrap();
    let failure = client.connect().unwrap_err();
    assert!(matches!(failure, Unreachable::Silent { .. }), "{failure:?}");
    drop(waiting);
}
