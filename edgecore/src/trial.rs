//! A trial of what an operator writes and of what comes to the door of the metrics: fuzz targets and
//! tests put bytes in, which are to be taken or refused. The program itself has no use for it.

pub use crate::config::trial::{configuration, edits};
pub use crate::metrics::trial::metrics_requests;
