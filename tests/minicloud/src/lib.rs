//! A cloud that speaks KubeEdge's protocol from CloudCore's side: certificates, the hub, and the
//! controllers behind it, with a small cluster of its own.
//!
//! It is for tests and for trying things out, as a library ([`Minicloud`]) and as a program. It
//! behaves as a real cloud was seen to behave, where its defects reach the node too, and can be
//! told to misbehave ([`fault::Fault`]). It is a test double: the truth is the real CloudCore.
//!
//! Decisions stand in [`core`] and [`hub`], without IO; one task owns them; everything else moves
//! bytes.

mod any_client;
pub mod cli;
mod clock;
pub mod config;
mod control;
pub mod core;
pub mod fault;
mod https;
pub mod hub;
mod listen;
pub mod manifests;
mod minicloud;
mod owner;
pub mod pki;
mod router;
mod shared;
mod store;
pub mod stream;
mod time;
mod token;

pub use crate::config::Config;
pub use crate::minicloud::Minicloud;
pub use crate::time::Time;
