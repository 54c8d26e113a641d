//! What every module process is made of: start-up, confinement, the lifeline, peers, beat, logs.
//!
//! A module is one function, `async fn run(context: Context) -> anyhow::Result<()>`, read from top
//! to bottom: it asks [`Context::next`] for events, settles the messages among them, and returns
//! when it is asked to drain. [`main`] does the rest. Nothing here knows what any module does.

mod break_out;
mod clock;
pub mod config;
mod confine;
mod context;
mod diagnostic;
mod fault;
mod idempotence;
mod inbox;
mod landlock;
mod lifeline;
mod log;
pub mod net;
mod peers;
pub mod query;
mod random;
mod redial;
mod seccomp;
mod start;
mod tap;
pub mod tls;

use std::error::Error;

pub use clock::{Alarm, Now, unix_millis};
pub use context::{Context, serve_unsupported};
pub use fault::Halts;
pub use idempotence::Recent;
pub use inbox::{Event, Inbox};
pub use peers::{Delivery, Peers, RequestError, Seat, SendError, Ticket, WINDOW};
pub use random::{chance, instance, message_id};
pub use redial::Redial;
pub use start::main;

/// Returns an error as one sentence, its causes behind it; what a cause says again is left out.
#[must_use]
pub fn sentence(error: &dyn Error) -> String {
    with_causes(error.to_string(), error)
}

/// Returns a sentence about an error with the error's causes behind it, as [`sentence`] does.
#[must_use]
pub fn with_causes(mut sentence: String, error: &dyn Error) -> String {
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !sentence.contains(&text) {
            sentence.push_str(": ");
            sentence.push_str(&text);
        }
        cause = error.source();
    }
    sentence
}

/// Goes to the back of the run queue once, so that every other task that can work does.
async fn let_others_work() {
    let mut waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
