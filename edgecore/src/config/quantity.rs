//! Quantities of bytes as operators write them: a number with a binary unit, or with none.

use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity(pub(crate) u64);

/// Text that is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoQuantity;

impl FromStr for Quantity {
    type Err = NoQuantity;

    /// Reads a whole number with a unit; up to 2^63, as the kernel's own files have it.
    fn from_str(text: &str) -> Result<Self, NoQuantity> {
        let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit);
        let factor: u64 = match unit {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(NoQuantity),
        };
        let number: u64 = number.parse().map_err(|_| NoQuantity)?;
        let bytes = number.checked_mul(factor).filter(|bytes| i64::try_from(*bytes).is_ok());
        bytes.map(Self).ok_or(NoQuantity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_binary_units_and_no_sign() {
        for (text, bytes) in [("0", 0), ("65536", 65_536), ("64Ki", 65_536), ("1Gi", 1 << 30)] {
            assert_eq!(text.parse(), Ok(Quantity(bytes)), "{text}");
        }
        for text in ["", "-1", "1.5Mi", "64M", "64 Mi", "Mi", "9223372036854775808", "8589934592Gi"]
        {
            assert_eq!(text.parse::<Quantity>(), Err(NoQuantity), "{text}");
        }
    }
}
