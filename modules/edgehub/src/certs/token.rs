//! The token that lets a new node in: `<SHA-256 of the CA>.<JWT>` (WIRE.md §3.2).

use std::fmt;

/// A token, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The hash of the cloud's CA.
    ca: [u8; 32],
    /// What the cloud is shown.
    bearer: String,
}

impl Token {
    /// Takes a token as `keadm gettoken` prints it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (hash, bearer) = text.split_once('.').ok_or("it has no '.'")?;
        let parts = bearer.split('.').count();
        if parts != 3 || bearer.split('.').any(str::is_empty) {
            return Err("it has not four parts");
        }
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || "-_=.".contains(c);
        if !bearer.chars().all(is_base64) {
            return Err("its last three parts are not base64");
        }
        let ca = parse_hash(hash.as_bytes()).ok_or("its first part is not a SHA-256 in hex")?;
        Ok(Self { ca, bearer: bearer.to_owned() })
    }

    /// Returns what the cloud is shown.
    pub(crate) fn bearer(&self) -> &str {
        &self.bearer
    }

    /// Tells whether `ca` is the CA that the token was made by.
    pub(crate) fn pins(&self, ca: &[u8]) -> bool {
        ring::digest::digest(&ring::digest::SHA256, ca).as_ref() == self.ca
    }
}

impl fmt::Debug for Token {
    /// Tells nothing that lets anyone in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

fn parse_hash(text: &[u8]) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.try_into().ok()?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit =
            |at: usize| char::from(pair[at]).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(hash)
}
