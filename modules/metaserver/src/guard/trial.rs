//! A trial of what clients say of who they are, and of what roles say they may.

use super::rules::Access;
use super::token::Token;
use super::{PublicKey, Settings, User};
use crate::path::{Target, Verb};

/// A token, which nobody has signed.
///
/// # Panics
/// When it passes.
pub(crate) fn authorization(text: &str) {
    let Ok(token) = Token::parse(text.strip_prefix("Bearer ").unwrap_or(text)) else { return };
    let settings = Settings { issuers: vec!["https://cluster".to_owned()], ..Settings::default() };
    let _told = token.check(&settings, 1_795_408_033);
    let keys = [PublicKey::Rsa(vec![0x30, 0x00]), PublicKey::Ec(vec![4; 65])];
    assert!(token.verify(&keys).is_err(), "{text}");
    let _account = token.account();
}

/// The roles of an account.
pub(crate) fn roles(json: &[u8], verb: Verb, target: &Target) {
    let Ok(access) = serde_json::from_slice::<Access>(json) else { return };
    let user = User { name: "system:serviceaccount:n:a".to_owned(), groups: Vec::new() };
    let (_of, _may) = (access.is_of("n", "a", "u"), access.allows(&user, verb, target));
}
