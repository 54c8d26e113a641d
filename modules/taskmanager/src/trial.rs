//! A trial of what node jobs ask for: fuzz targets and tests put bytes in, which are to be refused,
//! or are of known forms that no shell would read as anything else. The module itself has no use
//! for it.

use crate::job::{Action, Api, Kind, Name};
use crate::spec::Spec;

/// A job: its name, a zero, and its specification; the first byte chooses the step.
///
/// # Panics
/// When something of it could mean more than it says.
pub fn job(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (resource, json) = text.split_once('\0').unwrap_or(("", text));
    if let Ok(name) = Name::parse(resource, "edge1") {
        let record = name.record().to_string();
        assert_eq!(Name::parse(&record, "edge1"), Ok(name.clone()), "it is found again");
        is_harmless(&name.job);
    }
    let api = if choice & 1 == 0 { Api::V1alpha1 } else { Api::V1alpha2 };
    let kind = Kind::ALL[usize::from(choice >> 1) % Kind::ALL.len()].0;
    let action = if choice & 0x80 == 0 { Action::Check } else { Action::Upgrade };
    let name = Name { api, kind, job: "j".into(), node: "edge1".into() };
    match Spec::read(&name, action, json) {
        Ok(Spec::Upgrade(upgrade)) => {
            is_harmless(&upgrade.version);
            is_harmless(&upgrade.image);
            upgrade.digest.iter().for_each(|digest| is_harmless(digest));
        }
        Ok(Spec::Prepull(prepull)) => {
            if let Some((namespace, name)) = prepull.secret {
                is_harmless(&namespace);
                is_harmless(&name);
            }
        }
        Ok(Spec::Config(config)) => {
            for (key, value) in config.fields {
                is_harmless(&key);
                assert!(!value.contains(['\n', '\r', '\0']), "{value:?}");
            }
        }
        Ok(Spec::Look(_)) | Err(_) => {}
    }
}

/// Checks that a word is one word for whatever reads it, and no option.
fn is_harmless(word: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@[]".contains(&byte);
    assert!(word.bytes().all(plain) && !word.is_empty(), "{word:?}");
}
