//! Tokens of service accounts: JSON web tokens, read and judged. Pure.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::{PublicKey, Settings};

/// How much clocks may differ, in seconds, as Kubernetes allows it.
const LEEWAY: i64 = 60;

/// A token that is well formed; nothing of it is trusted yet.
#[derive(Debug)]
pub(super) struct Token<'a> {
    signed: &'a str,
    algorithm: String,
    claims: Claims,
    signature: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Claims {
    iss: String,
    aud: Audiences,
    /// Unix seconds.
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bound {
    namespace: String,
    serviceaccount: Reference,
    pod: Option<Reference>,
    secret: Option<Reference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reference {
    name: String,
    uid: String,
}

/// Whose token it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Name and uid of the pod without which the token does not count.
    pub(super) pod: Option<(String, String)>,
    pub(super) secret: Option<(String, String)>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, &'static str> {
        const AMISS: &str = "the token is none of a service account";
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| AMISS);
        let (signed, signature) = text.rsplit_once('.').ok_or(AMISS)?;
        let (header, claims) = signed.split_once('.').ok_or(AMISS)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| AMISS)?;
        let claims = serde_json::from_slice(&decode(claims)?).map_err(|_| AMISS)?;
        Ok(Self { signed, algorithm: header.alg, claims, signature: decode(signature)? })
    }

    /// Looks at who issued it, for whom, and for how long.
    pub(super) fn check(&self, settings: &Settings, now: i64) -> Result<(), &'static str> {
        let Claims { iss, aud, exp, nbf, .. } = &self.claims;
        if !settings.issuers.contains(iss) {
            return Err("the token is of another issuer");
        }
        let mut audiences = match aud {
            Audiences::One(one) => std::slice::from_ref(one),
            Audiences::Many(many) => many,
        }
        .iter();
        // Without an audience it is for the API server.
        let any = audiences.len() == 0 || settings.audiences.is_empty();
        if !any && !audiences.any(|audience| settings.audiences.contains(audience)) {
            return Err("the token is for another audience");
        }
        let (from, to) = ((now - LEEWAY) as f64, (now + LEEWAY) as f64);
        if exp.is_none_or(|exp| exp < from) {
            return Err("the token has expired");
        }
        if nbf.is_some_and(|nbf| nbf > to) {
            return Err("the token is not valid yet");
        }
        Ok(())
    }

    /// Checks the signature.
    pub(super) fn verify(&self, keys: &[PublicKey]) -> Result<(), &'static str> {
        let verified = |key: &PublicKey| {
            key.verifies(&self.algorithm, self.signed.as_bytes(), &self.signature)
        };
        if keys.iter().any(verified) { Ok(()) } else { Err("the token's signature is of no key") }
    }

    /// Returns whose it is.
    pub(super) fn account(self) -> Result<Account, &'static str> {
        let Bound { namespace, serviceaccount, pod, secret } = self.claims.kubernetes;
        let Reference { name, uid } = serviceaccount;
        if [&namespace, &name, &uid].iter().any(|text| text.is_empty()) {
            return Err("the token names no service account");
        }
        let pair = |it: Option<Reference>| it.map(|Reference { name, uid }| (name, uid));
        Ok(Account { namespace, name, uid, pod: pair(pod), secret: pair(secret) })
    }
}

#[cfg(test)]
mod tests;
