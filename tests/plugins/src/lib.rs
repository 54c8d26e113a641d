//! Plug-ins of a test's own, over real sockets: a device plug-in and a storage driver. They speak the
//! pod engine's words, so what the words are is not tested here.

pub mod device;
pub mod storage;
