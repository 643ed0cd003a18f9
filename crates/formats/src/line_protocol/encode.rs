//! Readings → rows.

use std::fmt;
use std::io::Write as _;

use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading, has_control_character};
use heartwatch_domain::time::Timestamp;

/// The largest time that InfluxDB takes, in nanoseconds; the smallest is its negative.
const TIME_NANOS_MAX: i64 = i64::MAX - 1;

/// The column that InfluxDB keeps for the time.
const TIME_COLUMN: &str = "time";

/// Which part of a row a text stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamePart {
    /// What stands before the tags.
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
        /// Whose value cannot be written.
        field: String,
        /// `NaN`, `inf` or `-inf`.
        value: String,
    },
    /// A row needs at least one field.
    #[error("a row of '{measurement}' has no field")]
    NoFields {
        /// Whose row cannot be written.
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
    tags: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    fields: impl Iterator<Item = (&'a str, &'a FieldValue)> + Clone,
    time: Timestamp,
) -> Result<(), EncodeError> {
    or_nothing(out, |out| {
        append_series(out, measurement, tags)?;
        append_point(out, measurement, fields, time)
    })
}

/// Appends a reading as a row: tags `publisher` and `host` and the reading's own, sorted by name.
/// A tag of the reading that is itself called `publisher` or `host` becomes `source_publisher` or
/// `source_host`.
///
/// # Errors
/// [`EncodeError`]; `out` is as it was.
pub fn encode_reading<T: AsRef<str> + PartialEq>(
    out: &mut Vec<u8>,
    publisher: &PublisherId,
    host: &HostName,
    reading: &Reading<T>,
) -> Result<(), EncodeError> {
    ReadingEncoder::new(publisher, host).encode(out, reading)
}

/// Under which name a tag of a source's own is kept: the monitor sets `publisher` and `host` itself.
#[must_use]
pub fn source_tag(key: &str) -> &str {
    match key {
        "publisher" => "source_publisher",
        "host" => "source_host",
        key => key,
    }
}

/// [`encode_reading`] for many readings of one publisher: most belong to the series of the one before, and what stands
/// in front of the fields is copied then.
#[derive(Debug)]
pub struct ReadingEncoder<'r, T = String> {
    publisher: &'r PublisherId,
    host: &'r HostName,
    /// The last reading that was encoded.
    last: Option<&'r Reading<T>>,
    /// Its measurement and tags as they were written; empty before the second reading of them.
    series: Vec<u8>,
}

impl<'r, T: AsRef<str> + PartialEq> ReadingEncoder<'r, T> {
    /// For readings of this publisher.
    #[must_use]
    pub const fn new(publisher: &'r PublisherId, host: &'r HostName) -> Self {
        Self { publisher, host, last: None, series: Vec::new() }
    }

    /// Appends the next reading, as [`encode_reading`] does.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is as it was.
    pub fn encode(&mut self, out: &mut Vec<u8>, reading: &'r Reading<T>) -> Result<(), EncodeError> {
        or_nothing(out, |out| {
            let of_last = |last: &Reading<T>| last.measurement == reading.measurement && last.tags == reading.tags;
            let is_of_last = self.last.is_some_and(of_last);
            if is_of_last && !self.series.is_empty() {
                out.extend_from_slice(&self.series);
            } else {
                let begin = out.len();
                self.append_series(out, reading)?;
                self.series.clear();
                // one reading alone, as many messages have, is not worth a copy
                if is_of_last {
                    self.series.extend_from_slice(out.get(begin..).unwrap_or_default());
                }
                self.last = Some(reading);
            }
            let fields = reading.fields.iter().map(|(key, value)| (key.as_ref(), value));
            append_point(out, reading.measurement.as_ref(), fields, reading.time)
        })
    }

    fn append_series(&self, out: &mut Vec<u8>, reading: &Reading<T>) -> Result<(), EncodeError> {
        let own = [("host", self.host.as_str()), ("publisher", self.publisher.as_str())];
        if reading.tags.is_empty() {
            return append_series(out, reading.measurement.as_ref(), own.iter().copied());
        }
        let mut tags: Vec<(&str, &str)> = Vec::with_capacity(reading.tags.len() + own.len());
        tags.extend(own);
        tags.extend(reading.tags.iter().map(|(key, value)| (source_tag(key.as_ref()), value.as_ref())));
        tags.sort_unstable();
        append_series(out, reading.measurement.as_ref(), tags.iter().copied())
    }
}

/// Whether a reading can be a row, for a publisher to find out before it gives the reading a number.
///
/// # Errors
/// [`EncodeError`], as [`encode_reading`] would give it.
pub fn check_reading(reading: &Reading) -> Result<(), EncodeError> {
    let tags = reading.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let fields = reading.fields.iter().map(|(key, value)| (key.as_str(), value));
    encode(&mut Vec::new(), &reading.measurement, tags, fields, reading.time)
}

/// Leaves `out` as it was where it fails.
fn or_nothing(
    out: &mut Vec<u8>,
    append: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let begin = out.len();
    let result = append(out);
    if result.is_err() {
        out.truncate(begin);
    }
    result
}

/// What stands in front of the fields.
fn append_series<'a>(
    out: &mut Vec<u8>,
    measurement: &str,
    tags: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<(), EncodeError> {
    check_name(NamePart::Measurement, measurement)?;
    if measurement.starts_with('#') {
        return Err(wrong(NamePart::Measurement, measurement, Problem::LeadingHash));
    }
    escape(out, measurement, b", ");
    let all = tags.clone();
    for (index, (key, value)) in tags.enumerate() {
        check_key(NamePart::TagKey, key, all.clone().take(index).map(|(key, _)| key))?;
        if value.is_empty() {
            continue;
        }
        check_tag_value(key, value)?;
        out.push(b',');
        escape(out, key, b",= ");
        out.push(b'=');
        escape(out, value, b",= ");
    }
    Ok(())
}

/// The fields and the time.
fn append_point<'a>(
    out: &mut Vec<u8>,
    measurement: &str,
    fields: impl Iterator<Item = (&'a str, &'a FieldValue)> + Clone,
    time: Timestamp,
) -> Result<(), EncodeError> {
    let begin = out.len();
    let all = fields.clone();
    for (index, (key, value)) in fields.enumerate() {
        check_key(NamePart::FieldKey, key, all.clone().take(index).map(|(key, _)| key))?;
        out.push(if index == 0 { b' ' } else { b',' });
        escape(out, key, b",= ");
        out.push(b'=');
        append_value(out, key, value)?;
    }
    if out.len() == begin {
        return Err(EncodeError::NoFields { measurement: measurement.to_owned() });
    }

    let nanos = time.as_nanos();
    if !(-TIME_NANOS_MAX..=TIME_NANOS_MAX).contains(&nanos) {
        return Err(EncodeError::TimeOutOfRange { nanos });
    }
    out.push(b' ');
    append_integer(out, nanos);
    Ok(())
}

fn append_value(out: &mut Vec<u8>, key: &str, value: &FieldValue) -> Result<(), EncodeError> {
    match value {
        FieldValue::Float(number) if number.is_finite() => {
            // writing into memory does not fail
            let _ = write!(out, "{number:?}");
        }
        FieldValue::Float(number) => {
            return Err(EncodeError::NotFinite { field: key.to_owned(), value: number.to_string() });
        }
        FieldValue::Integer(number) => {
            append_integer(out, *number);
            out.push(b'i');
        }
        FieldValue::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        FieldValue::Text(text) => {
            out.push(b'"');
            escape(out, text, b"\"\\");
            out.push(b'"');
        }
    }
    Ok(())
}

fn append_integer(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn escape(out: &mut Vec<u8>, text: &str, special: &[u8]) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| special.contains(byte)) {
        let (plain, escaped) = rest.split_at(at);
        out.extend_from_slice(plain);
        out.push(b'\\');
        out.extend_from_slice(escaped.get(..1).unwrap_or_default());
        rest = escaped.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

fn wrong(part: NamePart, text: &str, problem: Problem) -> EncodeError {
    EncodeError::Name { part, text: text.escape_default().take(128).collect(), problem }
}

fn check_key<'a>(part: NamePart, key: &str, mut before: impl Iterator<Item = &'a str>) -> Result<(), EncodeError> {
    check_name(part, key)?;
    if key == TIME_COLUMN {
        return Err(wrong(part, key, Problem::Reserved));
    }
    if before.any(|earlier| earlier == key) {
        return Err(wrong(part, key, Problem::Twice));
    }
    Ok(())
}

fn check_name(part: NamePart, name: &str) -> Result<(), EncodeError> {
    if name.is_empty() {
        return Err(wrong(part, name, Problem::Empty));
    }
    if has_control_character(name) {
        return Err(wrong(part, name, Problem::ControlCharacter));
    }
    let bytes = name.as_bytes();
    if !bytes.contains(&b'\\') {
        return Ok(());
    }
    let escapes = |(at, byte): (usize, &u8)| {
        *byte == b'\\' && bytes.get(at + 1).is_none_or(|next| matches!(next, b'\\' | b',' | b'=' | b' ' | b'"'))
    };
    if bytes.iter().enumerate().any(escapes) {
        return Err(wrong(part, name, Problem::Backslash));
    }
    Ok(())
}

fn check_tag_value(key: &str, value: &str) -> Result<(), EncodeError> {
    let problem = if has_control_character(value) {
        Problem::ControlCharacter
    } else if value.ends_with('\\') {
        Problem::Backslash
    } else {
        return Ok(());
    };
    Err(wrong(NamePart::TagValue, &format!("{key}={value}"), problem))
}
