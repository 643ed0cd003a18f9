//! The two clocks, as types that cannot be mixed up: [`Monotonic`] decides, [`Timestamp`] is written down.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point on the monitor's monotonic clock: nanoseconds since the runtime's clock was made.
///
/// Every decision about silence compares these, so a step of the wall clock changes no verdict. Counted from
/// one inside, so that an `Option` of it takes no more than its eight bytes: there may be a million of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(NonZeroU64);

impl Default for Monotonic {
    fn default() -> Self {
        Self::START
    }
}

impl Monotonic {
    /// The instant at which the clock was made.
    pub const START: Self = Self(NonZeroU64::MIN);

    /// From nanoseconds since the clock was made.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds since the clock was made.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// The instant so long before this one; the clock's first when there is none.
    #[must_use]
    pub fn earlier_by(self, duration: Duration) -> Self {
        Self::from_nanos(self.as_nanos().saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A length of time in eight bytes, for where a million of them are kept: nanoseconds, 584 years at most. An
/// `Option` of it takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(NonZeroU64);

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(NonZeroU64::MIN.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Span {
    /// As everybody else writes it.
    #[must_use]
    pub const fn get(self) -> Duration {
        Duration::from_nanos(self.nanos())
    }

    const fn nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u32) -> Self {
        Self(NonZeroU64::MIN.saturating_add(millis as u64 * 1_000_000))
    }

    /// Half of it.
    #[must_use]
    pub const fn half(self) -> Self {
        Self(NonZeroU64::MIN.saturating_add(self.nanos() / 2))
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.nanos()))
    }
}

// Without a `Duration` in between, whose seconds and nanoseconds are a division each: a heartbeat does this several times.
impl Add<Span> for Monotonic {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.nanos()))
    }
}

/// Wall-clock time: nanoseconds since the Unix epoch, UTC, shown as RFC 3339.
///
/// Holds the years 1678 to 2262, the range of a timestamp in InfluxDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// This time moved back by `duration`.
    #[must_use]
    pub fn earlier_by(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Only the time of day with milliseconds, for a line that a person reads as it happens.
    #[must_use]
    pub fn time_of_day(self) -> String {
        let text = self.to_string();
        text.get(11..23).unwrap_or(&text).to_owned()
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with milliseconds in UTC: `2026-11-21T12:00:03.214Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{} ns since 1970", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = NotATimestamp;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed: jiff::Timestamp = text.parse().map_err(|_| NotATimestamp(text.to_owned()))?;
        i64::try_from(parsed.as_nanosecond()).map(Self).map_err(|_| NotATimestamp(text.to_owned()))
    }
}

/// The text is not an RFC 3339 time between 1678 and 2262.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time like 2026-11-21T12:00:03Z")]
pub struct NotATimestamp(String);

/// A duration as people and the command line write it: `250ms`, `5s`, `2m`, `1h`, or `0`.
///
/// # Errors
/// When the text is not a whole number with one of those units.
pub fn parse_duration(text: &str) -> Result<Duration, NotADuration> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let wrong = || NotADuration(text.to_owned());
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "" if number == 0 => Some(0),
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    millis.map(Duration::from_millis).ok_or_else(wrong)
}

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a duration like 250ms, 5s, 2m or 1h")]
pub struct NotADuration(String);

/// A duration as a person reads it in a sentence: `250 ms`, `4.2 s`, `3 min 5 s`, `2 h 10 min`.
#[must_use]
pub fn describe_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..=59 => {
            let tenths = duration.as_millis() / 100;
            if tenths.is_multiple_of(10) {
                format!("{seconds} s")
            } else {
                format!("{}.{} s", tenths / 10, tenths % 10)
            }
        }
        60..=3_599 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        60..=3_599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ if (seconds / 60).is_multiple_of(60) => format!("{} h", seconds / 3_600),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_survives_its_text() {
        let time = Timestamp::from_nanos(1_763_683_203_214_000_000);
        assert_eq!(time.to_string(), "2025-11-21T00:00:03.214Z");
        assert_eq!(time.to_string().parse(), Ok(time));
        assert_eq!(time.time_of_day(), "00:00:03.214");
    }

    #[test]
    fn durations_are_read_and_said() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "5", "5 s", "-1s", "5x", "99999999999999999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(describe_duration(Duration::from_millis(4_230)), "4.2 s");
        assert_eq!(describe_duration(Duration::from_secs(5)), "5 s");
        assert_eq!(describe_duration(Duration::from_secs(185)), "3 min 5 s");
        assert_eq!(describe_duration(Duration::from_secs(7_200)), "2 h");
    }
}
