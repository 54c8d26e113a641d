//! A trial of what comes from outside: fuzz targets and tests put bytes in, which are to be taken or
//! refused within bounds. The module itself has no use for it.

pub use crate::discovery::trial as objects;
pub use crate::dns::trial as names;
pub use crate::proxy::trial as requests;
pub use crate::tunnel::words as streams;
