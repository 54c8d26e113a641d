//! What a job asks for, read from its specification and checked: whatever is used of it is a value
//! of a known form, and nothing of it ever meets a shell.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::job::{Action, Api, Kind, Name, shown};

/// Images of one job at most.
const MAX_IMAGES: usize = 256;

/// Tries of each image beside the first at most.
const MAX_RETRIES: u32 = 100;

/// Keys of one job at most, and the longest of their values in bytes.
const MAX_FIELDS: usize = 256;
const MAX_VALUE: usize = 16 * 1024;

/// The image of an upgrade that names none: KubeEdge's.
const USUAL_IMAGE: &str = "kubeedge/installation-package";

/// How long the cloud waits for a job that does not say, in seconds.
const USUAL_TIMEOUT: u64 = 300;

/// What is looked at on the host beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Cpu,
    Memory,
    Disk,
}

/// An upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// The version, as the cloud writes it: `v1.2.3`.
    pub(crate) version: String,
    /// The image that holds it, with its tag.
    pub(crate) image: String,
    /// The digest that the image has to have, where that is asked for.
    pub(crate) digest: Option<String>,
    pub(crate) items: Vec<Item>,
    /// Whether somebody on the node has to agree.
    pub(crate) confirm: bool,
    /// How long the new version has to prove itself, in seconds.
    pub(crate) patience: u64,
}

/// Images to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prepull {
    pub(crate) images: Vec<String>,
    /// Namespace and name of a secret with credentials.
    pub(crate) secret: Option<(String, String)>,
    pub(crate) items: Vec<Item>,
    pub(crate) retries: u32,
}

/// Keys of the configuration to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) fields: BTreeMap<String, String>,
    /// How long the new configuration has to prove itself, in seconds.
    pub(crate) patience: u64,
}

/// What a job asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    Upgrade(Upgrade),
    Prepull(Prepull),
    Config(Config),
    /// A look at the host, which the older API orders by itself.
    Look(Vec<Item>),
}

impl Spec {
    /// Reads and checks what a job asks for.
    ///
    /// # Errors
    /// What is wrong with it, as the cloud is told.
    pub(crate) fn read(name: &Name, action: Action, json: &str) -> Result<Self, String> {
        match (name.api, name.kind, action) {
            (Api::V1alpha1, _, Action::Check) => {
                let Order { item: Checks { check_item } } = parse(json)?;
                items(check_item).map(Self::Look)
            }
            (Api::V1alpha1, Kind::Upgrade, _) => upgrade_of_order(json),
            (Api::V1alpha2, Kind::Upgrade, _) => upgrade(parse(json)?),
            (Api::V1alpha1, Kind::Prepull, _) => {
                let Order { item: Images { images, secret, retry_times, check_items } } =
                    parse(json)?;
                prepull(images, &secret, retry_times, check_items)
            }
            (Api::V1alpha2, Kind::Prepull, _) => {
                let Template { images, image_secrets, retry_times, check_items } =
                    parse::<PrepullSpec>(json)?.image_pre_pull_template;
                prepull(images, &image_secrets, retry_times, check_items)
            }
            (_, Kind::Config, _) => config(parse(json)?),
        }
    }
}

/// The state and the details of an order of the older API.
#[derive(Deserialize)]
struct Order<T> {
    #[serde(rename = "Item")]
    item: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checks {
    #[serde(default)]
    check_item: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct UpgradeOrder {
    #[serde(rename = "UpgradeID")]
    upgrade_id: String,
    version: String,
    image: String,
    image_digest: String,
    require_confirmation: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Images {
    #[serde(default)]
    images: Option<Vec<String>>,
    #[serde(default)]
    secret: String,
    #[serde(default)]
    retry_times: i64,
    #[serde(default)]
    check_items: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct UpgradeSpec {
    version: String,
    image: String,
    /// The API's own spelling.
    image_digest_gatter: Option<BTreeMap<String, String>>,
    check_items: Option<Vec<String>>,
    require_confirmation: bool,
    timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PrepullSpec {
    image_pre_pull_template: Template,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Template {
    images: Option<Vec<String>>,
    /// One text, whatever the key says.
    image_secrets: String,
    retry_times: i64,
    check_items: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ConfigSpec {
    update_fields: Option<BTreeMap<String, String>>,
    timeout_seconds: Option<u64>,
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| format!("the specification cannot be read: {error}"))
}

fn items(words: Option<Vec<String>>) -> Result<Vec<Item>, String> {
    let item = |word: String| match word.as_str() {
        "cpu" => Ok(Item::Cpu),
        "mem" => Ok(Item::Memory),
        "disk" => Ok(Item::Disk),
        other => {
            Err(format!("check item {} is not supported, expected cpu, mem or disk", shown(other)))
        }
    };
    words.unwrap_or_default().into_iter().map(item).collect()
}

/// Half of what the cloud waits, so that the way back is told in time as well.
fn patience(timeout: Option<u64>) -> u64 {
    let timeout = timeout.filter(|timeout| *timeout > 0).unwrap_or(USUAL_TIMEOUT);
    (timeout / 2).clamp(5, 600)
}

fn upgrade(spec: UpgradeSpec) -> Result<Spec, String> {
    let UpgradeSpec { version, image, image_digest_gatter, check_items, .. } = spec;
    check_version(&version)?;
    let image = if image.is_empty() { USUAL_IMAGE.to_owned() } else { image };
    check_image(&image)?;
    if tag(&image).is_some() || image.contains('@') {
        return Err(format!("image {} has a tag, expected none: the version is it", shown(&image)));
    }
    // An empty table asks for nothing; one that has another machine's digest only does.
    let wanted = image_digest_gatter.unwrap_or_default();
    let wanted: BTreeMap<_, _> = wanted.into_iter().filter(|(_, sum)| !sum.is_empty()).collect();
    let digest = match wanted.get(machine()) {
        Some(digest) => Some(check_digest(digest)?.to_owned()),
        None if wanted.is_empty() => None,
        None => return Err(format!("imageDigestGatter has no digest for {}", machine())),
    };
    Ok(Spec::Upgrade(Upgrade {
        image: format!("{image}:{version}"),
        version,
        digest,
        items: items(check_items)?,
        confirm: spec.require_confirmation,
        patience: patience(spec.timeout_seconds),
    }))
}

fn upgrade_of_order(json: &str) -> Result<Spec, String> {
    let Order {
        item: UpgradeOrder { upgrade_id, version, image, image_digest, require_confirmation },
    } = parse(json)?;
    if upgrade_id.is_empty() {
        return Err("UpgradeID is empty".to_owned());
    }
    check_version(&version)?;
    check_image(&image)?;
    let image = if tag(&image).is_some() { image } else { format!("{image}:{version}") };
    let digest =
        if image_digest.is_empty() { None } else { Some(check_digest(&image_digest)?.to_owned()) };
    Ok(Spec::Upgrade(Upgrade {
        version,
        image,
        digest,
        items: Vec::new(),
        confirm: require_confirmation,
        patience: patience(None),
    }))
}

fn prepull(
    images: Option<Vec<String>>,
    secret: &str,
    retries: i64,
    check_items: Option<Vec<String>>,
) -> Result<Spec, String> {
    let images = images.unwrap_or_default();
    if images.len() > MAX_IMAGES {
        return Err(format!("{} images, expected at most {MAX_IMAGES}", images.len()));
    }
    let secret = match secret.split_once('/') {
        _ if secret.is_empty() => None,
        Some((namespace, name)) if is_label(namespace) && is_label(name) => {
            Some((namespace.to_owned(), name.to_owned()))
        }
        _ => return Err(format!("the secret is {}, expected namespace/name", shown(secret))),
    };
    let retries = u32::try_from(retries).unwrap_or(0).min(MAX_RETRIES);
    Ok(Spec::Prepull(Prepull { images, secret, items: items(check_items)?, retries }))
}

fn config(spec: ConfigSpec) -> Result<Spec, String> {
    let fields = spec.update_fields.unwrap_or_default();
    if fields.is_empty() || fields.len() > MAX_FIELDS {
        return Err(format!("{} keys to set, expected 1 to {MAX_FIELDS}", fields.len()));
    }
    for (key, value) in &fields {
        check_key(key)?;
        if value.len() > MAX_VALUE || value.contains(|letter: char| letter.is_control()) {
            let expected = "one line of at most 16 KiB without control characters";
            return Err(format!("the value of {key} is {}, expected {expected}", shown(value)));
        }
    }
    Ok(Spec::Config(Config { fields, patience: patience(spec.timeout_seconds) }))
}

/// What a job may not set: without them nobody could finish it.
const OWN: &[&str] = &["modules.taskManager", "database", "modules.edged.hostnameOverride"];

/// Checks a key: words with dots between them, and none that the job itself stands on.
fn check_key(key: &str) -> Result<(), String> {
    let word = |word: &str| {
        word.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if key.len() > 256 || !key.split('.').all(word) {
        return Err(format!("the key is {}, expected words with dots between them", shown(key)));
    }
    let folded = key.to_ascii_lowercase();
    for own in OWN {
        let own = own.to_ascii_lowercase();
        let covers = |one: &str, other: &str| {
            one == other || one.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'))
        };
        if covers(&folded, &own) || covers(&own, &folded) {
            return Err(format!("the key {key} is not for jobs: they stand on it"));
        }
    }
    Ok(())
}

/// Checks a version: `v1.2.3`, perhaps with `-word` behind it.
fn check_version(version: &str) -> Result<(), String> {
    let wrong = || format!("invalid version {}, expected one such as v1.2.3", shown(version));
    let bare = version.strip_prefix('v').filter(|_| version.len() <= 128).ok_or_else(wrong)?;
    let (numbers, more) = bare.split_once('-').map_or((bare, None), |(it, more)| (it, Some(more)));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
    };
    let fine = numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && more.is_none_or(|more| more.split('-').all(is_word));
    if fine { Ok(()) } else { Err(wrong()) }
}

/// Checks a reference to an image: `[registry[:port]/]path[:tag][@digest]`.
pub(crate) fn check_image(image: &str) -> Result<(), String> {
    if ipc_proto::image::is_reference(image) {
        return Ok(());
    }
    Err(format!("invalid image {}, expected a reference such as registry/path", shown(image)))
}

/// Returns an image's tag, where it has one.
fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next().unwrap_or_default();
    name.rsplit('/').next().unwrap_or_default().split_once(':').map(|(_, tag)| tag)
}

fn check_digest(digest: &str) -> Result<&str, String> {
    let is_sum = |sum: &str| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digest.strip_prefix("sha256:").is_some_and(is_sum) {
        return Ok(digest);
    }
    Err(format!("the digest is {}, expected sha256: and 64 hexadecimal digits", shown(digest)))
}

/// Tells whether a text can name a namespace or a secret.
fn is_label(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

/// Returns this machine's architecture in Go's words.
const fn machine() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "arm"
    }
}

#[cfg(test)]
mod tests;
