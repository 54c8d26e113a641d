//! The operator's command; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    edgectl::main()
}
