//! What may be the name of a property and what its value (WIRE.md §7.2).

/// The longest name, in letters.
const MAX_KEY: usize = 128;

/// The longest value, in letters.
const MAX_VALUE: usize = 512;

/// The type of a property that was deleted.
pub(crate) const DELETED: &str = "deleted";

/// The type of a property whose report names none.
pub(crate) const STRING: &str = "string";

/// Checks the name of a property.
///
/// # Errors
/// A text that names it and says what was expected.
pub(crate) fn check_key(key: &str) -> Result<(), String> {
    if (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(is_letter) {
        return Ok(());
    }
    let short: String = key.chars().take(MAX_KEY).collect();
    Err(format!(
        "property '{short}': expected a name of 1 to {MAX_KEY} letters, digits and -_.,:/@#"
    ))
}

/// Checks a value against the type of its property.
///
/// # Errors
/// A text that names the value and says what was expected.
pub(crate) fn check_value(kind: &str, value: &str) -> Result<(), String> {
    let short = || value.chars().take(64).collect::<String>();
    if value.len() > MAX_VALUE || !value.bytes().all(is_letter) {
        let expected = format!("at most {MAX_VALUE} letters, digits and -_.,:/@#");
        return Err(format!("value '{}': expected {expected}", short()));
    }
    let fits = match kind {
        "" | STRING | DELETED => true,
        "int" | "integer" => value.parse::<i64>().is_ok(),
        "float" | "double" => value.parse::<f64>().is_ok(),
        "boolean" => matches!(value, "true" | "false"),
        other => return check_kind(other),
    };
    if fits { Ok(()) } else { Err(format!("value '{}': expected type {kind}", short())) }
}

/// Checks the type of a property.
///
/// # Errors
/// A text that names it and says what was expected.
pub(crate) fn check_kind(kind: &str) -> Result<(), String> {
    if matches!(kind, "" | STRING | DELETED | "int" | "integer" | "float" | "double" | "boolean") {
        return Ok(());
    }
    let short: String = kind.chars().take(64).collect();
    Err(format!("type '{short}': expected string, int, integer, float, boolean or deleted"))
}

const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.' | b',' | b':' | b'/' | b'@' | b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_those_that_the_cloud_takes() {
        for key in ["temperature", "a", "A-_.,:/@#9", &"k".repeat(128)] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        for key in ["", "with space", "ä", "a+b", "50%", &"k".repeat(129)] {
            assert!(check_key(key).is_err(), "{key}");
        }
        for (kind, value) in [
            ("", ""),
            ("string", "any-thing"),
            ("int", "-9223372036854775808"),
            ("integer", "7"),
            ("float", "2.5e3"),
            ("boolean", "true"),
        ] {
            assert_eq!(check_value(kind, value), Ok(()), "{kind} {value}");
        }
        for (kind, value) in [
            ("string", "with space"),
            ("string", &*"v".repeat(513)),
            ("int", "2.5"),
            ("int", ""),
            ("int", "9223372036854775808"),
            ("float", "warm"),
            ("boolean", "True"),
            ("gadget", "1"),
        ] {
            assert!(check_value(kind, value).is_err(), "{kind} {value}");
        }
    }
}
