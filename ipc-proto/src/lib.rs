//! The words that edgecore's processes share: the beehive message, the frames that carry it, the
//! table of modules and who may say what to whom, the lifeline between module and supervisor, and
//! the protocol of the operator's command.
//!
//! Bytes in, values out, and back. No IO, no clock, no randomness, no async: everything here can be
//! tested with values alone, and every decoder takes rubbish without harm.

pub mod allow;
pub mod answer;
pub mod control;
pub mod frame;
pub mod id;
pub mod image;
pub mod json;
pub mod lifeline;
pub mod message;
pub mod module;
pub mod resource;
pub mod tap;
mod words;

pub use id::{Instance, MessageId};
pub use message::{Content, Header, Message, Route};
pub use module::{Module, ModuleSet, ModuleState};
pub use resource::{Kind, Resource, Scope};
pub use words::{Group, Operation, Source};
