//! Which tokens count.

use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;

fn settings() -> Settings {
    Settings {
        issuers: vec!["https://issuer".to_owned()],
        audiences: vec!["api".to_owned(), "edge".to_owned()],
        key_files: Vec::new(),
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer", "aud": ["api"], "exp": NOW + 100, "nbf": NOW - 100,
        "sub": "system:serviceaccount:shop:reader",
        "kubernetes.io": {
            "namespace": "shop", "serviceaccount": {"name": "reader", "uid": "u1"},
            "pod": {"name": "p", "uid": "u2"},
        },
    })
}

fn text(claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |value: &[u8]| BASE64URL_NOPAD.encode(value);
    let header = encode(br#"{"alg":"ES256","kid":"k"}"#);
    let signed = format!("{header}.{}", encode(claims.to_string().as_bytes()));
    format!("{signed}.{}", encode(&sign(signed.as_bytes())))
}

fn check(claims: &Value) -> Result<(), &'static str> {
    Token::parse(&text(claims, |_| Vec::new())).unwrap().check(&settings(), NOW)
}

#[test]
fn issuer_audience_and_time_are_looked_at() {
    assert_eq!(check(&claims()), Ok(()));
    for (key, value, expected) in [
        ("iss", json!("https://other"), Err("the token is of another issuer")),
        ("aud", json!("edge"), Ok(())),
        ("aud", json!([]), Ok(())),
        ("aud", json!(["vault"]), Err("the token is for another audience")),
        ("exp", json!(NOW - 30), Ok(())),
        ("exp", json!(NOW - 61), Err("the token has expired")),
        ("exp", json!(null), Err("the token has expired")),
        ("nbf", json!(NOW + 30), Ok(())),
        ("nbf", json!(NOW + 61), Err("the token is not valid yet")),
    ] {
        let mut changed = claims();
        changed[key] = value.clone();
        assert_eq!(check(&changed), expected, "{key} {value}");
    }
}

#[test]
fn a_signature_is_of_its_key_and_of_these_very_claims() {
    let random = SystemRandom::new();
    let method = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = rcgen::KeyPair::generate().unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(method, key.serialized_der(), &random).unwrap();
    let sign = |signed: &[u8]| pair.sign(&random, signed).unwrap().as_ref().to_vec();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sa.pub");
    std::fs::write(&file, key.public_key_pem()).unwrap();
    let keys = PublicKey::read(&file).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&file, other.public_key_pem()).unwrap();
    let others = PublicKey::read(&file).unwrap();
    let good = text(&claims(), sign);
    let token = Token::parse(&good).unwrap();
    assert_eq!(token.verify(&keys), Ok(()));
    assert_eq!(token.verify(&[others.clone(), keys.clone()].concat()), Ok(()));
    assert!(token.verify(&others).is_err());
    let mut more = claims();
    more["kubernetes.io"]["serviceaccount"]["name"] = "admin".into();
    let (forged, _) = good.rsplit_once('.').unwrap();
    let forged = forged.split_once('.').unwrap().1;
    let forged = good.replace(forged, &BASE64URL_NOPAD.encode(more.to_string().as_bytes()));
    assert!(Token::parse(&forged).unwrap().verify(&keys).is_err());
    std::fs::write(&file, "nothing").unwrap();
    let error = PublicKey::read(&file).unwrap_err().to_string();
    assert!(error.contains("has no public key of RSA, P-256 or P-384"), "{error}");
}

#[test]
fn a_token_says_whose_it_is() {
    let of = |claims: &Value| Token::parse(&text(claims, |_| Vec::new())).unwrap().account();
    let account = of(&claims()).unwrap();
    assert_eq!((&*account.namespace, &*account.name, &*account.uid), ("shop", "reader", "u1"));
    assert_eq!((account.pod, account.secret), (Some(("p".to_owned(), "u2".to_owned())), None));
    let mut nameless = claims();
    nameless["kubernetes.io"] = json!({});
    assert!(of(&nameless).is_err());
}

proptest! {
    #[test]
    fn rubbish_is_no_token(text in ".{0,200}") {
        prop_assert!(Token::parse(&text).is_err());
    }
}
