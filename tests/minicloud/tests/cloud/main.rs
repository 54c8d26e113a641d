//! A whole cloud on the loopback, with a scripted node at the other end of real sockets.
#![expect(clippy::unwrap_used, reason = "in a test a failure is the message")]

mod edge;
mod faults;
mod keep;
mod link;
