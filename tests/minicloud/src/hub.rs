//! The hub: what CloudHub does for the nodes' links. The decisions stand in [`core`], the rules of
//! what is delivered reliably in [`admission`]; sockets are the shell's.

pub mod admission;
pub mod core;
mod queue;
#[cfg(feature = "quic")]
pub(crate) mod quic;
pub(crate) mod socket;
