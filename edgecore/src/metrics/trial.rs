//! A trial of requests for metrics.

use super::http::{MAX_HEAD, question};

/// The beginning of a connection, byte by byte: no answer is taken back when more comes.
///
/// # Panics
/// When one is, or when there is none although the head is over its bound.
pub fn metrics_requests(data: &[u8]) {
    let mut answered = None;
    for end in 0..=data.len() {
        let answer = question(&data[..end]);
        assert!(answered.is_none() || answer == answered, "at byte {end}");
        answered = answer;
    }
    assert!(answered.is_some() || data.len() <= MAX_HEAD + 4, "{} bytes unanswered", data.len());
}
