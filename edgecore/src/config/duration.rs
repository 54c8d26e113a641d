//! Durations as operators write them: a number and a unit.

use std::str::FromStr;

/// A duration in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Duration(pub(crate) u64);

/// What a duration looks like.
pub(crate) const EXPECTED: &str = "a duration such as 500ms, 2s, 1m or 1h";

/// Text that is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoDuration;

impl FromStr for Duration {
    type Err = NoDuration;

    /// Reads a whole number with a unit. A year is the bound, so that no sum overflows.
    fn from_str(text: &str) -> Result<Self, NoDuration> {
        const YEAR: u64 = 366 * 24 * 3_600_000;
        let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or(NoDuration)?;
        let (number, unit) = text.split_at(unit);
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(NoDuration),
        };
        let number: u64 = number.parse().map_err(|_| NoDuration)?;
        let milliseconds = number.checked_mul(factor).ok_or(NoDuration)?;
        if milliseconds > YEAR { Err(NoDuration) } else { Ok(Self(milliseconds)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_no_sign() {
        for (text, milliseconds) in
            [("500ms", 500), ("2s", 2000), ("1m", 60_000), ("1h", 3_600_000)]
        {
            assert_eq!(text.parse(), Ok(Duration(milliseconds)), "{text}");
        }
        for text in
            ["", "2", "-2s", "1.5s", "s", "2 s", "2S", "1d", "99999999999999999999s", "9999h1"]
        {
            assert_eq!(text.parse::<Duration>(), Err(NoDuration), "{text}");
        }
        assert_eq!("18446744073709551615h".parse::<Duration>(), Err(NoDuration));
    }
}
