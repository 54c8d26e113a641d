//! Durations as Go writes them (`1h30m`, `500ms`), in milliseconds.

/// Units with the nanoseconds of one.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Reads a duration that is not negative, in milliseconds; nothing when it is none.
pub(crate) fn parse(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut nanos) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|it: char| !(it.is_ascii_digit() || it == '.'))?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|it: char| it.is_ascii_digit() || it == '.');
        let unit_end = unit_end.map_or(rest.len(), |length| end + length);
        let (_, scale) = UNITS.into_iter().find(|(unit, _)| *unit == &rest[end..unit_end])?;
        nanos += number * scale;
        rest = &rest[unit_end..];
    }
    let millis = (nanos / 1e6).round();
    #[expect(clippy::cast_possible_truncation, reason = "bounded in the line before")]
    let whole = (!text.is_empty() && (0.0..1e15).contains(&millis)).then_some(millis as i64);
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("0", 0),
            ("0s", 0),
            ("2m0s", 120_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("300ms", 300),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for text in ["", "s", "5", "-1s", "1x", "1s2", "1..s", "9999999999999h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_the_reader(text in "[-0-9.hmsuµn]{0,20}|.{0,12}") {
            prop_assert!(parse(&text).is_none_or(|it| it >= 0));
        }
    }
}
