//! The files that the packages hold, and where.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::output;
use super::parts::{self, Part};
use crate::workspace::{SHIPPED, Workspace};

/// A file of the packages.
pub(super) struct Entry {
    /// Where it stands, from the root, without a slash before it.
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

impl Entry {
    pub(super) fn text(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: bytes.into(), mode: 0o644 }
    }
}

/// Where each shell looks for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/edgectl"),
    ("zsh", "usr/share/zsh/vendor-completions/_edgectl"),
    ("fish", "usr/share/fish/vendor_completions.d/edgectl.fish"),
];

/// Files that are taken as they stand in the repository.
const TAKEN: [(&str, &str); 5] = [
    ("packaging/edgecore.sysusers", "usr/lib/sysusers.d/edgecore.conf"),
    ("packaging/edgecore.tmpfiles", "usr/lib/tmpfiles.d/edgecore.conf"),
    ("packaging/edgecore.preset", "usr/lib/systemd/system-preset/80-edgecore.preset"),
    ("packaging/grafana-dashboard.json", "usr/share/edgecore/grafana-dashboard.json"),
    ("packaging/prometheus-alerts.yaml", "usr/share/edgecore/prometheus-alerts.yaml"),
];

/// Returns the files that both packages hold.
pub(super) fn files(workspace: &Workspace, programs: &Path, parts: &[Part]) -> Result<Vec<Entry>> {
    let mut files = Vec::new();
    for program in SHIPPED {
        let path = programs.join(program);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push(Entry { path: format!("usr/bin/{program}"), bytes, mode: 0o755 });
    }
    for (from, to) in TAKEN {
        files.push(Entry::text(to, read(workspace, from)?));
    }
    let unit = read(workspace, "systemd/edgecore.service")?.replace("/usr/local/bin/", "/usr/bin/");
    files.push(Entry::text("usr/lib/systemd/system/edgecore.service", unit));
    let edgectl = programs.join("edgectl");
    for (shell, path) in COMPLETIONS {
        let script = output(Command::new(&edgectl).args(["completions", shell]))?;
        files.push(Entry::text(path, script));
    }
    files.push(page("edgecore.8", &read(workspace, "packaging/edgecore.8")?)?);
    files.push(page("edgectl.1", &output(Command::new(&edgectl).arg("man"))?)?);
    for command in commands(&edgectl)? {
        let text = output(Command::new(&edgectl).args(["man", &command]))?;
        files.push(page(&format!("edgectl-{command}.1"), &text)?);
    }
    let documents = "usr/share/doc/edgecore";
    files.push(Entry::text(format!("{documents}/copyright"), parts::copyright(parts)?));
    for (from, to) in [("packaging/NEWS", "NEWS.gz"), ("CHANGELOG.md", "changelog.gz")] {
        files.push(Entry::text(format!("{documents}/{to}"), packed(&read(workspace, from)?)?));
    }
    Ok(files)
}

fn read(workspace: &Workspace, path: &str) -> Result<String> {
    let path = workspace.root.join(path);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Makes a manual page of its text.
fn page(name: &str, text: &str) -> Result<Entry> {
    let section = name.rsplit('.').next().unwrap_or_default();
    Ok(Entry::text(format!("usr/share/man/man{section}/{name}.gz"), packed(text)?))
}

/// Returns the commands that have a page of their own: those that the manual page names as
/// `edgectl-NAME(1)`.
fn commands(edgectl: &Path) -> Result<Vec<String>> {
    let page = output(Command::new(edgectl).arg("man"))?;
    let names = page.lines().filter_map(|line| {
        let line = line.replace('\\', "");
        Some(line.strip_prefix("edgectl-")?.strip_suffix("(1)")?.to_owned())
    });
    let names: Vec<_> = names.filter(|name| name != "help").collect();
    if names.is_empty() {
        bail!("'edgectl man' names no command, expected lines such as 'edgectl-status(1)'");
    }
    Ok(names)
}

/// Packs a text the way Debian wants documents packed, without a name or a time in it.
pub(super) fn packed(text: &str) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip");
    let mut gzip = gzip.args(["-9", "-n"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = gzip.stdin.take().context("standard input was piped")?;
    let text = text.as_bytes().to_vec();
    // beside it: who writes all before reading anything waits for ever
    let writer = std::thread::spawn(move || input.write_all(&text));
    let output = gzip.wait_with_output()?;
    let written = writer.join();
    if !output.status.success() || !matches!(written, Ok(Ok(()))) {
        bail!("gzip ended with {}", output.status);
    }
    Ok(output.stdout)
}

/// Writes the files below a folder.
pub(super) fn lay<'a>(root: &Path, files: impl IntoIterator<Item = &'a Entry>) -> Result<()> {
    for file in files {
        let path = root.join(&file.path);
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(&path, &file.bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    folders(root)
}

/// Gives folders the rights that they have everywhere, whatever the user's mask is.
fn folders(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            folders(&path)?;
        }
    }
    Ok(())
}
