//! Forgets a token that has done its work. Once the node has a certificate that is newer than
//! `edgecore.yaml`, the token there serves nobody but a thief (WIRE.md §3.4).
//!
//! The converter does that at a start, and not edgehub, which used the token: edgehub is an ordinary
//! user, confined to the folders of its certificates, and the file is the operator's. A reload
//! leaves the token alone: edgehub would count as changed and be started anew.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use serde_json::Value;

use super::reader;

/// Takes the token out of the file if the certificate is newer than that; tells whether it did.
///
/// # Errors
/// When the file cannot be changed.
pub(super) fn forget(file: &Path, certificate: &Path, token: &str) -> io::Result<bool> {
    let Ok(issued) = fs::metadata(certificate).and_then(|facts| facts.modified()) else {
        return Ok(false);
    };
    if issued <= fs::metadata(file)?.modified()? {
        return Ok(false);
    }
    let Some(text) = without(&fs::read_to_string(file)?, token) else {
        return Err(io::Error::other("it does not stand there by itself, once and on one line"));
    };
    replace(file, &text)?;
    Ok(true)
}

/// Takes the token out of a text and leaves all else to the letter; nothing when that would change
/// more than the token.
fn without(text: &str, token: &str) -> Option<String> {
    let (before, after) = text.split_once(token)?;
    let is_quoted =
        ['"', '\''].iter().any(|quote| before.ends_with(*quote) && after.starts_with(*quote));
    let nothing = if is_quoted { "" } else { "\"\"" };
    let shorter = format!("{before}{nothing}{after}");
    let mut wanted = reader::parse(text).ok()?;
    empty(&mut wanted, token);
    (reader::parse(&shorter).ok()? == wanted).then_some(shorter)
}

/// Empties all texts that are this one.
fn empty(value: &mut Value, text: &str) {
    match value {
        Value::String(found) if found.trim() == text => found.clear(),
        Value::Array(values) => values.iter_mut().for_each(|value| empty(value, text)),
        Value::Object(fields) => fields.values_mut().for_each(|value| empty(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Puts a new text in a file's place at once, under its owner and with its rights.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let file = fs::canonicalize(file)?;
    let facts = fs::metadata(&file)?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = file.with_file_name(name);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let write = || {
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        new.write_all(text.as_bytes())?;
        fchown(&new, Some(facts.uid()), Some(facts.gid()))?;
        new.set_permissions(Permissions::from_mode(facts.mode() & 0o7777))?;
        new.sync_all()?;
        fs::rename(&beside, &file)
    };
    if let Err(error) = write() {
        // It may never have been made.
        let _gone = fs::remove_file(&beside);
        return Err(error);
    }
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    const TOKEN: &str = "00aa.eyJh.eyJl.c2ln";

    #[test]
    fn only_the_token_goes() {
        for (text, wanted) in [
            (
                "# mine\na:\n  token: 00aa.eyJh.eyJl.c2ln # old\nb: 1\n",
                "# mine\na:\n  token: \"\" # old\nb: 1\n",
            ),
            ("a: {token: '00aa.eyJh.eyJl.c2ln', b: 1}", "a: {token: '', b: 1}"),
            (r#"{"a":{"token":"00aa.eyJh.eyJl.c2ln"}}"#, r#"{"a":{"token":""}}"#),
        ] {
            assert_eq!(without(text, TOKEN).as_deref(), Some(wanted));
        }
        let twice = "token: 00aa.eyJh.eyJl.c2ln\nold: 00aa.eyJh.eyJl.c2ln\n";
        let in_a_comment = "# 00aa.eyJh.eyJl.c2ln\ntoken: 00aa.eyJh.eyJl.c2ln\n";
        let part = "token: x00aa.eyJh.eyJl.c2ln\n";
        for text in [twice, in_a_comment, part, "token: \"\"\n", "token: [\n"] {
            assert_eq!(without(text, TOKEN), None, "{text}");
        }
    }

    #[test]
    fn the_file_changes_when_the_certificate_is_newer_and_keeps_its_rights() {
        let folder = tempfile::tempdir().unwrap();
        let [file, certificate] = ["edgecore.yaml", "server.crt"].map(|f| folder.path().join(f));
        let text = format!("# mine\ntoken: {TOKEN}\n");
        fs::write(&file, &text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        assert!(!forget(&file, &certificate, TOKEN).unwrap(), "there is no certificate");
        fs::write(&certificate, "").unwrap();
        let make_older = |file: &Path, hours: u64| {
            let date = SystemTime::now() - Duration::from_secs(hours * 3600);
            File::options().write(true).open(file).unwrap().set_modified(date).unwrap();
        };
        make_older(&certificate, 2);
        assert!(!forget(&file, &certificate, TOKEN).unwrap(), "the token is newer");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        make_older(&file, 3);
        assert!(forget(&file, &certificate, TOKEN).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\ntoken: \"\"\n");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");
    }
}
