//! A cloud that speaks KubeEdge's protocol from CloudCore's side: certificates, the hub, and the
//! controllers behind it, with a small cluster of its own. It is a test double: the truth is the
//! real CloudCore.

pub mod core;
pub mod hub;
mod time;
mod token;

pub use crate::time::Time;
