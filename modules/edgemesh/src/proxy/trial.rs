//! A trial of how the proxy looks at requests.

use super::head::{Look, MAX_HEAD, look};

/// The beginning of a connection, in any two pieces: once it says what is looked for, more changes
/// nothing, and it is not waited for without end.
///
/// # Panics
/// When that is not so.
pub fn requests(begin: &[u8]) {
    let Some((cut, begin)) = begin.split_first() else { return };
    let piece = &begin[..begin.len().min(usize::from(*cut))];
    let whole = look(begin, "x-user");
    match look(piece, "x-user") {
        Look::More => assert!(piece.len() < MAX_HEAD, "it is waited for without end"),
        found @ Look::Found(_) => assert_eq!(found, whole, "more changes what was found"),
    }
}
