//! The certificates that edgehub keeps, read anew at each dial, so that a renewed one is used at
//! the next.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::Files;
use crate::trouble::Trouble;

/// The greatest file that is read: KubeEdge's own bound on certificates.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads the files and makes the configuration of a connection of them: the cloud is verified
/// against the CA, this node shows its certificate.
pub(crate) fn load(files: &Files) -> Result<Arc<ClientConfig>, Trouble> {
    let certificate = certificate(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|_| Trouble::BadFile(files.key.clone(), "private key"))?;
    let wrong = |error: &dyn std::fmt::Display| Trouble::Identity(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(self::certificate(&files.ca)?).map_err(|error| wrong(&error))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(|error| wrong(&error))?;
    Ok(Arc::new(config))
}

fn certificate(file: &Path) -> Result<CertificateDer<'static>, Trouble> {
    CertificateDer::from_pem_slice(&read(file)?)
        .map_err(|_| Trouble::BadFile(file.to_owned(), "certificate"))
}

fn read(file: &Path) -> Result<Vec<u8>, Trouble> {
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            Trouble::NoCertificate(file.to_owned())
        } else {
            Trouble::Read(file.to_owned(), error)
        }
    };
    let mut bytes = Vec::new();
    File::open(file).map_err(failed)?.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
