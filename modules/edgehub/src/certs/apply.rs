//! Asking the cloud for certificates (WIRE.md §§3.1, 3.3, 3.5).

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::token::Token;
use super::{Facts, Identity, files, inspect};
use crate::config::Config;
use crate::http::{self, Get};
use crate::tls::{self, Remember};
use crate::trouble::Trouble;

/// Fetches the CA that the token pins and a first certificate, and writes them to the files.
pub(crate) async fn first(config: &Config, token: &Token) -> Result<Identity, Trouble> {
    let ca = fetch_ca(config, token).await?;
    let unusable = |error: tokio_rustls::rustls::Error| {
        Trouble::BadAnswer(config.service.clone(), "CA", error.to_string())
    };
    let not_before = Facts::read(&ca).map_or(0, |facts| facts.not_before_unsigned());
    let tls = tls::client(&ca, None, not_before).map_err(unusable)?;
    let bearer = format!("Bearer {}", token.bearer());
    let identity = certificate(config, ca, tls, Some(&bearer)).await?;
    Ok(identity)
}

/// Fetches a certificate by the one that still holds, and writes it to the files.
pub(crate) async fn renewal(config: &Config, old: &Identity) -> Result<Identity, Trouble> {
    certificate(config, old.ca.clone(), old.tls()?, None).await
}

/// Fetches the CA, and checks that the token pins it and that the service has its certificate of it.
pub(crate) async fn fetch_ca(
    config: &Config,
    token: &Token,
) -> Result<CertificateDer<'static>, Trouble> {
    let endpoint = &config.service;
    let remember = Remember::new();
    let tls = remember
        .client()
        .map_err(|error| Trouble::Tls(endpoint.clone(), std::io::Error::other(error)))?;
    let get = Get { endpoint, tls, path: "/ca.crt", headers: &[], body: Bytes::new() };
    let reply = get.send().await?;
    if reply.status != StatusCode::OK {
        return Err(Trouble::Status(endpoint.clone(), reply.status.as_u16(), "its CA"));
    }
    if !token.pins(&reply.body) {
        return Err(Trouble::CaHash(endpoint.clone()));
    }
    let ca = CertificateDer::from(reply.body.to_vec());
    let not_before = Facts::read(&ca).map_or(0, |facts| facts.not_before_unsigned());
    remember
        .verify(&ca, &http::server_name(endpoint)?, not_before)
        .map_err(|error| Trouble::of_tls(endpoint, std::io::Error::other(error)))?;
    Ok(ca)
}

/// Makes a key, has it certified, and writes the three files.
async fn certificate(
    config: &Config,
    ca: CertificateDer<'static>,
    tls: Arc<ClientConfig>,
    bearer: Option<&str>,
) -> Result<Identity, Trouble> {
    let endpoint = &config.service;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|error| Trouble::Key(error.to_string()))?;
    let body = request(&config.node, &key)?;
    let mut headers = vec![("NodeName", config.node.as_str())];
    headers.extend(bearer.map(|bearer| ("Authorization", bearer)));
    let reply = Get { endpoint, tls, path: "/edge.crt", headers: &headers, body }.send().await?;
    match reply.status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED if bearer.is_some() => {
            return Err(Trouble::TokenRefused(endpoint.clone(), reply.text()));
        }
        StatusCode::UNAUTHORIZED => {
            return Err(Trouble::RenewalRefused(endpoint.clone(), reply.text()));
        }
        status => {
            return Err(Trouble::Status(endpoint.clone(), status.as_u16(), "a certificate"));
        }
    }
    let pkcs8 = key.serialize_der();
    let certificate = CertificateDer::from(reply.body.to_vec());
    let identity = checked(config, ca, certificate, &pkcs8)?;
    files::save_ca(&config.files, &identity.ca)?;
    files::save_pair(&config.files, &identity.certificate, &pkcs8)?;
    Ok(identity)
}

/// Looks whether the cloud sent what was asked for, before anything is written.
fn checked(
    config: &Config,
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    pkcs8: &[u8],
) -> Result<Identity, Trouble> {
    let bad = |why: &str| Trouble::BadAnswer(config.service.clone(), "certificate", why.to_owned());
    let facts = Facts::read(&certificate).ok_or_else(|| bad("it is no certificate"))?;
    if facts.common_name != inspect::common_name(&config.node) {
        return Err(bad("it is of another node"));
    }
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
    let identity = Identity { ca, certificate, key, facts };
    identity.tls().map_err(|_| bad("it is of another key"))?;
    Ok(identity)
}

/// Makes the signing request with the subject that KubeEdge's has.
fn request(node: &str, key: &KeyPair) -> Result<Bytes, Trouble> {
    let failed = |error: rcgen::Error| Trouble::Key(error.to_string());
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "CN");
    name.push(DnType::StateOrProvinceName, "Zhejiang");
    name.push(DnType::LocalityName, "Hangzhou");
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, inspect::common_name(node));
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    let request = params.serialize_request(key).map_err(failed)?;
    Ok(Bytes::copy_from_slice(request.der()))
}
