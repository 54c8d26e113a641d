//! The package for the distributions that use rpm, by `rpmbuild`.

use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::tree::{self, Entry};
use super::{Job, filled, output, version};

/// Settings that take this machine and this hour out of the package. zstd is what rpm itself takes.
const SETTINGS: [&str; 5] = [
    "_buildhost edgecore",
    "use_source_date_epoch_as_buildtime 1",
    "clamp_mtime_to_source_date_epoch 1",
    "_binary_payload w19.zstdio",
    "_build_id_links none",
];

/// Makes the package; returns its path.
pub(super) fn make(job: &Job<'_>, files: &[Entry]) -> Result<PathBuf> {
    let root = job.stage.join("rpm");
    tree::lay(&root, files)?;
    let spec = job.stage.join("edgecore.spec");
    let revision = job.plan.revision.to_string();
    let mut date = job.program("date", "--date");
    let date = output(date.arg(format!("@{}", job.epoch)).arg("+%a %b %d %Y"))?;
    let words = [
        ("VERSION", version()),
        ("REVISION", &revision),
        ("STAGE", &root.display().to_string()),
        ("FILES", &listed(files)),
        ("DATE", date.trim()),
    ];
    let template = job.workspace.root.join("packaging/rpm/edgecore.spec");
    fs::write(&spec, filled(&template, &words)?)?;
    let made = job.stage.join("made");
    let mut build = job.program("rpmbuild", "-bb --quiet");
    build.arg("--target").arg(ARCH).arg("--define").arg(format!("_topdir {}", made.display()));
    for setting in SETTINGS {
        build.arg("--define").arg(setting);
    }
    output(build.arg(&spec))?;
    let name = format!("edgecore-{}-{revision}.{ARCH}.rpm", version());
    let path = job.plan.folder.join(&name);
    fs::copy(made.join("RPMS").join(ARCH).join(&name), &path)?;
    Ok(path)
}

/// Returns the list of files in rpm's words; whose mode and owner are said once for all.
fn listed(files: &[Entry]) -> String {
    let line = |file: &Entry| {
        let path = &file.path;
        let mode = if file.mode == 0o755 { "0755" } else { "0644" };
        let kind = match path {
            path if path.starts_with("usr/share/man/") => "%doc ",
            path if path.ends_with("/copyright") => "%license ",
            path if path.starts_with("usr/share/doc/") => "%doc ",
            _ => "",
        };
        format!("%attr({mode}, root, root) {kind}/{path}\n")
    };
    files.iter().map(line).collect()
}
