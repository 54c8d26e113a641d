//! Times and durations as people and programs read them.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// A point in time: Unix time in milliseconds. Printed as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub(crate) i64);

impl Timestamp {
    /// Reads the machine's clock.
    pub(crate) fn now() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }

    /// Returns how long ago `earlier` was; nothing when the clock was set back since.
    pub(crate) fn since(self, earlier: Self) -> Span {
        Span::of_seconds(self.0.saturating_sub(earlier.0) / 1000)
    }

    /// Returns the day.
    pub(crate) fn date(self) -> String {
        self.to_string().chars().take_while(|&letter| letter != 'T').collect()
    }

    fn parts(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).ok()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts().and_then(|parts| parts.format(&Rfc3339).ok()) {
            Some(text) => f.pad(&text),
            // A year of five digits: a number is better than nothing.
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    /// Takes Unix time in milliseconds, as modules report it, or RFC 3339.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Milliseconds(i64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Milliseconds(milliseconds) => Ok(Self(milliseconds)),
            Either::Text(text) => OffsetDateTime::parse(&text, &Rfc3339)
                .ok()
                .and_then(|parts| i64::try_from(parts.unix_timestamp_nanos() / 1_000_000).ok())
                .map(Self)
                .ok_or_else(|| serde::de::Error::custom(format!("'{text}' is no RFC 3339 time"))),
        }
    }
}

/// Returns the time of day in UTC with microseconds, of Unix time in microseconds.
pub(crate) fn time_of_day(microseconds: i64) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] =
        format_description!("[hour]:[minute]:[second].[subsecond digits:6]");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1000)
        .ok()
        .and_then(|parts| parts.format(FORMAT).ok())
        .unwrap_or_else(|| microseconds.to_string())
}

/// Returns Unix time in microseconds as RFC 3339 in UTC.
pub(crate) fn rfc3339(microseconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1000)
        .ok()
        .and_then(|parts| parts.format(&Rfc3339).ok())
        .unwrap_or_else(|| microseconds.to_string())
}

/// A length of time, printed in its two greatest units: `12s`, `3m12s`, `5h03m`, `12d5h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(u64);

impl Span {
    /// A span of whole seconds; less than nothing counts as nothing.
    pub(crate) fn of_seconds(seconds: i64) -> Self {
        Self(u64::try_from(seconds).unwrap_or(0))
    }

    /// A span of seconds, cut to whole ones.
    pub(crate) fn of(seconds: f64) -> Self {
        Self(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0;
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        match seconds {
            0..60 => write!(f, "{seconds}s"),
            60..3600 => write!(f, "{minutes}m{:02}s", seconds % 60),
            3600..86_400 => write!(f, "{hours}h{:02}m", minutes % 60),
            _ => write!(f, "{days}d{}h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        let texts = [(-5, "0s"), (59, "59s"), (192, "3m12s"), (18_180, "5h03m"), (90_000, "1d1h")];
        for (seconds, text) in texts {
            assert_eq!(Span::of_seconds(seconds).to_string(), text);
        }
        assert_eq!(Span::of(f64::NAN).to_string(), "0s");
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(Timestamp(1_785_578_645_123).to_string(), "2026-08-01T10:04:05.123Z");
        assert_eq!(Timestamp(1_785_578_645_123).date(), "2026-08-01");
        assert_eq!(Timestamp(i64::MAX).to_string(), i64::MAX.to_string());
        assert_eq!(time_of_day(1_785_578_645_123_456), "10:04:05.123456");
        assert_eq!(rfc3339(1_785_578_645_123_456), "2026-08-01T10:04:05.123456Z");
    }

    #[test]
    fn modules_may_report_either_form() {
        for text in ["1785578645123", "\"2026-08-01T10:04:05.123Z\""] {
            let time: Timestamp = serde_json::from_str(text).unwrap();
            assert_eq!(time, Timestamp(1_785_578_645_123));
        }
        assert!(serde_json::from_str::<Timestamp>("\"tomorrow\"").is_err());
    }
}
