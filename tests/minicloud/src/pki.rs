//! The certificate authority: its own certificate, those of the servers, those that nodes ask for,
//! and the TLS settings made of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::any_client::AnyClient;

/// Roughly how long the authority itself is valid: as KubeEdge's, 100 × 364 days.
const AUTHORITY_LIFE: Duration = Duration::from_secs(100 * 364 * 86_400);
/// How long certificates of servers are valid.
const SERVER_LIFE: Duration = Duration::from_secs(365 * 86_400);

/// The certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Validity {
    /// From now on, for `span`.
    #[must_use]
    pub fn from_now(span: Duration) -> Self {
        let not_before = OffsetDateTime::now_utc();
        Self { not_before, not_after: not_before + span }
    }

    /// A day, which ended an hour ago.
    #[must_use]
    pub fn over() -> Self {
        let not_after = OffsetDateTime::now_utc() - Duration::from_secs(3600);
        Self { not_before: not_after - Duration::from_secs(86_400), not_after }
    }
}

impl Authority {
    /// Makes a new authority: ECDSA P-256, CN `KubeEdge`, as CloudCore makes it.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn create() -> Result<Self> {
        let key = KeyPair::generate().context("cannot make the key of the authority")?;
        let mut params = params(Validity::from_now(AUTHORITY_LIFE));
        params.distinguished_name.push(DnType::CommonName, "KubeEdge");
        params.serial_number = Some(SerialNumber::from(1024_u64));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let der = params.self_signed(&key).context("cannot sign the authority")?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), der })
    }

    /// Takes up an authority that was stored.
    ///
    /// # Errors
    /// When certificate or key cannot be read.
    pub fn load(der: Vec<u8>, key_pem: &str) -> Result<Self> {
        let key = KeyPair::from_pem(key_pem).context("cannot read the key of the authority")?;
        let der = CertificateDer::from(der);
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .context("cannot read the certificate of the authority")?;
        Ok(Self { issuer, der })
    }

    /// Returns the certificate.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    /// Returns the key in PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Returns the key's bytes, with which tokens are signed.
    #[must_use]
    pub fn key_der(&self) -> &[u8] {
        self.issuer.key().serialized_der()
    }

    /// Signs a certificate request (DER) as CloudCore does: CN, O and SANs are the request's.
    ///
    /// # Errors
    /// When the request is none, or its signature is not by its key.
    pub fn sign(
        &self,
        request: &[u8],
        usages: Vec<ExtendedKeyUsagePurpose>,
        validity: Validity,
    ) -> Result<Vec<u8>> {
        let request = request.to_vec().into();
        let mut request = CertificateSigningRequestParams::from_der(&request)
            .context("cannot read the certificate request")?;
        let asked = std::mem::replace(&mut request.params, params(validity));
        for part in [DnType::OrganizationName, DnType::CommonName] {
            if let Some(value) = asked.distinguished_name.get(&part) {
                request.params.distinguished_name.push(part, value.clone());
            }
        }
        request.params.subject_alt_names = asked.subject_alt_names;
        request.params.key_usages =
            vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature];
        request.params.extended_key_usages = usages;
        let signed = request.signed_by(&self.issuer).context("cannot sign the certificate")?;
        Ok(signed.der().to_vec())
    }

    /// Makes a certificate and its key, both in PEM, for a server or a client that goes by `names`.
    ///
    /// # Errors
    /// When a name is no host name.
    pub fn issue(
        &self,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Result<(String, String)> {
        let (leaf, key) = self.leaf(names, usage, validity)?;
        Ok((pem(leaf.der()), key.serialize_pem()))
    }

    fn leaf(
        &self,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Result<(Certificate, KeyPair)> {
        let key = KeyPair::generate().context("cannot make the key of a certificate")?;
        let mut params = params(validity);
        for part in [DnType::OrganizationName, DnType::CommonName] {
            params.distinguished_name.push(part, "KubeEdge");
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.subject_alt_names = names.iter().map(|name| san(name)).collect::<Result<_>>()?;
        let leaf = params.signed_by(&key, &self.issuer).context("cannot sign a certificate")?;
        Ok((leaf, key))
    }

    /// Makes the TLS settings of both servers, with certificates that are valid or `expired`.
    ///
    /// # Errors
    /// When a name is no host name.
    pub fn tls(&self, names: &[String], expired: bool) -> Result<Tls> {
        let validity = if expired { Validity::over() } else { Validity::from_now(SERVER_LIFE) };
        let (leaf, key) = self.leaf(names, ExtendedKeyUsagePurpose::ServerAuth, validity)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let verifier = self.verifier()?;
        let any = Arc::new(AnyClient::new(Arc::clone(&verifier)));
        let make = |clients: Arc<dyn ClientCertVerifier>| -> Result<Arc<ServerConfig>> {
            let builder = ServerConfig::builder_with_provider(provider());
            let builder = builder.with_safe_default_protocol_versions()?;
            let key = PrivateKeyDer::from(key.clone_key());
            let chain = vec![leaf.der().clone()];
            Ok(Arc::new(builder.with_client_cert_verifier(clients).with_single_cert(chain, key)?))
        };
        Ok(Tls { hub: make(verifier)?, https: make(any)? })
    }

    /// Makes the TLS settings of a client that trusts this authority alone.
    ///
    /// # Errors
    /// When the authority's own certificate is none.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(Arc::new(builder.with_root_certificates(self.roots()?).with_no_client_auth()))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        Ok(roots)
    }

    /// Makes the check that a client's certificate is of this authority.
    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>> {
        let roots = Arc::new(self.roots()?);
        Ok(WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?)
    }

    /// Checks a client's certificate and that it is `node`'s.
    ///
    /// # Errors
    /// When it is not of this authority, not valid now, or another node's.
    pub fn check_node(&self, certificate: &CertificateDer<'_>, node: &str) -> Result<()> {
        self.verifier()?.verify_client_cert(certificate, &[], UnixTime::now())?;
        let (organization, name) = subject(certificate)?;
        let wanted = format!("system:node:{node}");
        anyhow::ensure!(
            organization == "system:nodes" && name == wanted,
            "certificate is of {name:?} in {organization:?}: expected {wanted:?} in \"system:nodes\""
        );
        Ok(())
    }
}

/// TLS settings: of the hub, which asks for a certificate of the authority, and of the HTTPS
/// server, which takes any certificate or none.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The hub's.
    pub hub: Arc<ServerConfig>,
    /// The HTTPS server's.
    pub https: Arc<ServerConfig>,
}

/// Returns a certificate in PEM.
#[must_use]
pub fn pem(der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Returns the hash of an authority's certificate, by which tokens pin it.
#[must_use]
pub fn pin(der: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, der).as_ref())
}

/// Returns the first organization and the common name of a certificate's subject.
///
/// # Errors
/// When it is no certificate.
pub fn subject(certificate: &CertificateDer<'_>) -> Result<(String, String)> {
    let (_, parsed) = X509Certificate::from_der(certificate).context("not a certificate")?;
    let subject = parsed.subject();
    let organization = subject.iter_organization().next().and_then(|it| it.as_str().ok());
    let name = subject.iter_common_name().next().and_then(|it| it.as_str().ok());
    let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Ok((owned(organization), owned(name)))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn params(validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params.use_authority_key_identifier_extension = true;
    params
}

fn san(name: &str) -> Result<SanType> {
    Ok(match name.parse() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) => SanType::DnsName(name.try_into().context("not a host name")?),
    })
}
