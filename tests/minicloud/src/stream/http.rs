//! Heads of HTTP/1.1 requests, read by hand: after one that asks for an upgrade, CloudCore takes the
//! connection over before anything was answered, which no HTTP library's server lets a test do.

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The greatest head.
const MAX_HEAD: usize = 1 << 20;

/// A request's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// With Go's canonical names.
    pub(crate) headers: BTreeMap<String, Vec<String>>,
}

impl Head {
    /// Returns a header's first value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|values| values.first()).map(String::as_str)
    }

    /// Reads a head, and nothing beyond it.
    ///
    /// # Errors
    /// When the connection ends before, or it is none.
    pub(crate) async fn read<R: AsyncRead + Unpin>(source: &mut R) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            head.push(source.read_u8().await?);
        }
        Self::parse(&String::from_utf8_lossy(&head)).ok_or(io::ErrorKind::InvalidData.into())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.trim_end().split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut headers = BTreeMap::<String, Vec<String>>::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            headers.entry(canonical(name)).or_default().push(value.trim().to_owned());
        }
        Some(Self { method, path, query, headers })
    }
}

/// Writes a header's name as Go does.
fn canonical(name: &str) -> String {
    let word = |word: &str| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_uppercase() + &rest.to_lowercase(),
        None => String::new(),
    };
    name.trim().split('-').map(word).collect::<Vec<_>>().join("-")
}
