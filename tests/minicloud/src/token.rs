//! Tokens: the bootstrap token that `keadm` would print, and tokens of service accounts.

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde_json::{Value, json};

use crate::pki::pin;
use crate::shared::Shared;
use crate::time::Time;

/// Signs claims as a JWT with HS256.
#[must_use]
pub(crate) fn sign(key: &[u8], claims: &Value) -> String {
    let header = BASE64URL_NOPAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
    let signed = format!("{header}.{claims}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// Not three parts, or not of this cloud.
    #[error("Invalid authorization token")]
    Invalid,
    /// Its time is over.
    #[error("Token is expired")]
    Expired,
}

/// Checks a JWT that [`sign`] made.
///
/// # Errors
/// [`TokenError`] when the signature is not by `key`, or `exp` is not after `now`.
pub(crate) fn verify(key: &[u8], now: Time, token: &str) -> Result<(), TokenError> {
    let (signed, tag) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
    let tag = BASE64URL_NOPAD.decode(tag.as_bytes()).map_err(|_| TokenError::Invalid)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::verify(&key, signed.as_bytes(), &tag).map_err(|_| TokenError::Invalid)?;
    let claims = signed.split('.').nth(1).unwrap_or_default();
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).map_err(|_| TokenError::Invalid)?;
    let claims: Value = serde_json::from_slice(&claims).map_err(|_| TokenError::Invalid)?;
    let expires = claims["exp"].as_i64().ok_or(TokenError::Invalid)?;
    if expires <= now.millis() / 1000 { Err(TokenError::Expired) } else { Ok(()) }
}

/// Returns the token that a node is given: the hash of the certificate authority, by which it
/// recognises the cloud, and a JWT signed with the authority's key, by which the cloud recognises
/// it.
#[must_use]
pub(crate) fn bootstrap(ca_der: &[u8], ca_key: &[u8], expires: Time) -> String {
    let hash = pin(ca_der);
    format!("{hash}.{}", sign(ca_key, &json!({"exp": expires.millis() / 1000})))
}

/// Returns a bootstrap token that is valid from now on.
pub(crate) fn fresh(shared: &Shared) -> String {
    let expires = shared.clock.now().after(shared.token_life);
    bootstrap(shared.authority.der(), shared.authority.key_der(), expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_four_parts_and_an_end() {
        let token = bootstrap(b"ca", b"key", Time::from_millis(10_000));
        assert_eq!(token.split('.').count(), 4);
        let (hash, jwt) = token.split_once('.').unwrap();
        assert_eq!(hash.len(), 64);
        assert_eq!(verify(b"key", Time::from_millis(0), jwt), Ok(()));
        assert_eq!(verify(b"key", Time::from_millis(10_000), jwt), Err(TokenError::Expired));
        assert_eq!(verify(b"other", Time::from_millis(0), jwt), Err(TokenError::Invalid));
        assert_eq!(verify(b"key", Time::from_millis(0), "a.b"), Err(TokenError::Invalid));
    }
}
