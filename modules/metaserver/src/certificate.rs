//! The server's certificate: the cluster signs it for this node (WIRE.md §5.7). It is kept in a file,
//! so that the API is served without the cloud too, and renewed in time.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use data_encoding::{BASE64, HEXLOWER};
use ipc_proto::answer::Answer;
use ipc_proto::{Content, Group, Kind, Message, Module, Operation, Resource, Scope, Source};
use module_runtime::Peers;
use module_runtime::tls::Identity;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _, SanType};
use ring::digest;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch as state;
use tokio::time::{Instant, sleep};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::{Config, Secure};
use crate::guard::PublicKey;

/// How long the cloud may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the cluster may take to sign.
const SIGNED: Duration = Duration::from_secs(300);

/// How often the cluster is asked whether it has signed: at first, and at last.
const ASK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// How long to wait after a failure, and until the authority and the files are looked at again.
const PAUSE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(3600);

/// The part of its life after which a certificate is renewed, in percent.
const RENEWED: i64 = 80;

/// What connections are secured with, or why they cannot be.
pub(crate) type Secured = Result<Arc<ServerConfig>, String>;

/// Who sees to the certificate.
#[derive(Debug)]
pub(crate) struct Keeper {
    node: String,
    addresses: Vec<IpAddr>,
    file: PathBuf,
    key_files: Vec<PathBuf>,
    peers: Peers,
    linked: state::Receiver<bool>,
}

impl Keeper {
    pub(crate) fn new(
        config: &Config,
        secure: &Secure,
        peers: Peers,
        linked: state::Receiver<bool>,
    ) -> Self {
        Self {
            node: config.node.clone(),
            addresses: config.addresses(),
            file: secure.folder.join("serving.pem"),
            key_files: secure.tokens.key_files.clone(),
            peers,
            linked,
        }
    }

    /// Keeps the certificate and the keys for tokens as they have to be, for ever.
    pub(crate) async fn keep(
        mut self,
        shown: state::Sender<Secured>,
        keys: state::Sender<Arc<[PublicKey]>>,
    ) {
        loop {
            let pause = match self.look(&shown, &keys).await {
                Ok(pause) => pause,
                Err(error) => {
                    let reason = format!("{error:#}");
                    tracing::warn!("the certificate of the local API: {reason}");
                    // One that there is stays in use.
                    shown.send_if_modified(|shown| {
                        let none = shown.is_err();
                        if none {
                            *shown = Err(reason);
                        }
                        none
                    });
                    PAUSE
                }
            };
            sleep(pause).await;
        }
    }

    /// Sees to it once; returns when to do so again.
    async fn look(
        &mut self,
        shown: &state::Sender<Secured>,
        keys: &state::Sender<Arc<[PublicKey]>>,
    ) -> Result<Duration> {
        let read = self.key_files.iter().map(|file| PublicKey::read(file));
        let read: Vec<_> = read.collect::<Result<_>>()?;
        keys.send_replace(read.concat().into());
        let authority = self.authority().await?;
        let now = module_runtime::unix_millis() / 1000;
        let stored = Certificate::read(&self.file)?;
        let stored = stored.filter(|it| it.not_after > now && it.is_for(&self.addresses));
        if let Some(certificate) = &stored {
            let config = secured(&authority, &self.file)?;
            drop(shown.send_replace(Ok(config)));
            let left = certificate.renew_at() - now;
            if left > 0 {
                let left = Duration::from_secs(left.unsigned_abs());
                return Ok(left.min(AGAIN));
            }
        } else if !*self.linked.borrow() {
            let why = "this node has no certificate for it yet, and gets one when it is connected \
                       to the cloud";
            drop(shown.send_replace(Err(why.to_owned())));
        }
        self.linked.wait_for(|linked| *linked).await?;
        self.renew(&authority).await?;
        drop(shown.send_replace(Ok(secured(&authority, &self.file)?)));
        Ok(AGAIN)
    }

    /// Fetches the cluster's authority: the store has it where the cloud is away.
    async fn authority(&self) -> Result<Vec<CertificateDer<'static>>> {
        let (group, operation) = (Group::Meta, Operation::Query);
        let query = self.peers.message(group, operation, Resource::KubernetesCa, Content::NULL);
        let answer = self.peers.request(Module::Metamanager, query, PATIENCE).await;
        let answer = answer.map_err(|error| anyhow!("the cluster's authority: {error}"))?.take();
        let text: String = answer.content.decode().context("the cluster's authority is no text")?;
        let found: Vec<_> =
            CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok).collect();
        ensure!(!found.is_empty(), "the cloud sent no certificate of the cluster's authority");
        Ok(found)
    }

    /// Has the cluster sign a new certificate, and puts it into the file.
    async fn renew(&self, authority: &[CertificateDer<'_>]) -> Result<()> {
        let key = KeyPair::generate().context("cannot make a key")?;
        let hash = digest::digest(&digest::SHA256, key.der_bytes());
        let hash = HEXLOWER.encode(hash.as_ref().get(..4).unwrap_or_default());
        // A name of this key's own: a request cannot be taken back.
        let name = format!("metaserver-csr-{}-{hash}", self.node);
        self.submit(&name, &key).await?;
        let signed = self.collect(&name).await?;
        let text = format!("{}\n{}", signed.trim_end(), key.serialize_pem());
        let new = self.file.with_extension("new");
        write(&new, &text).with_context(|| format!("cannot write {}", new.display()))?;
        // Nothing takes the place of a certificate that works but one that does.
        secured(authority, &new).context("the cloud sent a certificate that cannot be used")?;
        fs::rename(&new, &self.file)
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        tracing::info!(name, "the cluster signed a certificate for the local API");
        Ok(())
    }

    async fn submit(&self, name: &str, key: &KeyPair) -> Result<()> {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "system:nodes");
        subject.push(DnType::CommonName, format!("system:node:{}", self.node));
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.subject_alt_names = self.addresses.iter().copied().map(SanType::IpAddress).collect();
        let request = params.serialize_request(key)?.pem()?;
        let content = Content::encode(&json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": BASE64.encode(request.as_bytes()),
                "signerName": "kubernetes.io/kubelet-serving",
                "usages": ["digital signature", "key encipherment", "server auth"],
            },
        }))?;
        self.ask(Operation::Insert, name, content).await?;
        Ok(())
    }

    /// Waits until the cluster has signed; returns the certificate, PEM.
    async fn collect(&self, name: &str) -> Result<String> {
        let until = Instant::now() + SIGNED;
        let (mut pause, most) = ASK;
        loop {
            let answer = self.ask(Operation::Query, name, Content::NULL).await?;
            let object = Answer::read(answer.content.raw())?.object.context("an empty answer")?;
            let Request { status } = serde_json::from_str(object.get())?;
            if let Some(refusal) = status.refusal() {
                bail!("the cluster refuses {name}: {refusal}");
            }
            if let Some(certificate) = status.certificate.filter(|text| !text.is_empty()) {
                let decoded = BASE64.decode(certificate.as_bytes()).context("no base64")?;
                return String::from_utf8(decoded).context("no PEM");
            }
            ensure!(Instant::now() < until, "{name} waits for somebody who approves it");
            sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    /// Asks the cloud about a request, as edged: who asks as metaserver is taken to mean
    /// applications.
    async fn ask(&self, operation: Operation, name: &str, content: Content) -> Result<Message> {
        let scope = Scope::Namespace("default".into());
        let resource = Resource::object(scope, Kind::CertificateSigningRequest, name);
        let mut message = self.peers.message(Group::Meta, operation, resource, content);
        message.route.source = Source::Edged;
        let answer = self.peers.request(Module::Edgehub, message, PATIENCE).await;
        let answer = answer.map_err(|error| anyhow!("{name}: {error}"))?.take();
        if let Some(failure) = Answer::read(answer.content.raw())?.failure() {
            bail!("{name}: {}", failure.message.unwrap_or_else(|| "the cloud refuses it".into()));
        }
        Ok(answer)
    }
}

/// A CertificateSigningRequest, as far as it is read.
#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    certificate: Option<String>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    message: String,
}

impl Status {
    fn refusal(&self) -> Option<String> {
        let mut conditions = self.conditions.iter().flatten();
        let refused = conditions.find(|it| matches!(&*it.kind, "Denied" | "Failed"))?;
        Some(format!("{} {}", refused.kind, refused.message))
    }
}

/// What matters of a certificate.
#[derive(Debug, PartialEq, Eq)]
struct Certificate {
    /// Unix seconds.
    not_before: i64,
    not_after: i64,
    addresses: Vec<IpAddr>,
}

impl Certificate {
    /// Reads the file; nothing where there is none.
    fn read(file: &Path) -> Result<Option<Self>> {
        if !file.try_exists().with_context(|| format!("cannot read {}", file.display()))? {
            return Ok(None);
        }
        let certificates = module_runtime::tls::certificates(file)?;
        Ok(certificates.first().and_then(|it| Self::parse(it)))
    }

    fn parse(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let address = |name: &GeneralName<'_>| {
            let GeneralName::IPAddress(bytes) = name else { return None };
            match <[u8; 4]>::try_from(*bytes) {
                Ok(four) => Some(IpAddr::from(four)),
                Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
            }
        };
        let validity = parsed.validity();
        Some(Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            addresses: names.filter_map(address).collect(),
        })
    }

    fn is_for(&self, addresses: &[IpAddr]) -> bool {
        addresses.iter().all(|address| self.addresses.contains(address))
    }

    /// Returns when to renew it, in Unix seconds.
    const fn renew_at(&self) -> i64 {
        self.not_before + (self.not_after - self.not_before) / 100 * RENEWED
    }
}

/// Makes the server's side of TLS from a file with certificate and key. Clients may show a
/// certificate of the cluster's.
fn secured(authority: &[CertificateDer<'_>], file: &Path) -> Result<Arc<ServerConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in authority {
        roots.add(certificate.clone().into_owned()).context("the cluster's authority is none")?;
    }
    let provider = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let (certificate, key) = (file.to_owned(), file.to_owned());
    let (certificates, key) = Identity { certificate, key }.load()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates, key)
        .with_context(|| format!("{} cannot be used", file.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Writes a file for its owner alone, down to the disk.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut open = OpenOptions::new();
    let mut new = open.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(addresses: &[IpAddr]) -> (String, KeyPair, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 11);
        params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
        let signed = params.self_signed(&key).unwrap();
        (format!("{}{}", signed.pem(), key.serialize_pem()), key, signed.der().clone())
    }

    #[test]
    fn a_certificate_is_for_its_addresses_and_renewed_after_four_fifths() {
        let (v4, v6) = (IpAddr::from([127, 0, 0, 1]), "fd00::1".parse().unwrap());
        let (_, _, der) = certificate(&[v4, v6]);
        let parsed = Certificate::parse(&der).unwrap();
        assert_eq!(parsed.addresses, [v4, v6]);
        assert!(parsed.is_for(&[v4]) && !parsed.is_for(&[v4, IpAddr::from([10, 0, 0, 1])]));
        assert_eq!(parsed.not_after - parsed.not_before, 100 * 86_400);
        assert_eq!(parsed.renew_at() - parsed.not_before, 80 * 86_400);
        assert_eq!(Certificate::parse(b"rubbish"), None);
    }

    #[test]
    fn a_file_serves_with_certificate_and_key_that_go_together() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("serving.pem");
        assert_eq!(Certificate::read(&file).unwrap(), None);
        let (text, _, der) = certificate(&[]);
        write(&file, &text).unwrap();
        assert!(secured(std::slice::from_ref(&der), &file).is_ok());
        assert!(Certificate::read(&file).unwrap().is_some());
        let other = KeyPair::generate().unwrap();
        let (end, _) = text.split_once("-----BEGIN PRIVATE").unwrap();
        write(&file, &format!("{end}{}", other.serialize_pem())).unwrap();
        let error = format!("{:#}", secured(&[der], &file).unwrap_err());
        assert!(error.contains("cannot be used"), "{error}");
    }

    #[test]
    fn a_refusal_is_told() {
        let status = |text: &str| serde_json::from_str::<Status>(text).unwrap().refusal();
        let denied = r#"{"conditions":[{"type":"Approved"},{"type":"Denied","message":"no"}]}"#;
        assert_eq!(status(denied), Some("Denied no".to_owned()));
        assert_eq!(status(r#"{"conditions":[{"type":"Approved"}]}"#), None);
        assert_eq!(status("{}"), None);
    }
}
