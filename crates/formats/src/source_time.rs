//! The usual forms of a time in a file, read into RFC 3339 text.
//!
//! A form without an offset is taken as UTC. The result is kept as the text field [`SOURCE_TIME`]:
//! a reading's own time is when it was published, never what its source says.

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};
use serde::{Deserialize, Serialize};

/// The field that holds the time which the source gives, as RFC 3339 text in UTC.
pub const SOURCE_TIME: &str = "source_time";

/// How a source writes its times. The names are those of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeFormat {
    /// `2018-02-10T09:50:00Z`, with `Z` or an offset.
    Rfc3339,
    /// `2018-02-10 09:50:00` in UTC; `T` for the space, seconds and the time of day are optional.
    DateTime,
    /// `2/10/2018 9:50`, month first; seconds, AM or PM and the time of day are optional.
    MonthFirst,
    /// `10/2/2018 9:50` or `10.2.2018 9:50`, day first; seconds, AM or PM and the time of day are optional.
    DayFirst,
    /// Seconds since the Unix epoch, with decimals where there are some.
    UnixS,
    /// Milliseconds since the Unix epoch.
    UnixMs,
    /// Microseconds since the Unix epoch.
    UnixUs,
    /// Nanoseconds since the Unix epoch.
    UnixNs,
}

impl TimeFormat {
    /// All forms, in the order in which they are preferred where several read a column equally well.
    pub const ALL: [Self; 8] = [
        Self::Rfc3339,
        Self::DateTime,
        Self::MonthFirst,
        Self::DayFirst,
        Self::UnixS,
        Self::UnixMs,
        Self::UnixUs,
        Self::UnixNs,
    ];

    /// An example of the form, for an error's text.
    #[must_use]
    pub const fn example(self) -> &'static str {
        match self {
            Self::Rfc3339 => "2018-02-10T09:50:00Z",
            Self::DateTime => "2018-02-10 09:50:00",
            Self::MonthFirst => "2/10/2018 9:50 (month first)",
            Self::DayFirst => "10/2/2018 9:50 (day first)",
            Self::UnixS => "1518256200 (Unix seconds)",
            Self::UnixMs => "1518256200000 (Unix milliseconds)",
            Self::UnixUs => "1518256200000000 (Unix microseconds)",
            Self::UnixNs => "1518256200000000000 (Unix nanoseconds)",
        }
    }

    /// Whether it is a bare number, which could as well be a value.
    #[must_use]
    pub const fn is_number(self) -> bool {
        matches!(self, Self::UnixS | Self::UnixMs | Self::UnixUs | Self::UnixNs)
    }

    /// Reads a time in this form; none when it is in another or is no time.
    #[must_use]
    pub fn read(self, text: &str) -> Option<Timestamp> {
        let text = text.trim();
        match self {
            // jiff reads the compact form 20180210 too, which would make dates of plain numbers.
            Self::Rfc3339 if dashed(text) => text.parse().ok(),
            Self::DateTime if dashed(text) && !has_offset(text) => utc(text.parse().ok()?),
            Self::Rfc3339 | Self::DateTime => None,
            Self::MonthFirst if text.contains('/') => read_any(
                text,
                &["%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y", "%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M:%S %p"],
            ),
            Self::DayFirst if text.contains('/') => read_any(
                text,
                &["%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y", "%d/%m/%Y %I:%M %p", "%d/%m/%Y %I:%M:%S %p"],
            ),
            Self::DayFirst if text.contains('.') => {
                read_any(text, &["%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y"])
            }
            Self::MonthFirst | Self::DayFirst => None,
            Self::UnixS => match text.parse() {
                Ok(seconds) => Timestamp::from_second(seconds).ok(),
                Err(_) => {
                    let seconds = SignedDuration::try_from_secs_f64(text.parse().ok()?).ok()?;
                    Timestamp::from_duration(seconds).ok()
                }
            },
            Self::UnixMs => Timestamp::from_millisecond(text.parse().ok()?).ok(),
            Self::UnixUs => Timestamp::from_microsecond(text.parse().ok()?).ok(),
            Self::UnixNs => Timestamp::from_nanosecond(text.parse().ok()?).ok(),
        }
    }

    /// Reads a time as [`read`](Self::read) does, and only where nobody would take it for something
    /// else: a number has to lie in the years 2001 to 2099.
    #[must_use]
    pub fn recognise(self, text: &str) -> Option<Timestamp> {
        // Every form starts with a digit; this spares the parsers most text cells.
        if !text.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let time = self.read(text)?;
        let plausible = !self.is_number() || (1_000_000_000..4_100_000_000).contains(&time.as_second());
        plausible.then_some(time)
    }
}

/// The name is not one of a time's forms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a form of time: use rfc3339, date-time, month-first, day-first, unix-s, unix-ms, unix-us or unix-ns"
)]
pub struct NotATimeFormat(String);

impl std::str::FromStr for TimeFormat {
    type Err = NotATimeFormat;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "rfc3339" => Ok(Self::Rfc3339),
            "date-time" => Ok(Self::DateTime),
            "month-first" => Ok(Self::MonthFirst),
            "day-first" => Ok(Self::DayFirst),
            "unix-s" => Ok(Self::UnixS),
            "unix-ms" => Ok(Self::UnixMs),
            "unix-us" => Ok(Self::UnixUs),
            "unix-ns" => Ok(Self::UnixNs),
            _ => Err(NotATimeFormat(text.to_owned())),
        }
    }
}

/// Whether a text begins like `2018-`.
fn dashed(text: &str) -> bool {
    text.as_bytes().get(4) == Some(&b'-')
}

/// Whether an offset follows the time of day; the date's own dashes end at byte 10.
fn has_offset(text: &str) -> bool {
    text.get(10..).is_some_and(|rest| rest.contains(['+', '-', 'Z', 'z', '[']))
}

fn utc(time: civil::DateTime) -> Option<Timestamp> {
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

fn read_any(text: &str, forms: &[&str]) -> Option<Timestamp> {
    forms.iter().find_map(|form| {
        let parts = strtime::parse(form, text).ok()?;
        // A form without a time of day means midnight.
        utc(parts.to_datetime().or_else(|_| parts.to_date().map(|date| date.at(0, 0, 0, 0))).ok()?)
    })
}

/// Which column holds the source's own time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TimeColumn {
    /// The first that reads as one, if any.
    #[default]
    Auto,
    /// None: all columns are values.
    None,
    /// The one that the header names so.
    Name(String),
    /// The one at this place, from 1.
    Number(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_read() {
        use TimeFormat::*;
        for (format, text, expected) in [
            (Rfc3339, "2018-02-10T09:50:00Z", "2018-02-10T09:50:00Z"),
            (Rfc3339, "2018-02-10T09:50:00.250+02:00", "2018-02-10T07:50:00.25Z"),
            (DateTime, "2018-02-10 09:50:00", "2018-02-10T09:50:00Z"),
            (DateTime, "2018-02-10 09:50", "2018-02-10T09:50:00Z"),
            (DateTime, "2018-02-10", "2018-02-10T00:00:00Z"),
            (MonthFirst, "2/10/2018 9:50", "2018-02-10T09:50:00Z"),
            (MonthFirst, "2/10/2018 9:50:07", "2018-02-10T09:50:07Z"),
            (MonthFirst, "02/10/2018 11:50 PM", "2018-02-10T23:50:00Z"),
            (MonthFirst, "2/10/2018", "2018-02-10T00:00:00Z"),
            (DayFirst, "2/10/2018 9:50", "2018-10-02T09:50:00Z"),
            (DayFirst, "25.12.2018 23:59:59", "2018-12-25T23:59:59Z"),
            (UnixS, "1518256200", "2018-02-10T09:50:00Z"),
            (UnixS, "1518256200.5", "2018-02-10T09:50:00.5Z"),
            (UnixMs, "1518256200001", "2018-02-10T09:50:00.001Z"),
            (UnixUs, "1518256200000001", "2018-02-10T09:50:00.000001Z"),
            (UnixNs, "1518256200000000001", "2018-02-10T09:50:00.000000001Z"),
        ] {
            let read = format.read(text).map(|time| time.to_string());
            assert_eq!(read.as_deref(), Some(expected), "{format:?} of {text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        use TimeFormat::*;
        for (format, text) in [
            (Rfc3339, "2018-02-10 09:50:00"),
            (Rfc3339, "20180210"),
            (DateTime, "2018-02-10T09:50:00Z"),
            (DateTime, "2018-02-10T09:50:00+02:00"),
            (DateTime, "2018-02-30 09:50:00"),
            (DateTime, "20180210"),
            (MonthFirst, "25/12/2018 9:50"),
            (MonthFirst, "2/10/2018 25:50"),
            (MonthFirst, "2/10/2018 9:50 of course"),
            (DayFirst, "12/25/2018 9:50"),
            (UnixS, "NaN"),
            (UnixS, "inf"),
            (UnixMs, "12.5"),
            (UnixNs, ""),
        ] {
            assert_eq!(format.read(text), None, "{format:?} of {text}");
        }
        assert!(UnixS.recognise("42").is_none(), "a small number is a value");
        assert!(UnixMs.recognise("1518256200001").is_some());
    }

    #[test]
    fn every_form_has_its_name() {
        for format in TimeFormat::ALL {
            let name = serde_json::to_value(format).unwrap();
            assert_eq!(name.as_str().unwrap().parse(), Ok(format));
        }
        assert!("m/d".parse::<TimeFormat>().unwrap_err().to_string().contains("month-first"));
    }
}
