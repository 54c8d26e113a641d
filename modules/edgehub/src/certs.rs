//! This node's certificate: where it comes from, what is wrong with it, when it is renewed.
//!
//! The files are those of the Go edgecore (WIRE.md §3.4). An existing pair is taken as it is; a new
//! one is asked for with a token, whose hash pins the cloud's CA; a living one renews itself
//! before it expires.

mod apply;
mod files;
mod inspect;
mod key;
#[cfg(test)]
mod tests;
mod token;

use std::fs;

use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{debug, info};

use crate::config::Config;
use crate::tls;
use crate::trouble::Trouble;

pub(crate) use inspect::{Facts, rfc3339};
pub(crate) use token::Token;

/// The greatest token file that is read.
const MAX_TOKEN: u64 = 16 * 1024;

/// The CA, the certificate and its key.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) facts: Facts,
}

impl Identity {
    /// Makes the TLS configuration of a connection as this node.
    ///
    /// # Errors
    /// [`Trouble::Mismatch`] when the parts do not belong together.
    pub(crate) fn tls(
        &self,
    ) -> Result<std::sync::Arc<tokio_rustls::rustls::ClientConfig>, Trouble> {
        let own = Some((&self.certificate, &self.key));
        tls::client(&self.ca, own, self.facts.not_before_unsigned()).map_err(|_| Trouble::Mismatch)
    }
}

/// Returns the certificate to go on with: the one of the files where it is good, else a new one by
/// the token. `now` is the Unix time in seconds.
pub(crate) async fn ensure(config: &Config, now: i64) -> Result<Identity, Trouble> {
    let (trouble, expired) = match load(config) {
        Ok(identity) if identity.facts.is_expired(now) => {
            (Trouble::Expired(identity.facts.expires()), Some(identity))
        }
        Ok(identity) => return Ok(identity),
        Err(trouble) => (trouble, None),
    };
    match token(config)? {
        Some(token) => {
            let reason = trouble.sentence();
            debug!(%reason, "asking the cloud for a certificate");
            let identity = apply::first(config, &token).await?;
            info!(expires = %identity.facts.expires(), "the cloud issued a certificate");
            Ok(identity)
        }
        None if matches!(&trouble, Trouble::Read(_, error) if is_absent(error)) => {
            Err(no_token(config))
        }
        // It may be this host's clock that is wrong; the cloud's decides.
        None => expired.ok_or(trouble),
    }
}

/// Returns from when until when the certificate of the files holds, in Unix seconds; nothing where the
/// node has none yet.
pub(crate) fn lifetime(config: &Config) -> Result<Option<(i64, i64)>, Trouble> {
    match load(config) {
        Ok(Identity { facts, .. }) => Ok(Some((facts.not_before, facts.not_after))),
        Err(Trouble::Read(_, error)) if is_absent(&error) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// Looks whether the token pins the CA of the cloud, which has to answer for that.
pub(crate) async fn check(config: &Config) -> Result<(), Trouble> {
    let token = token(config)?.ok_or_else(|| no_token(config))?;
    apply::fetch_ca(config, &token).await.map(drop)
}

fn no_token(config: &Config) -> Trouble {
    Trouble::NoToken(config.token_file.as_ref().map_or_else(
        || "edgeHub.token of edgecore.yaml".to_owned(),
        |file| file.display().to_string(),
    ))
}

/// Asks for a new certificate and a new CA by the token, because the cloud and the files do not
/// agree. Nothing is done where there is no token.
pub(crate) async fn start_over(config: &Config) -> Result<Option<Identity>, Trouble> {
    match token(config)? {
        Some(token) => apply::first(config, &token).await.map(Some),
        None => Ok(None),
    }
}

/// Renews the certificate by the one that still holds.
pub(crate) async fn renew(config: &Config, old: &Identity) -> Result<Identity, Trouble> {
    let identity = apply::renewal(config, old).await?;
    info!(expires = %identity.facts.expires(), "the certificate was renewed");
    Ok(identity)
}

fn is_absent(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// Reads the files and looks whether they can be used.
fn load(config: &Config) -> Result<Identity, Trouble> {
    let identity = files::load(&config.files)?;
    let wanted = inspect::common_name(&config.node);
    let found = &identity.facts.common_name;
    if *found != wanted {
        return Err(Trouble::OtherNode { found: found.clone(), wanted });
    }
    identity.tls()?;
    Ok(identity)
}

/// Returns the token: keadm's file before edgecore.yaml (WIRE.md §3.4).
fn token(config: &Config) -> Result<Option<Token>, Trouble> {
    let from_file = match &config.token_file {
        None => None,
        Some(file) => match fs::metadata(file) {
            Err(error) if is_absent(&error) => None,
            Ok(facts) if facts.len() > MAX_TOKEN => {
                return Err(Trouble::BadToken("its file is over 16 KiB"));
            }
            Ok(_) | Err(_) => match fs::read_to_string(file) {
                Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
                Err(error) => return Err(Trouble::Read(file.clone(), error)),
            },
        },
    };
    let text = from_file.as_ref().or(config.token.as_ref());
    text.map(|text| Token::parse(text).map_err(Trouble::BadToken)).transpose()
}
