//! What a future has to say now.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Returns what a future has to say now; nothing when it would wait.
pub(crate) fn at_once<F: Future>(future: F) -> Option<F::Output> {
    // Without a budget: a caller who tries again would never get a new one.
    let future = pin!(tokio::task::unconstrained(future));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
