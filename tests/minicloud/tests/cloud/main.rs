//! A whole cloud on the loopback, with a scripted node at the other end of real sockets.

mod edge;
mod link;
