//! Certificates in files, as an operator puts them on a node: an authority's, and those that it signs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use minicloud::pki::{Authority, Validity, pem};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use tempfile::TempDir;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server on the loopback.
    Server,
    /// A server that goes by another name.
    Elsewhere,
    /// A client.
    Client,
    /// A client that goes by a server's name.
    Impostor,
}

/// A folder of certificates that every user can read, outside of all that modules may read anyway.
#[derive(Debug)]
pub struct Certs {
    folder: TempDir,
    /// The authority, whose certificate is `ca.crt`.
    pub authority: Authority,
}

impl Certs {
    /// Makes the folder and the authority.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("certs").tempdir()?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let authority = Authority::create()?;
        fs::write(folder.path().join("ca.crt"), authority.pem())?;
        Ok(Self { folder, authority })
    }

    /// Returns the path of a file.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<name>.crt` and `<name>.key`, valid for an hour.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn issue(&self, name: &str, purpose: Purpose) -> Result<()> {
        self.issue_by(&self.authority, name, purpose, Validity::from_now(Duration::from_secs(3600)))
    }

    /// As [`Self::issue`], but no longer valid.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn issue_expired(&self, name: &str, purpose: Purpose) -> Result<()> {
        self.issue_by(&self.authority, name, purpose, Validity::over())
    }

    /// As [`Self::issue`], but by an authority that nobody knows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn issue_unknown(&self, name: &str, purpose: Purpose) -> Result<()> {
        let stranger = Authority::create()?;
        self.issue_by(&stranger, name, purpose, Validity::from_now(Duration::from_secs(3600)))
    }

    /// Writes `server.crt` and `server.key` of a node, as edgehub does.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn issue_node(&self, node: &str) -> Result<()> {
        identity(self.folder.path(), node, &self.authority)
    }

    fn issue_by(
        &self,
        authority: &Authority,
        name: &str,
        purpose: Purpose,
        validity: Validity,
    ) -> Result<()> {
        let (names, usage) = match purpose {
            Purpose::Server => (vec!["127.0.0.1".into()], ExtendedKeyUsagePurpose::ServerAuth),
            Purpose::Elsewhere => (vec!["elsewhere".into()], ExtendedKeyUsagePurpose::ServerAuth),
            Purpose::Impostor => (vec!["127.0.0.1".into()], ExtendedKeyUsagePurpose::ClientAuth),
            Purpose::Client => (vec!["edge1".into()], ExtendedKeyUsagePurpose::ClientAuth),
        };
        let (certificate, key) = authority.issue(&names, usage, validity)?;
        fs::write(self.path(&format!("{name}.crt")), certificate)?;
        fs::write(self.path(&format!("{name}.key")), key)?;
        Ok(())
    }
}

/// Writes a node's `server.crt` and `server.key`, as edgehub does.
///
/// # Errors
/// When they cannot be written.
pub fn identity(folder: &Path, node: &str, authority: &Authority) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let request = params.serialize_request(&key)?;
    let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let validity = Validity::from_now(Duration::from_secs(3600));
    let certificate = authority.sign(request.der(), usages, validity)?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;
    fs::write(folder.join("server.crt"), pem(&certificate))?;
    Ok(())
}
