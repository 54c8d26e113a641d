//! Reads values out of a YAML tree, and notes what is wrong with its place, the value and what was
//! expected, instead of stopping at it.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// What was found while reading the files.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Each keeps the agent from starting.
    pub(super) errors: Vec<String>,
    /// Said, and passed over.
    pub(super) warnings: Vec<String>,
    /// What was asked for, or is usual, and cannot be had here.
    pub(super) not_in_force: Vec<String>,
}

/// A YAML text that is none, or too much of one.
#[derive(Debug, thiserror::Error)]
#[error("not valid YAML: {0}")]
pub(super) struct YamlError(String);

/// Reads a YAML text as a tree. Aliases, depth and size are bounded.
pub(super) fn parse(text: &str) -> Result<Value, YamlError> {
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 50_000, max_depth: 64, max_aliases: 256 },
        with_snippet: false,
    };
    let first_line = |error: serde_saphyr::Error| {
        YamlError(error.to_string().lines().next().unwrap_or_default().to_owned())
    };
    serde_saphyr::from_str_with_options(text, options).map_err(first_line)
}

/// Reads one file's values.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    file: &'a str,
    findings: &'a mut Findings,
}

/// A place in a file: the keys from the top, with dots between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Place(String);

impl Place {
    pub(super) fn key(&self, key: &str) -> Self {
        if self.0.is_empty() { Self(key.to_owned()) } else { Self(format!("{}.{key}", self.0)) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "the whole" } else { &self.0 })
    }
}

impl<'a> Reader<'a> {
    pub(super) const fn new(file: &'a str, findings: &'a mut Findings) -> Self {
        Self { file, findings }
    }

    /// Notes that a value is not what it should be.
    pub(super) fn wrong(&mut self, place: &Place, value: &Value, expected: impl fmt::Display) {
        let mut shown = value.to_string();
        if shown.chars().count() > 60 {
            shown = shown.chars().take(60).chain(['…']).collect();
        }
        let file = self.file;
        self.findings.errors.push(format!("{file}: {place} is {shown}, expected {expected}"));
    }

    /// Notes an error that is no single value's.
    pub(super) fn error(&mut self, text: impl fmt::Display) {
        self.findings.errors.push(format!("{}: {text}", self.file));
    }

    /// Notes something that is passed over.
    pub(super) fn warn(&mut self, text: impl fmt::Display) {
        self.findings.warnings.push(format!("{}: {text}", self.file));
    }

    /// Takes a table whose keys are all among `known`.
    pub(super) fn table<'v>(
        &mut self,
        place: &Place,
        value: Option<&'v Value>,
        known: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let value = value.filter(|value| !value.is_null())?;
        let Some(table) = value.as_object() else {
            self.wrong(place, value, "a table");
            return None;
        };
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let place = place.key(key);
            self.error(format_args!("{place} is unknown, expected one of {}", known.join(", ")));
        }
        Some(table)
    }

    /// Passes on what a value was read as; one that was not is noted.
    fn expect<T>(
        &mut self,
        place: &Place,
        value: &Value,
        read: Option<T>,
        expected: impl fmt::Display,
    ) -> Option<T> {
        if read.is_none() {
            self.wrong(place, value, expected);
        }
        read
    }

    pub(super) fn boolean(&mut self, place: &Place, value: Option<&Value>) -> Option<bool> {
        let value = value?;
        self.expect(place, value, value.as_bool(), "true or false")
    }

    /// Takes a whole number in a range.
    pub(super) fn number(
        &mut self,
        place: &Place,
        value: Option<&Value>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = value?;
        let number = value.as_u64().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        let expected = format_args!("a whole number from {least} to {most}");
        self.expect(place, value, number, expected)
    }

    /// Takes one of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        place: &Place,
        value: Option<&Value>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let value = value?;
        let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let expected = format_args!("one of {}", names.join(", "));
        self.expect(place, value, found.map(|(_, value)| *value), expected)
    }

    /// Takes a duration such as `2s`, as milliseconds in a range.
    pub(super) fn duration(
        &mut self,
        place: &Place,
        value: Option<&Value>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = value?;
        let duration = value.as_str().and_then(milliseconds).filter(|ms| range.contains(ms));
        let (least, most) = (range.start(), range.end());
        let expected = format_args!("a duration such as 500ms, 2s or 1m, {least} to {most} ms");
        self.expect(place, value, duration, expected)
    }

    /// Takes a quantity such as `64Mi`, as bytes in a range.
    pub(super) fn quantity(
        &mut self,
        place: &Place,
        value: Option<&Value>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = value?;
        let bytes = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => bytes(text),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let bytes = bytes.filter(|bytes| range.contains(bytes));
        let (least, most) = (range.start(), range.end());
        let expected = format_args!("a quantity such as 64Mi, {least} to {most} bytes");
        self.expect(place, value, bytes, expected)
    }
}

/// Reads a number with a unit behind it.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn milliseconds(text: &str) -> Option<u64> {
    with_unit(text, &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)])
}

fn bytes(text: &str) -> Option<u64> {
    let units = [
        ("", 1),
        ("k", 1000),
        ("M", 1000_u64.pow(2)),
        ("G", 1000_u64.pow(3)),
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
    ];
    with_unit(text, &units)
}
