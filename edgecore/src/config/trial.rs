//! A trial of configuration files.

use std::path::PathBuf;

use ipc_proto::Module;
use serde_json::Value;

use super::edgecore_yaml;
use super::reader::{Findings, Reader, parse};
use super::supervisor_yaml;
use super::{edit, mesh, told};

/// Both files, with a zero between them.
///
/// # Panics
/// When what is wrong has no text that says so, or more than one line.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (node, settings) = text.split_once('\0').unwrap_or((text, ""));
    let mut findings = Findings::default();
    let (Ok(node), Ok(settings)) = (parse(node), parse(settings)) else { return };
    let node = edgecore_yaml::read(node, &mut Reader::new("edgecore.yaml", &mut findings));
    let settings =
        supervisor_yaml::read(&settings, &mut Reader::new("supervisor.yaml", &mut findings));
    for said in findings.errors.iter().chain(&findings.warnings) {
        assert!(said.contains(".yaml: ") && said.len() < 8 * 1024, "{said}");
    }
    if findings.errors.is_empty() {
        let files = ["e.yaml", "s.yaml"].map(PathBuf::from);
        for module in Module::ALL {
            let section = told(&node, &settings, &files, module);
            assert!(section.is_object(), "{module} is told {section}");
            let _runs = mesh::runs(&node, &settings, module);
            let _folders = (node.writable(module), node.readable(module));
        }
    }
}

/// A file and a key to be set in it, with a zero between them.
///
/// # Panics
/// When the file cannot be read any more, or the same key cannot be set once more.
pub fn edits(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((file, pair)) = text.split_once('\0') else { return };
    let set = [pair.to_owned()];
    if let Ok(changed) = edit::edited(file, &set) {
        let tree: Option<Value> = parse(&changed).ok();
        assert!(tree.is_some(), "{changed}");
        assert_eq!(edit::edited(&changed, &set).ok().as_ref(), Some(&changed), "it is set already");
    }
}
