//! `edgectl bundle`: what somebody who helps from afar wants to see of a node, in one archive, without
//! anything secret in it.
//!
//! Each part is gathered by itself; what cannot be had says why in its place. Everything passes
//! [`redact`] on its way into the archive, and is bounded in size.

mod parts;
mod redact;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::BundleArguments;
use crate::client::Client;
use crate::clock::Timestamp;
use crate::failure::Failure;
use crate::screen::Screen;
use redact::Secrets;

/// The greatest part, in bytes; of a longer one the end is taken, because that is the newest.
const MAX_PART: usize = 512 * 1024;

/// All parts together, in bytes before they are packed.
const MAX_ALL: usize = 16 * 1024 * 1024;

/// Makes the archive.
pub(crate) fn run(
    arguments: &BundleArguments,
    runtime_dir: &Path,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let name = format!("edgecore-bundle-{}", stamp());
    let output = arguments.output.clone().unwrap_or_else(|| format!("{name}.tar.gz").into());
    let output = std::path::absolute(&output)?;
    let stage = Stage::make(&output, &name)?;
    let secrets = Secrets::of(&parts::settings(arguments));
    let mut room = MAX_ALL;
    for (part, text) in parts::gather(arguments, runtime_dir, client) {
        let text = secrets.taken_out(&text);
        let text = end_of(&text, MAX_PART.min(room));
        room -= text.len();
        stage.add(&part, text)?;
    }
    stage.pack(&output)?;
    writeln!(screen, "{}", output.display())?;
    Ok(())
}

/// Returns the time as a part of a file's name.
fn stamp() -> String {
    let digits = |letter: &char| letter.is_ascii_digit() || *letter == 'T';
    Timestamp::now().to_string().chars().filter(digits).take(15).collect()
}

/// Returns the end of a text, of so many bytes at most.
fn end_of(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The parts as files, in a folder beside the archive that goes when this is dropped.
struct Stage {
    folder: PathBuf,
    name: String,
}

impl Stage {
    fn make(output: &Path, name: &str) -> Result<Self, Failure> {
        let beside = output.parent().unwrap_or(Path::new("/"));
        let folder = beside.join(format!(".{name}.{}", std::process::id()));
        let inner = folder.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&inner);
        made.map_err(|error| {
            Failure::Failed(format!("cannot make a folder in {}: {error}", beside.display()))
        })?;
        Ok(Self { folder, name: name.to_owned() })
    }

    fn add(&self, part: &str, text: &str) -> Result<(), Failure> {
        let path = self.folder.join(&self.name).join(part);
        let cannot =
            |error: io::Error| Failure::Failed(format!("cannot write {}: {error}", path.display()));
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)).map_err(cannot)
    }

    /// Packs all parts, for the caller alone to read.
    fn pack(&self, output: &Path) -> Result<(), Failure> {
        let cannot =
            |reason: String| Failure::Failed(format!("cannot make {}: {reason}", output.display()));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(output);
        let file = file.map_err(|error| cannot(error.to_string()))?;
        let mut tar = Command::new("tar");
        tar.args(["-czf", "-", "-C"]).arg(&self.folder).arg(&self.name).stdout(file);
        let output = tar.output().map_err(|error| cannot(format!("tar: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        Err(cannot(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // what cannot be removed holds nothing secret
        fs::remove_dir_all(&self.folder).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_text_is_cut_between_letters() {
        assert_eq!(end_of("abc", 9), "abc");
        assert_eq!(end_of("abc", 2), "bc");
        assert_eq!(end_of("aü", 1), "");
        assert_eq!(end_of("aü", 2), "ü");
        assert_eq!(end_of("abc", 0), "");
    }

    #[test]
    fn a_stamp_is_a_name_for_a_file() {
        let stamp = stamp();
        assert_eq!((stamp.len(), stamp.find('T')), (15, Some(8)), "{stamp}");
    }
}
