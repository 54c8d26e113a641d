//! The agent's metrics as a collector asks for them and reads them: by the letter of the format, so
//! that what a lenient reader would pass over fails a test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail, ensure};
use ipc_proto::control::METRICS_SOCKET_NAME;

use super::web::{self, Got};
use super::{Rig, SOON};

/// A metric.
#[derive(Clone, Debug)]
pub struct Family {
    /// `gauge` or `counter`.
    pub kind: String,
    /// What it says of itself.
    pub help: String,
    /// Its samples by their labels, as they are written.
    pub samples: BTreeMap<String, f64>,
}

/// An answer, read.
#[derive(Clone, Debug, Default)]
pub struct Scrape(pub BTreeMap<String, Family>);

impl Rig {
    /// Asks for the metrics at their Unix socket.
    ///
    /// # Errors
    /// When there is no answer, or none by the letter.
    pub fn scrape(&self) -> Result<Scrape> {
        let stream = UnixStream::connect(self.runtime_dir().join(METRICS_SOCKET_NAME))?;
        stream.set_read_timeout(Some(SOON))?;
        Scrape::of(&web::ask(&mut { stream }, "GET", "/metrics", b"")?)
    }
}

/// Asks for the metrics at a port of the loopback.
///
/// # Errors
/// When there is no answer, or none by the letter.
pub fn at_port(port: u16) -> Result<Scrape> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SOON))?;
    Scrape::of(&web::ask(&mut { stream }, "GET", "/metrics", b"")?)
}

impl Scrape {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is not that of Prometheus' format 0.0.4, by the letter.
    pub fn of(got: &Got) -> Result<Self> {
        ensure!(got.line == "HTTP/1.1 200 OK", "{}: {}", got.line, got.body);
        let kind = "Content-Type: text/plain; version=0.0.4; charset=utf-8";
        ensure!(got.headers.iter().any(|header| header == kind), "{:?}", got.headers);
        Self::parse(&got.body)
    }

    /// Reads a page of Prometheus' text format.
    ///
    /// # Errors
    /// With the line that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.ends_with('\n'), "the last line has no end");
        let mut scrape = Self::default();
        let mut current = None;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let kind = lines.next().unwrap_or_default();
                let name = scrape.begin(rest, kind).with_context(|| line.to_owned())?;
                current = Some(name);
            } else {
                let name = current.as_deref().with_context(|| format!("no metric: {line}"))?;
                scrape.sample(name, line).with_context(|| line.to_owned())?;
            }
        }
        Ok(scrape)
    }

    fn begin(&mut self, help: &str, kind: &str) -> Result<String> {
        let (name, help) = help.split_once(' ').context("no help")?;
        let rest = kind.strip_prefix("# TYPE ").context("HELP without TYPE behind it")?;
        let kind = rest.strip_prefix(name).and_then(|it| it.strip_prefix(' '));
        let kind = kind.context("TYPE of another metric")?;
        ensure!(["gauge", "counter"].contains(&kind), "unknown type {kind}");
        ensure!(name.starts_with("edgecore_"), "a name of others");
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        ensure!(name.bytes().all(letters), "a name with strange letters");
        ensure!(
            (kind == "counter") == name.ends_with("_total"),
            "a counter, and only it, is a total"
        );
        ensure!(help.ends_with('.') && help.len() > 10, "help that is no sentence");
        let family =
            Family { kind: kind.to_owned(), help: help.to_owned(), samples: BTreeMap::new() };
        ensure!(self.0.insert(name.to_owned(), family).is_none(), "told twice");
        Ok(name.to_owned())
    }

    fn sample(&mut self, name: &str, line: &str) -> Result<()> {
        let rest = line.strip_prefix(name).context("a sample of another metric")?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ").context("no end of the labels")?,
            None => ("", rest.strip_prefix(' ').context("no space before the value")?),
        };
        let mut seen = BTreeSet::new();
        for (label, _) in read_labels(labels)? {
            ensure!(seen.insert(label.clone()), "label {label} twice");
        }
        let value: f64 = value.parse().context("no number")?;
        let family = self.0.get_mut(name).context("not begun")?;
        ensure!(value.is_finite() && (family.kind == "gauge" || value >= 0.0), "a strange number");
        ensure!(family.samples.insert(labels.to_owned(), value).is_none(), "told twice");
        Ok(())
    }

    /// Returns a sample by its labels as they are written, such as `module="edged"`.
    ///
    /// # Errors
    /// When there is none.
    pub fn value(&self, name: &str, labels: &str) -> Result<f64> {
        let family = self.0.get(name).with_context(|| format!("there is no {name}"))?;
        let value = family.samples.get(labels);
        value.copied().with_context(|| format!("{name} has no {{{labels}}}: {family:?}"))
    }
}

/// Reads `name="value"` pairs with commas between them.
fn read_labels(mut text: &str) -> Result<Vec<(String, String)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").context("a label without a value")?;
        ensure!(!name.is_empty() && name.bytes().all(|it| it.is_ascii_lowercase()), "label {name}");
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next().context("a value without an end")? {
                (at, '"') => break at,
                (_, '\\') => match letters.next() {
                    Some((_, letter @ ('\\' | '"'))) => value.push(letter),
                    Some((_, 'n')) => value.push('\n'),
                    other => bail!("escaped {other:?}"),
                },
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name.to_owned(), value));
        let rest = &rest[end + 1..];
        text = match rest.strip_prefix(',') {
            Some(more) => more,
            None if rest.is_empty() => rest,
            None => bail!("{rest} behind a label"),
        };
    }
    Ok(labels)
}

/// Returns the names of our metrics in a text.
#[must_use]
pub fn names_in(text: &str) -> BTreeSet<String> {
    let inside = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter: char| !inside(letter));
    words.filter(|word| word.starts_with("edgecore_")).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP edgecore_x_total What it is.\n# TYPE edgecore_x_total counter\n\
                        edgecore_x_total{a=\"b\\\"c\",d=\"\"} 1.5\n";

    #[test]
    fn a_page_is_read_and_a_wrong_letter_is_found() {
        let scrape = Scrape::parse(GOOD).unwrap();
        assert_eq!(scrape.value("edgecore_x_total", "a=\"b\\\"c\",d=\"\"").unwrap(), 1.5);
        for (right, wrong) in [
            ("counter", "gauge"),
            (" 1.5", " -1"),
            (" 1.5", " NaN"),
            (" 1.5", ""),
            ("{a", "{A"),
            ("\\\"", "\\x"),
            ("d=", "a="),
            ("\"\"}", "\"\""),
            ("# TYPE edgecore_x_total counter\n", ""),
            ("# HELP edgecore_x_total What it is.\n", ""),
            ("edgecore_x_total{", "edgecore_y_total{"),
        ] {
            let text = GOOD.replacen(right, wrong, 1);
            assert!(Scrape::parse(&text).is_err(), "{text}");
        }
        assert!(Scrape::parse(&GOOD.repeat(2)).is_err());
        assert!(Scrape::parse(GOOD.trim_end()).is_err());
    }
}
