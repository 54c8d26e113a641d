//! Bounds on the size of the shipped programs: what a node downloads, keeps on flash, and pages in.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace::SHIPPED;

const KIB: u64 = 1024;

/// The greatest size of each shipped program in bytes, by its place in [`SHIPPED`].
///
/// edgecore: supervisor and ten modules. Every process maps this one file, so growth costs flash and
/// page cache once, but start-up relocations in each process; TLS, SQLite, HTTP, MQTT, QUIC and the gRPC
/// of the container runtime are most of it. edgectl: mostly its command-line parser, then archives and
/// the live screen. A change that needs more room raises a bound and says in its message what for.
const BOUNDS: [u64; 2] = [12800 * KIB, 1792 * KIB];

/// Checks the programs in `folder`; returns their sizes for the summary.
pub(crate) fn check(folder: &Path) -> Result<String> {
    let mut sizes = Vec::new();
    for (program, bound) in SHIPPED.into_iter().zip(BOUNDS) {
        let path = folder.join(program);
        let size = path
            .metadata()
            .with_context(|| format!("cannot read {}; run 'cargo xtask ci build'", path.display()))?
            .len();
        sizes.push(within(program, size, bound)?);
    }
    Ok(sizes.join(", "))
}

fn within(program: &str, size: u64, bound: u64) -> Result<String> {
    let (size, bound) = (size.div_ceil(KIB), bound / KIB);
    if size > bound {
        bail!("{program} takes {size} KiB, expected at most {bound} KiB");
    }
    Ok(format!("{program} {size} of {bound} KiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_over_its_bound_is_named_with_both_sizes() {
        assert_eq!(within("edgectl", 2048, 4096).unwrap(), "edgectl 2 of 4 KiB");
        let error = within("edgectl", 4097, 4096).unwrap_err();
        assert_eq!(error.to_string(), "edgectl takes 5 KiB, expected at most 4 KiB");
    }
}
