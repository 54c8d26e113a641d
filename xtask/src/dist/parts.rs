//! What the programs are built of: the crates that cargo links, their licences, and the bill of
//! materials.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{output, version};
use crate::workspace::{SHIPPED, Workspace};

/// A crate of somebody else's.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) name: String,
    version: String,
    pub(super) licence: String,
    authors: String,
    /// SHA-256 of the archive, as `Cargo.lock` has it.
    checksum: Option<String>,
    folder: PathBuf,
}

/// Returns the crates that the shipped programs are built of, in the order of their names.
pub(super) fn shipped(workspace: &Workspace) -> Result<Vec<Part>> {
    let target = output(&mut workspace.program("rustc", "--print host-tuple"))?;
    let mut cargo = workspace.cargo("metadata --format-version 1 --locked --filter-platform");
    let metadata: Value = serde_json::from_str(&output(cargo.arg(target.trim()))?)?;
    let lock = fs::read_to_string(workspace.root.join("Cargo.lock"))?;
    let packages = table(&metadata["packages"]);
    let nodes = table(&metadata["resolve"]["nodes"]);
    let mut seen = BTreeSet::new();
    let of_name = |name: &&str| packages.iter().find(|(_, it)| it["name"] == **name);
    let mut open: Vec<&str> = SHIPPED.iter().filter_map(of_name).map(|(id, _)| *id).collect();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(linked(nodes[id]));
        }
    }
    let foreign = seen.iter().map(|id| packages[id]).filter(|package| !package["source"].is_null());
    let mut parts = foreign.map(|it| part(it, &lock)).collect::<Result<Vec<_>>>()?;
    parts.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    Ok(parts)
}

fn table(list: &Value) -> BTreeMap<&str, &Value> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|entry| Some((entry["id"].as_str()?, entry))).collect()
}

/// Returns what a crate is built of, without what only its tests and its build script use.
fn linked(node: &Value) -> impl Iterator<Item = &str> {
    let used = |dependency: &&Value| {
        let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
        kinds.into_iter().any(|kind| kind["kind"].is_null())
    };
    let dependencies = node["deps"].as_array().into_iter().flatten();
    dependencies.filter(used).filter_map(|dependency| dependency["pkg"].as_str())
}

fn part(package: &Value, lock: &str) -> Result<Part> {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let (name, version) = (text("name"), text("version"));
    let manifest = PathBuf::from(text("manifest_path"));
    let authors = package["authors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let entry = lock.split("\n\n").find(|entry| entry.contains(&entry_of(&name, &version)));
    let checksum = entry.and_then(|entry| entry.split_once("checksum = \"")?.1.split('"').next());
    Ok(Part {
        licence: text("license"),
        authors: authors.collect::<Vec<_>>().join(", "),
        checksum: checksum.map(str::to_owned),
        folder: manifest.parent().context("a manifest stands in a folder")?.to_owned(),
        name,
        version,
    })
}

fn entry_of(name: &str, version: &str) -> String {
    format!("name = \"{name}\"\nversion = \"{version}\"\n")
}

/// Returns the bill of materials, in the form of CycloneDX 1.5.
pub(super) fn bill(parts: &[Part], epoch: u64) -> Result<String> {
    let component = |part: &Part| {
        let reference = format!("pkg:cargo/{}@{}", part.name, part.version);
        let mut component = json!({
            "type": "library", "bom-ref": reference, "purl": reference,
            "name": part.name, "version": part.version, "scope": "required",
            "licenses": [{"expression": part.licence.replace('/', " OR ")}],
        });
        if let Some(checksum) = &part.checksum {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        component
    };
    let mut date = std::process::Command::new("date");
    let time = output(date.args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "--date"]).arg(format!("@{epoch}")))?;
    let bill = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "timestamp": time.trim(),
            "component": {
                "type": "application", "name": "edgecore", "version": version(),
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": parts.iter().map(component).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

/// Returns the licences: ours, and those of every crate with the texts that they ask to be kept.
pub(super) fn copyright(parts: &[Part]) -> Result<String> {
    let mut text = String::from(
        "edgecore is licensed under the Apache License, version 2.0.\n\
         Copyright: the edgecore developers.\n\n\
         The programs are built of these crates, each under the licence that stands behind it:\n\n",
    );
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for part in parts {
        let Part { name, version, licence, authors, .. } = part;
        text += &format!("  {name} {version}: {licence}\n");
        if !authors.is_empty() {
            text += &format!("      Copyright: {authors}\n");
        }
        for words in words(&part.folder)? {
            texts.entry(words).or_default().push(format!("{name} {version}"));
        }
    }
    text += "\nThe text of the Apache License, version 2.0, stands on Debian systems in\n\
             /usr/share/common-licenses/Apache-2.0, else at\n\
             http://www.apache.org/licenses/LICENSE-2.0.\n";
    for (words, names) in texts {
        text += &format!("\n{}\n{}:\n\n{}\n", "-".repeat(72), names.join(", "), words.trim_end());
    }
    Ok(text)
}

/// Returns the licences and notices in a crate's folder, but for the Apache License itself, which
/// is the same for all.
pub(super) fn words(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let named = ["LICENSE", "LICENCE", "NOTICE", "COPYING", "COPYRIGHT", "UNLICENSE"];
        if path.is_file() && named.iter().any(|start| name.starts_with(start)) {
            let text = fs::read(&path)?;
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
            let apache = text.contains("TERMS AND CONDITIONS FOR USE, REPRODUCTION");
            if !apache {
                found.push(text.trim().to_owned());
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}
