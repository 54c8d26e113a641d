//! The files: read whole, written so that a reader sees the old ones or the new ones.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Facts, Identity, key};
use crate::config::Files;
use crate::tls;
use crate::trouble::Trouble;

/// The greatest file that is read: KubeEdge's own bound on certificates.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads CA, certificate and key.
pub(crate) fn load(files: &Files) -> Result<Identity, Trouble> {
    let ca = certificate(&files.ca)?;
    if !tls::is_ca(&ca) {
        return Err(Trouble::BadFile(files.ca.clone(), "certificate of a CA"));
    }
    let certificate = certificate(&files.certificate)?;
    let facts = Facts::read(&certificate)
        .ok_or_else(|| Trouble::BadFile(files.certificate.clone(), "certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|_| Trouble::BadFile(files.key.clone(), "private key"))?;
    Ok(Identity { ca, certificate, key, facts })
}

fn certificate(file: &Path) -> Result<CertificateDer<'static>, Trouble> {
    CertificateDer::from_pem_slice(&read(file)?)
        .map_err(|_| Trouble::BadFile(file.to_owned(), "certificate"))
}

fn read(file: &Path) -> Result<Vec<u8>, Trouble> {
    let failed = |error| Trouble::Read(file.to_owned(), error);
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(failed)?;
    opened.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Trouble::BadFile(file.to_owned(), "content: it is over 1 MiB"));
    }
    Ok(bytes)
}

/// Writes the CA.
pub(crate) fn save_ca(files: &Files, ca: &[u8]) -> Result<(), Trouble> {
    write(&files.ca, &pem("CERTIFICATE", ca))
}

/// Writes certificate and key. A crash between the two leaves a pair that does not match, which is
/// noticed at the next start and, like a missing one, cured by the token.
pub(crate) fn save_pair(files: &Files, certificate: &[u8], pkcs8: &[u8]) -> Result<(), Trouble> {
    let sec1 = key::sec1(pkcs8).ok_or_else(|| Trouble::Key("it is not a P-256 key".to_owned()))?;
    let staged_key = stage(&files.key, &pem("EC PRIVATE KEY", &sec1))?;
    let staged_certificate = stage(&files.certificate, &pem("CERTIFICATE", certificate))?;
    publish(&staged_key, &files.key)?;
    publish(&staged_certificate, &files.certificate)
}

fn write(file: &Path, text: &str) -> Result<(), Trouble> {
    let staged = stage(file, text)?;
    publish(&staged, file)
}

/// Writes a file beside its place, for its owner alone, down to the disk.
fn stage(file: &Path, text: &str) -> Result<PathBuf, Trouble> {
    let failed = |error| Trouble::Write(file.to_owned(), error);
    if let Some(folder) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let staged = file.with_file_name(name);
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let mut open = OpenOptions::new();
    let mut new = open.write(true).create_new(true).mode(0o600).open(&staged).map_err(failed)?;
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all()).map_err(failed)?;
    Ok(staged)
}

/// Puts a file that was staged into its place.
fn publish(staged: &Path, file: &Path) -> Result<(), Trouble> {
    let failed = |error| Trouble::Write(file.to_owned(), error);
    fs::rename(staged, file).map_err(failed)?;
    match file.parent() {
        Some(folder) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed),
        None => Ok(()),
    }
}

/// Writes PEM text, with lines of 64 letters.
fn pem(label: &str, der: &[u8]) -> String {
    let encoded = data_encoding::BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
