//! Tests of the store against real files: recorded databases, damaged ones, and disks that fail.

mod failing;
mod go;
mod outbox;
mod pages;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ipc_proto::{Content, Group, Kind, Message, Resource, Scope};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Done, Store, Trouble};
use crate::core::object::Name;
use crate::row::{Answer, Change, Committed, Parcel, Question};

/// How long a test waits for anything.
const LONG: Duration = Duration::from_secs(20);

/// A store in a folder of its own, driven from a test.
struct Bench {
    folder: TempDir,
    path: PathBuf,
    store: Option<Store<u32>>,
    runtime: Runtime,
    next: u32,
}

impl Bench {
    /// Makes a folder and no store yet.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgecore.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { folder, path, store: None, runtime, next: 0 }
    }

    /// Makes the database of a recorded dump.
    fn recorded(name: &str) -> Self {
        let bench = Self::new();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let dump = std::fs::read_to_string(fixtures.join(name)).unwrap();
        bench.connection().execute_batch(&dump).unwrap();
        bench
    }

    /// Opens the file past the store.
    fn connection(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    fn start(&mut self) {
        self.store = Some(Store::start(self.path.clone()).unwrap());
    }

    /// Starts the store on a database that is well.
    fn opened() -> Self {
        let mut bench = Self::new();
        bench.start();
        assert_eq!(bench.health(), None);
        bench
    }

    /// Ends the store in order.
    fn stop(&mut self) {
        self.store.as_mut().unwrap().close();
        while self.next().is_some() {}
        self.store = None;
    }

    fn next(&mut self) -> Option<Done<u32>> {
        let store = self.store.as_mut().unwrap();
        self.runtime.block_on(async { tokio::time::timeout(LONG, store.next()).await }).unwrap()
    }

    fn health(&mut self) -> Option<Trouble> {
        match self.next() {
            Some(Done::Health(health)) => health,
            other => panic!("expected the database's health, got {other:?}"),
        }
    }

    /// Hands a commit over and does not wait for it.
    fn begin(&mut self, changes: Vec<Change>) -> u32 {
        self.next += 1;
        self.store.as_mut().unwrap().commit(changes, self.next);
        self.next
    }

    fn commit(&mut self, changes: Vec<Change>) -> Committed {
        let number = self.begin(changes);
        match self.next() {
            Some(Done::Committed(then, committed)) if then == number => committed,
            other => panic!("expected commit {number}, got {other:?}"),
        }
    }

    fn ask(&mut self, question: Question) -> Result<Answer, Trouble> {
        self.next += 1;
        self.store.as_mut().unwrap().ask(question, self.next);
        match self.next() {
            Some(Done::Answer(then, answer)) if then == self.next => answer,
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    fn object(&mut self, key: &str) -> Option<Bytes> {
        match self.ask(Question::Object(key.into())) {
            Ok(Answer::One(object)) => object,
            other => panic!("expected an object, got {other:?}"),
        }
    }
}

fn name(kind: Kind, name: &str) -> Name {
    Name::of(&Resource::object(Scope::Namespace("ns".into()), kind, name)).unwrap()
}

fn put(name: &Name, version: u64, value: &str) -> Change {
    Change::Put(name.rows(version, value.to_owned().into()))
}

fn pod(uid: &str) -> String {
    format!(r#"{{"metadata":{{"uid":"{uid}"}}}}"#)
}

fn parcel(subject: Option<&str>, expendable: bool, sent: i64, size: usize) -> Change {
    let route = ipc_proto::Route {
        source: ipc_proto::Source::Edged,
        group: Group::Meta,
        operation: ipc_proto::Operation::Patch,
        resource: name(Kind::PodPatch, "p").resource(),
    };
    let content = Content::text(&"x".repeat(size));
    let message = Message::new(ipc_proto::MessageId::from_random([7; 16]), 0, route, content);
    let text = String::from_utf8(ipc_proto::json::encode(&message).unwrap()).unwrap().into();
    Change::Queue(Box::new(Parcel { text, subject: subject.map(Into::into), expendable, sent }))
}

#[test]
fn what_was_committed_is_there_after_a_restart_and_readable_by_others() {
    let mut bench = Bench::opened();
    let web = name(Kind::Pod, "web");
    bench.commit(vec![put(&web, 7, &pod("u-1"))]);
    let reader = bench.connection();
    let sql = "SELECT value FROM meta_v2 WHERE key = '/core/v1/pods/ns/web'";
    let value: String = reader.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(value, pod("u-1"));
    bench.stop();
    bench.start();
    assert_eq!(bench.health(), None);
    assert_eq!(bench.object("ns/pod/web").unwrap(), pod("u-1"));
}

#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::opened();
    let mode = std::fs::metadata(&bench.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_answer_does_not_undo_what_was_pushed_after_it_was_made() {
    let mut bench = Bench::opened();
    let web = name(Kind::Pod, "web");
    bench.commit(vec![put(&web, 12, "\"pushed\"")]);
    for (version, expected) in [(11, "\"pushed\""), (12, "12"), (13, "13")] {
        let rows = web.rows(version, version.to_string().into());
        bench.commit(vec![Change::PutUnlessNewer(rows)]);
        assert_eq!(bench.object("ns/pod/web").unwrap(), expected);
    }
    bench.commit(vec![put(&web, 3, "\"the cloud was set back\"")]);
    assert_eq!(bench.object("ns/pod/web").unwrap(), "\"the cloud was set back\"");
}

#[test]
fn the_end_of_an_old_pod_leaves_the_new_one_of_its_name() {
    let mut bench = Bench::opened();
    let (web, patch) = (name(Kind::Pod, "web"), name(Kind::PodPatch, "web"));
    let token = |uid: &str| format!(r#"k/v1.BoundObjectReference{{Name:"web", UID:"{uid}"}}"#);
    let kind = Kind::ServiceAccountToken.as_str();
    let tokens = ["new", "other"].map(|uid| {
        let (key, kind) = (token(uid).into(), kind.into());
        Change::Put(crate::row::Object { key, kind, value: "1".into(), mirror: None })
    });
    bench.commit(tokens.into());
    bench.commit(vec![put(&web, 1, &pod("new")), Change::Put(patch.row("{}".into()))]);
    bench.commit(vec![web.removal("old".into(), b"")]);
    assert!(bench.object("ns/pod/web").is_some());
    bench.commit(vec![web.removal("new".into(), b"")]);
    assert_eq!(bench.object("ns/pod/web"), None);
    assert_eq!(bench.object("ns/podpatch/web"), None);
    assert_eq!(bench.object(&token("new")), None);
    assert!(bench.object(&token("other")).is_some());
    bench.commit(vec![put(&web, 1, &pod("x")), web.removal("".into(), b"")]);
    assert_eq!(bench.object("ns/pod/web"), None, "no uid means whatever is there");
}

#[test]
fn questions_see_all_commits_before_them() {
    let mut bench = Bench::opened();
    let web = name(Kind::Pod, "web");
    for version in 1..=100 {
        bench.begin(vec![put(&web, version, &version.to_string())]);
        bench.next += 1;
        let question = Question::Kind("pod".into());
        bench.store.as_mut().unwrap().ask(question, bench.next);
    }
    for version in 1..=100_u32 {
        assert!(matches!(bench.next(), Some(Done::Committed(..))));
        let Some(Done::Answer(_, Ok(Answer::Array(array)))) = bench.next() else { panic!() };
        assert_eq!(array, format!("[{version}]"));
    }
}

#[test]
fn the_way_through_the_store_can_be_measured_beside_sqlite() {
    let bench = Bench::new();
    let figures = bench.runtime.block_on(super::measure(bench.folder.path(), 20, 4096)).unwrap();
    let (store, sqlite) = figures.at(0.5);
    assert!(store > Duration::ZERO && sqlite > Duration::ZERO);
}
