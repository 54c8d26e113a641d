//! Static pods: those that the node's operator puts into a folder, as kubelet takes them. They run
//! without a cloud and without a store; the cloud is shown a copy of each (its *mirror*).

pub(crate) mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tracing::{error, info};

use crate::pod::names;
use crate::pod::spec::Pod;

pub(crate) use watch::watch;

/// Marks a mirror; its value is the hash of the static pod that it shows.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// The hash of the manifest that a static pod was made from.
const HASH: &str = "kubernetes.io/config.hash";

/// The longest manifest that is read, in bytes: as kubelet.
const MAX_MANIFEST: u64 = 10 << 20;

/// A static pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Static {
    /// What is acted on.
    pub(crate) pod: Pod,
    /// All of it, as JSON: what the cloud is shown.
    pub(crate) object: Box<str>,
}

/// The manifests of a folder, or one file of them.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    node: String,
    /// What each file gave when it could be read last.
    known: BTreeMap<PathBuf, Read>,
}

/// A file as it was read.
#[derive(Clone, Debug, PartialEq)]
struct Read {
    text: Vec<u8>,
    pod: Option<Static>,
}

impl Folder {
    /// Names the folder or file, and the node.
    pub(crate) fn new(path: &Path, node: &str) -> Self {
        Self { path: path.to_owned(), node: node.to_owned(), known: BTreeMap::new() }
    }

    /// Reads all manifests. One that is wrong is said and passed over; what it was before it became
    /// wrong stays until it is right or gone. Of two pods of one name the first counts.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub(crate) fn read(&mut self) -> std::io::Result<Vec<Static>> {
        let files = manifests(&self.path)?;
        self.known.retain(|file, _| files.contains(file));
        for file in files {
            self.read_file(file);
        }
        let mut pods: Vec<Static> = Vec::new();
        for (file, read) in &self.known {
            let Some(found) = &read.pod else { continue };
            let name =
                |of: &Static| (of.pod.metadata.namespace.clone(), of.pod.metadata.name.clone());
            if pods.iter().any(|known| name(known) == name(found)) {
                let name = &found.pod.metadata.name;
                error!(file = %file.display(), %name, "another manifest has a pod of this name already");
            } else {
                pods.push(found.clone());
            }
        }
        Ok(pods)
    }

    fn read_file(&mut self, file: PathBuf) {
        let known = self.known.get(&file);
        let text = match bytes(&file) {
            Ok(text) => text,
            Err(error) => {
                error!("the manifest {} cannot be read: {error}", file.display());
                return;
            }
        };
        if known.is_some_and(|known| known.text == text) {
            return;
        }
        let pod = match parse(&text, &file, &self.node) {
            Ok(pod) => {
                info!(file = %file.display(), pod = %pod.pod.metadata.name, "a static pod was read");
                Some(pod)
            }
            Err(why) => {
                error!("the manifest {} is no pod: {why}", file.display());
                known.and_then(|known| known.pod.clone())
            }
        };
        self.known.insert(file, Read { text, pod });
    }
}

/// Lists the files that hold manifests: all of a folder whose names do not begin with a dot.
fn manifests(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(Vec::new()) };
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // A link counts as what it leads to.
        if !hidden && fs::metadata(entry.path()).is_ok_and(|it| it.is_file()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn bytes(file: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let open = fs::File::open(file).map_err(|error| error.to_string())?;
    open.take(MAX_MANIFEST + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_MANIFEST {
        return Err(format!("it is longer than {MAX_MANIFEST} bytes"));
    }
    Ok(text)
}

/// Reads a manifest and gives the pod what kubelet gives it: a uid out of its content, the node's
/// name as a suffix, a namespace, and the marks of where it came from.
///
/// # Errors
/// Why it is no pod that can run here.
pub(crate) fn parse(text: &[u8], file: &Path, node: &str) -> Result<Static, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 50_000, max_depth: 64, max_aliases: 256 },
        with_snippet: false,
    };
    let mut object: Value = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())?;
    let word = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    if (word("/apiVersion"), word("/kind")) != ("v1", "Pod") {
        let (version, kind) = (word("/apiVersion"), word("/kind"));
        return Err(format!("it is a '{kind}' of '{version}', expected a Pod of v1"));
    }
    let name = word("/metadata/name").to_owned();
    if name.is_empty() {
        return Err("it has no metadata.name".to_owned());
    }
    let uid = match word("/metadata/uid") {
        "" => uid(&object, node, file),
        own => own.to_owned(),
    };
    let namespace = match word("/metadata/namespace") {
        "" => "default".to_owned(),
        own => own.to_owned(),
    };
    let metadata = &mut object["metadata"];
    metadata["name"] = format!("{name}-{}", node.to_lowercase()).into();
    metadata["namespace"] = namespace.into();
    metadata["uid"] = uid.as_str().into();
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    let seen = crate::status::rfc3339(module_runtime::unix_millis());
    for (key, value) in [(HASH, uid.as_str()), (names::SEEN, &seen), (names::SOURCE, "file")] {
        metadata["annotations"][key] = value.into();
    }
    check(&object)?;
    object["spec"]["nodeName"] = node.into();
    tolerate(&mut object["spec"]);
    object["status"] = json!({"phase": "Pending"});
    let text = object.to_string();
    let pod: Pod = serde_json::from_value(object).map_err(|error| error.to_string())?;
    Ok(Static { pod, object: text.into() })
}

/// Checks what every pod needs, and what none without a cloud can have.
fn check(object: &Value) -> Result<(), String> {
    let spec = &object["spec"];
    let containers = spec["containers"].as_array().map_or(&[][..], Vec::as_slice);
    if containers.is_empty() {
        return Err("it has no spec.containers".to_owned());
    }
    let inits = spec["initContainers"].as_array().map_or(&[][..], Vec::as_slice);
    for container in containers.iter().chain(inits) {
        let text = |key: &str| container[key].as_str().unwrap_or_default();
        if !names::is_plain(text("name")) || text("image").is_empty() {
            return Err("a container of it has no name or no image".to_owned());
        }
    }
    for key in ["name", "namespace", "uid"] {
        let text = object["metadata"][key].as_str().unwrap_or_default();
        if !names::is_plain(text) {
            return Err(format!("its metadata.{key} is '{text}', expected a name"));
        }
    }
    if spec["resourceClaims"].as_array().is_some_and(|claims| !claims.is_empty()) {
        return Err("static pods may not use resourceClaims".to_owned());
    }
    Ok(())
}

/// Makes the pod stay whatever taints the node gets, as every static pod does.
fn tolerate(spec: &mut Value) {
    let all = json!({"operator": "Exists", "effect": "NoExecute"});
    match spec["tolerations"].as_array_mut() {
        Some(list) if list.contains(&all) => {}
        Some(list) => list.push(all),
        None => spec["tolerations"] = json!([all]),
    }
}

/// Makes a uid of a manifest, the node and the file: FNV-1a with 128 bits, as hexadecimal digits.
fn uid(object: &Value, node: &str, file: &Path) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let text = format!("{object}host:{node}file:{}", file.display());
    let hash = text.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

/// Returns the mirror of a static pod, as it is made in the cloud. `node` is the node's uid.
pub(crate) fn mirror(object: &str, node: (&str, &str)) -> Result<Value, serde_json::Error> {
    let mut mirror: Value = serde_json::from_str(object)?;
    let metadata = &mut mirror["metadata"];
    let hash = metadata["annotations"][HASH].clone();
    metadata["annotations"][MIRROR] = hash;
    let (name, uid) = node;
    metadata["ownerReferences"] = json!([
        {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid, "controller": true}
    ]);
    Ok(mirror)
}

/// Returns the hash of the static pod that an object mirrors, if it is a mirror.
pub(crate) fn mirrored(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(MIRROR).map(String::as_str)
}

/// Returns the hash of a static pod.
pub(crate) fn hash(pod: &Pod) -> &str {
    pod.metadata.annotations.as_ref().and_then(|texts| texts.get(HASH)).map_or("", String::as_str)
}

#[cfg(test)]
mod tests;
