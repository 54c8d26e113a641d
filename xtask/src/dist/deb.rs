//! The package for Debian, by `dpkg-deb`.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::tree::{self, Entry};
use super::{Job, filled, output, version};
use crate::workspace::SHIPPED;

/// What runs when the package comes and goes.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Makes the package; returns its path.
pub(super) fn make(job: &Job<'_>, files: &[Entry]) -> Result<PathBuf> {
    let root = job.stage.join("deb");
    let version = format!("{}-{}", version(), job.plan.revision);
    let own = own_files(job, &version)?;
    let files = files.iter().chain(&own);
    tree::lay(&root, files.clone())?;
    let size: usize = files.map(|file| file.bytes.len().div_ceil(1024)).sum();
    control(job, &root, &version, size)?;
    let name = format!("edgecore_{version}_{}.deb", architecture()?);
    let path = job.plan.folder.join(name);
    let mut build = job.program("dpkg-deb", "--root-owner-group -Zxz --build");
    output(build.arg(&root).arg(&path))?;
    Ok(path)
}

fn own_files(job: &Job<'_>, version: &str) -> Result<Vec<Entry>> {
    let packaging = job.workspace.root.join("packaging/deb");
    let date = output(job.program("date", "-R --date").arg(format!("@{}", job.epoch)))?;
    let changelog = format!(
        "edgecore ({version}) unstable; urgency=medium\n\n  * What changed stands in changelog.gz \
         beside this file.\n\n -- {MAINTAINER}  {date}"
    );
    Ok(vec![
        Entry::text("usr/share/doc/edgecore/changelog.Debian.gz", tree::packed(&changelog)?),
        Entry::text(
            "usr/share/lintian/overrides/edgecore",
            fs::read(packaging.join("lintian-overrides"))?,
        ),
    ])
}

/// Who answers for the packages; also in the templates' heads.
const MAINTAINER: &str = "The edgecore developers <edgecore@localhost.localdomain>";

/// Writes what the package says of itself, and its scripts.
fn control(job: &Job<'_>, root: &Path, version: &str, size: usize) -> Result<()> {
    let packaging = job.workspace.root.join("packaging/deb");
    let folder = root.join("DEBIAN");
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let words = [
        ("VERSION", version),
        ("ARCHITECTURE", architecture()?),
        ("SIZE", &size.to_string()),
        ("LIBRARIES", &libraries(job)?),
    ];
    fs::write(folder.join("control"), filled(&packaging.join("control"), &words)?)?;
    for script in SCRIPTS {
        let path = folder.join(script);
        fs::copy(packaging.join(script), &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let mut sums = job.program("md5sum", "");
    let listed = output(job.program("find", "usr -type f").current_dir(root))?;
    let mut listed: Vec<_> = listed.lines().collect();
    listed.sort_unstable();
    fs::write(folder.join("md5sums"), output(sums.current_dir(root).args(listed))?)?;
    Ok(())
}

/// Returns the libraries that the programs need, as Debian's own tool finds them.
fn libraries(job: &Job<'_>) -> Result<String> {
    let folder = job.stage.join("libraries");
    fs::create_dir_all(folder.join("debian"))?;
    fs::write(
        folder.join("debian/control"),
        "Source: edgecore\n\nPackage: edgecore\nArchitecture: any\n",
    )?;
    let mut find = job.program("dpkg-shlibdeps", "-O");
    find.current_dir(&folder);
    for program in SHIPPED {
        find.arg("-e").arg(job.plan.programs.join(program));
    }
    let said = output(&mut find)?;
    let depends = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    depends.map(str::to_owned).context("dpkg-shlibdeps found no libraries, expected libc6")
}

/// Returns Debian's name of this machine's architecture.
fn architecture() -> Result<&'static str> {
    Ok(match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "armhf",
        other => bail!("no name for architecture '{other}', expected x86_64, aarch64 or arm"),
    })
}
