//! Readings → rows.

use std::fmt;
use std::io::Write as _;

use crate::domain::publisher::{HostName, PublisherId};
use crate::domain::reading::{FieldValue, Reading};
use crate::domain::time::Timestamp;

/// The largest time that InfluxDB takes, in nanoseconds; the smallest is its negative.
const TIME_NANOS_MAX: i64 = i64::MAX - 1;

/// The column that InfluxDB keeps for the time.
const TIME_COLUMN: &str = "time";

/// Which part of a row a text stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamePart {
    /// The measurement.
    Measurement,
    /// The name of a tag.
    TagKey,
    /// The value of a tag.
    TagValue,
    /// The name of a field.
    FieldKey,
}

impl fmt::Display for NamePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Measurement => "the measurement",
            Self::TagKey => "the tag",
            Self::TagValue => "the tag value",
            Self::FieldKey => "the field",
        })
    }
}

/// What is wrong with a text in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Nothing in it.
    Empty,
    /// A line break or another control character.
    ControlCharacter,
    /// A backslash where InfluxDB would read it as an escape.
    Backslash,
    /// InfluxDB would take the row for a comment.
    LeadingHash,
    /// InfluxDB keeps the name `time` for itself.
    Reserved,
    /// It is there twice.
    Twice,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::ControlCharacter => "has a control character (a line break, a tab): remove it",
            Self::Backslash => {
                "has a backslash where InfluxDB reads it as an escape (at the end, or in a name before a sign): remove it"
            }
            Self::LeadingHash => "starts with '#', which InfluxDB reads as a comment: rename it",
            Self::Reserved => "is a name that InfluxDB keeps for itself and drops in silence: rename it",
            Self::Twice => "is there twice: rename one",
        })
    }
}

/// Why a reading cannot be a row. Nothing of it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A text that InfluxDB would not give back as it is.
    #[error("{part} '{text}' {problem}")]
    Name {
        /// Where it stands.
        part: NamePart,
        /// The text, or its tag's name and value.
        text: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// NaN or infinity, which InfluxDB cannot hold.
    #[error("the field '{field}' is {value}: InfluxDB holds finite numbers only")]
    NotFinite {
        /// The field.
        field: String,
        /// `NaN`, `inf` or `-inf`.
        value: String,
    },
    /// A row needs at least one field.
    #[error("a row of '{measurement}' has no field")]
    NoFields {
        /// Its measurement.
        measurement: String,
    },
    /// InfluxDB refuses the first and the last nanoseconds of its range.
    #[error("the time {nanos} ns is outside what InfluxDB takes (years 1677 to 2262)")]
    TimeOutOfRange {
        /// Nanoseconds since 1970.
        nanos: i64,
    },
}

/// Appends one row, without a line end. Tags with an empty value are left out, as InfluxDB has none;
/// tags and fields keep their order (the server is fastest with tags sorted by name).
///
/// # Errors
/// [`EncodeError`]; `out` is as it was.
pub fn encode<'a>(
    out: &mut Vec<u8>,
    measurement: &str,
    tags: impl Iterator<Item = (&'a str, &'a str)>,
    fields: impl Iterator<Item = (&'a str, &'a FieldValue)>,
    time: Timestamp,
) -> Result<(), EncodeError> {
    let begin = out.len();
    let result = append(out, measurement, tags, fields, time);
    if result.is_err() {
        out.truncate(begin);
    }
    result
}

/// Appends a reading as a row: tags `publisher` and `host` and the reading's own, sorted by name.
/// A tag of the reading that is itself called `publisher` or `host` becomes `source_publisher` or
/// `source_host`.
///
/// # Errors
/// [`EncodeError`]; `out` is as it was.
pub fn encode_reading(
    out: &mut Vec<u8>,
    publisher: &PublisherId,
    host: &HostName,
    reading: &Reading,
) -> Result<(), EncodeError> {
    let own = [("publisher", publisher.as_str()), ("host", host.as_str())];
    let mut tags: Vec<(&str, &str)> = Vec::with_capacity(reading.tags.len() + own.len());
    tags.extend(own);
    tags.extend(reading.tags.iter().map(|(key, value)| {
        let key = match key.as_str() {
            "publisher" => "source_publisher",
            "host" => "source_host",
            key => key,
        };
        (key, value.as_str())
    }));
    tags.sort_unstable();
    let fields = reading.fields.iter().map(|(key, value)| (key.as_str(), value));
    encode(out, &reading.measurement, tags.into_iter(), fields, reading.time)
}

/// Whether a reading can be a row, for a publisher to find out before it gives the reading a number.
///
/// # Errors
/// [`EncodeError`], as [`encode_reading`] would give it.
pub fn check_reading(reading: &Reading) -> Result<(), EncodeError> {
    let tags = reading.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let fields = reading.fields.iter().map(|(key, value)| (key.as_str(), value));
    append(&mut Vec::new(), &reading.measurement, tags, fields, reading.time)
}

fn append<'a>(
    out: &mut Vec<u8>,
    measurement: &str,
    tags: impl Iterator<Item = (&'a str, &'a str)>,
    fields: impl Iterator<Item = (&'a str, &'a FieldValue)>,
    time: Timestamp,
) -> Result<(), EncodeError> {
    check_name(NamePart::Measurement, measurement)?;
    if measurement.starts_with('#') {
        return Err(wrong(NamePart::Measurement, measurement, Problem::LeadingHash));
    }
    escape(out, measurement, b", ");

    let mut seen: Vec<&str> = Vec::new();
    for (key, value) in tags {
        check_key(NamePart::TagKey, key, &mut seen)?;
        if value.is_empty() {
            continue;
        }
        check_tag_value(key, value)?;
        out.push(b',');
        escape(out, key, b",= ");
        out.push(b'=');
        escape(out, value, b",= ");
    }

    seen.clear();
    for (key, value) in fields {
        check_key(NamePart::FieldKey, key, &mut seen)?;
        out.push(if seen.len() == 1 { b' ' } else { b',' });
        escape(out, key, b",= ");
        out.push(b'=');
        append_value(out, key, value)?;
    }
    if seen.is_empty() {
        return Err(EncodeError::NoFields { measurement: measurement.to_owned() });
    }

    let nanos = time.as_nanos();
    if !(-TIME_NANOS_MAX..=TIME_NANOS_MAX).contains(&nanos) {
        return Err(EncodeError::TimeOutOfRange { nanos });
    }
    append_display(out, format_args!(" {nanos}"));
    Ok(())
}

fn append_value(out: &mut Vec<u8>, key: &str, value: &FieldValue) -> Result<(), EncodeError> {
    match value {
        FieldValue::Float(number) if number.is_finite() => append_display(out, format_args!("{number:?}")),
        FieldValue::Float(number) => {
            return Err(EncodeError::NotFinite { field: key.to_owned(), value: number.to_string() });
        }
        FieldValue::Integer(number) => append_display(out, format_args!("{number}i")),
        FieldValue::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        FieldValue::Text(text) => {
            out.push(b'"');
            escape(out, text, b"\"\\");
            out.push(b'"');
        }
    }
    Ok(())
}

fn append_display(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // writing into memory does not fail
    let _ = out.write_fmt(text);
}

fn escape(out: &mut Vec<u8>, text: &str, special: &[u8]) {
    for &byte in text.as_bytes() {
        if special.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

fn wrong(part: NamePart, text: &str, problem: Problem) -> EncodeError {
    EncodeError::Name { part, text: text.escape_default().take(128).collect(), problem }
}

fn check_key<'a>(part: NamePart, key: &'a str, seen: &mut Vec<&'a str>) -> Result<(), EncodeError> {
    check_name(part, key)?;
    if key == TIME_COLUMN {
        return Err(wrong(part, key, Problem::Reserved));
    }
    if seen.contains(&key) {
        return Err(wrong(part, key, Problem::Twice));
    }
    seen.push(key);
    Ok(())
}

fn check_name(part: NamePart, name: &str) -> Result<(), EncodeError> {
    if name.is_empty() {
        return Err(wrong(part, name, Problem::Empty));
    }
    if name.chars().any(char::is_control) {
        return Err(wrong(part, name, Problem::ControlCharacter));
    }
    let bytes = name.as_bytes();
    let escapes = |(at, byte): (usize, &u8)| {
        *byte == b'\\' && bytes.get(at + 1).is_none_or(|next| matches!(next, b'\\' | b',' | b'=' | b' ' | b'"'))
    };
    if bytes.iter().enumerate().any(escapes) {
        return Err(wrong(part, name, Problem::Backslash));
    }
    Ok(())
}

fn check_tag_value(key: &str, value: &str) -> Result<(), EncodeError> {
    let problem = if value.chars().any(char::is_control) {
        Problem::ControlCharacter
    } else if value.ends_with('\\') {
        Problem::Backslash
    } else {
        return Ok(());
    };
    Err(wrong(NamePart::TagValue, &format!("{key}={value}"), problem))
}
