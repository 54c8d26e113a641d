//! Quantities of Kubernetes (`100m`, `64Mi`, `1e3`), in thousandths.

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// A quantity in thousandths of its unit, rounded up, bounded by what the type holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity(i128);

/// The greatest number of thousandths: what the API's own type holds.
const MAX: i128 = i64::MAX as i128 * 1000;

/// Suffixes with the thousandths of one.
const SUFFIXES: [(&str, i128); 15] = [
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("u", 0),
    ("n", 0),
];

impl Quantity {
    /// Reads a quantity; nothing when it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, suffix) = split(text);
        let (scale, divisor): (i128, i128) = match suffix {
            "" => (1000, 1),
            "u" => (1, 1000),
            "n" => (1, 1_000_000),
            exponent
                if exponent.len() > 1 && exponent != "Ei" && exponent.starts_with(['e', 'E']) =>
            {
                let power: i32 = exponent[1..].parse().ok()?;
                let ten = |power: i32| 10_i128.checked_pow(power.unsigned_abs().min(18));
                if power < 0 { (1000, ten(power)?) } else { (ten(power)?.checked_mul(1000)?, 1) }
            }
            suffix => (SUFFIXES.iter().find(|(known, _)| *known == suffix)?.1, 1),
        };
        let (sign, number) = match number.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
            return None;
        }
        let fraction = &fraction[..fraction.len().min(12)];
        let value: i128 = format!("0{whole}").parse().unwrap_or(MAX);
        let part: i128 = format!("0{fraction}").parse().ok()?;
        let tenth = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        let thousandths = value
            .saturating_mul(scale)
            .saturating_add(ceil(part.saturating_mul(scale), tenth))
            .min(MAX);
        Some(Self(sign * ceil(thousandths, divisor)))
    }

    /// Makes a quantity of whole units.
    #[cfg(test)]
    pub(crate) const fn of(units: i64) -> Self {
        Self(units as i128 * 1000)
    }

    /// Returns the thousandths.
    pub(crate) fn milli(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// Returns the whole units, rounded up.
    pub(crate) fn units(self) -> i64 {
        i64::try_from(ceil(self.0, 1000)).unwrap_or(i64::MAX)
    }

    /// Divides, rounded up, as a downward field's divisor does.
    pub(crate) fn divided(self, divisor: Self) -> i64 {
        let divisor = if divisor.0 <= 0 { 1000 } else { divisor.0 };
        i64::try_from(ceil(self.0, divisor)).unwrap_or(i64::MAX)
    }
}

const fn ceil(value: i128, divisor: i128) -> i128 {
    value.div_euclid(divisor) + (value.rem_euclid(divisor) > 0) as i128
}

/// Splits off the suffix.
fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|letter: char| !(letter.is_ascii_digit() || matches!(letter, '.' | '+' | '-')))
        .unwrap_or(text.len());
    text.split_at(end)
}

impl<'de> serde::Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = Quantity;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a quantity such as 100m or 64Mi")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
        let unexpected = || E::invalid_value(Unexpected::Str(text), &self);
        Quantity::parse(text).ok_or_else(unexpected)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
        Ok(Quantity((i128::from(number) * 1000).min(MAX)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Quantity, E> {
        Ok(Quantity(i128::from(number) * 1000))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Quantity, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_of_all_kinds_are_read() {
        let milli = |text| Quantity::parse(text).map(Quantity::milli);
        for (text, expected) in [
            ("100m", 100),
            ("2", 2000),
            ("0.5", 500),
            ("1.0005", 1001),
            ("64Mi", 64 * 1024 * 1024 * 1000),
            ("1e3", 1_000_000),
            ("12E2", 1_200_000),
            ("1e-3", 1),
            ("-1", -1000),
            (".5", 500),
            ("1n", 1),
            ("1500u", 2),
        ] {
            assert_eq!(milli(text), Some(expected), "{text}");
        }
        for text in ["", "x", "1.2.3", "1Qi", "--1", "1 Mi", "Mi", "-", "."] {
            assert_eq!(milli(text), None, "{text}");
        }
        assert_eq!(Quantity::parse("999999999999Ei").map(Quantity::units), Some(i64::MAX));
    }

    proptest! {
        #[test]
        fn nothing_breaks_the_reader(text in "[-+0-9.eEKMGTPmunki]{0,40}|.{0,20}") {
            let _ = Quantity::parse(&text).map(Quantity::units);
        }

        #[test]
        fn whole_numbers_are_themselves(number in 0_i64..i64::MAX / 1000) {
            prop_assert_eq!(Quantity::parse(&number.to_string()), Some(Quantity::of(number)));
        }
    }
}
