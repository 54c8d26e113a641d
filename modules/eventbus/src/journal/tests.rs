//! Tests of the journal on a disk.

use super::*;
use crate::mqtt::Qos;

fn message(sequence: u64, size: usize) -> Record {
    Record::Message(Kept {
        sequence,
        at: 0,
        expires: None,
        topic: "a".into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: Vec::new(),
        to: Vec::new(),
        payload: vec![b'x'; size].into(),
    })
}

fn read(folder: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    load(folder, |record| records.push(record)).unwrap();
    records
}

#[tokio::test]
async fn what_is_behind_the_mark_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let begin = Record::Begin { identity: 7, sequence: 3 };
    let mut journal = Journal::begin(folder.path(), std::slice::from_ref(&begin)).unwrap();
    let mark = journal.write(&[message(4, 10)]);
    assert!(journal.synced() < mark);
    journal.flush(false, || unreachable!("the file is small"));
    // What comes meanwhile waits for its turn.
    journal.write(&[message(5, 10)]);
    while journal.synced() < mark {
        journal.progress().await;
    }
    assert_eq!(read(folder.path()), [begin, message(4, 10)]);
}

#[tokio::test]
async fn a_file_that_grew_is_replaced_by_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(folder.path(), &[]).unwrap();
    let large = usize::try_from(SMALL).unwrap() / 4;
    for sequence in 0..5 {
        journal.write(&[message(sequence, large)]);
        journal.flush(false, || vec![message(sequence, 1)]);
        while !journal.is_clean() {
            journal.progress().await;
        }
    }
    assert!(journal.size() < SMALL);
    assert_eq!(read(folder.path())[0], message(3, 1));
    assert!(!folder.path().join("journal.new").exists());
}

#[tokio::test]
async fn what_nobody_waits_for_goes_with_the_next_sync_or_when_it_is_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(folder.path(), &[]).unwrap();
    journal.write(&[message(1, 10)]);
    journal.flush(true, || unreachable!("the file is small"));
    assert!(!journal.busy);
    journal.write(&[message(2, 10)]);
    journal.flush(false, || unreachable!("the file is small"));
    journal.progress().await;
    assert_eq!(read(folder.path()), [message(1, 10), message(2, 10)]);
    journal.write(&[message(3, 10)]);
    journal.hurry();
    journal.flush(true, || unreachable!("the file is small"));
    journal.progress().await;
    assert!(journal.is_clean());
    journal.write(&[message(4, LARGE)]);
    journal.flush(true, || unreachable!("the file is small"));
    assert!(journal.busy);
}

#[test]
fn a_torn_end_is_passed_over_and_a_strange_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    assert_eq!(read(folder.path()), []);
    let mut bytes = whole(&[message(1, 5)]);
    bytes.extend_from_slice(&[1, 2, 3]);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(read(folder.path()), [message(1, 5)]);
    fs::write(&path, b"something else").unwrap();
    let error = load(folder.path(), |_| {}).unwrap_err().to_string();
    assert!(error.contains("is no journal of this version"), "{error}");
}
