//! How much of the processor and of memory something uses, at a moment.

/// Processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// When this was: Unix nanoseconds.
    pub(crate) at: i64,
    /// Nanoseconds since the beginning.
    pub(crate) total: u64,
    /// Thousand millionths of a core just now.
    pub(crate) rate: Option<u64>,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// When this was: Unix nanoseconds.
    pub(crate) at: i64,
    pub(crate) working_set: u64,
    pub(crate) usage: Option<u64>,
    pub(crate) available: Option<u64>,
    pub(crate) rss: Option<u64>,
}
