//! The operator's terminal while a command in a container has it.

use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::Failure;

/// A terminal that passes every key on; as it was once this is dropped.
pub(super) struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Lets every key pass.
    pub(super) fn raw() -> Result<Self, Failure> {
        let failed = |error| Failure::Failed(format!("cannot set up the terminal: {error}"));
        let before = tcgetattr(stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Flush, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        tcsetattr(stdin(), OptionalActions::Now, &self.before).unwrap_or_default();
    }
}

/// Returns columns and rows.
pub(super) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdin()).ok()?;
    Some((size.ws_col, size.ws_row))
}
