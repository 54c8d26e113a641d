//! Columns of text, aligned as `kubectl get` does it: two spaces apart, no lines.

use std::fmt::Write as _;

use crate::screen::{Paint, Style, harmless};

/// A text in a table, with its meaning.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// A text with a meaning.
    pub(crate) fn new(paint: Paint, text: impl Into<String>) -> Self {
        Self { text: text.into(), paint }
    }

    /// Of what is not there.
    pub(crate) fn none() -> Self {
        Self::new(Paint::Faint, "-")
    }

    /// An ordinary text, or what stands for none.
    pub(crate) fn maybe(text: Option<impl ToString>) -> Self {
        text.map_or_else(Self::none, |text| Self::from(text.to_string()))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(Paint::Plain, text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(Paint::Plain, text)
    }
}

/// Lays out rows under their headings.
pub(crate) fn render<const COLUMNS: usize>(
    headings: [&str; COLUMNS],
    rows: &[[Cell; COLUMNS]],
    style: Style,
) -> String {
    let heading = headings.map(|heading| Cell::new(Paint::Strong, heading));
    let width = |cell: &Cell| harmless(&cell.text).chars().count();
    let mut widths = [0; COLUMNS];
    for row in std::iter::once(&heading).chain(rows) {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&heading).chain(rows) {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(&style.paint(cell.paint, &harmless(&cell.text)));
            if column + 1 < COLUMNS {
                let gap = widths[column] - width(cell) + 2;
                write!(text, "{:gap$}", "").expect("a string takes what is written");
            }
        }
        text.push('\n');
    }
    text
}

/// Returns a number of bytes with one letter for the unit: `512B`, `7.1M`, `64M`.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    for (unit, letter) in units {
        if bytes >= unit {
            // Tenths only where they tell something.
            let tenths = bytes.saturating_mul(10) / unit;
            return match tenths % 10 {
                0 => format!("{}{letter}", tenths / 10),
                _ if tenths >= 1000 => format!("{}{letter}", tenths / 10),
                tenth => format!("{}.{tenth}{letter}", tenths / 10),
            };
        }
    }
    format!("{bytes}B")
}

/// Returns a number with what it counts.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_letters_and_not_by_bytes() {
        let rows = [["é".into(), Cell::none()], ["long\n".into(), "1".into()]];
        let text = render(["A", "B"], &rows, Style::PLAIN);
        assert_eq!(text, "A       B\né       -\nlong\\n  1\n");
    }

    #[test]
    fn sizes_have_at_most_three_digits_and_a_tenth() {
        let texts = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (7_450_000, "7.1M"),
            (64 << 20, "64M"),
            (150 << 20 | 1 << 19, "150M"),
            (u64::MAX, "1717986918G"),
        ];
        for (bytes, text) in texts {
            assert_eq!(size(bytes), text);
        }
    }
}
