//! One reading: what was measured, when it was published, and which of the publisher's readings it is.

use std::borrow::Cow;

use crate::time::Timestamp;

/// The number of a reading within one incarnation of its publisher; the first is 1.
pub type Sequence = u64;

/// A value that InfluxDB can hold. A float is always finite.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// A finite 64-bit float.
    Float(f64),
    /// A 64-bit signed integer; stays an integer in the database.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// Text.
    Text(String),
}

/// One row on its way to the database. `T` is what its names are: texts of their own, or [`Cow`]s of the message that
/// it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading<T = String> {
    /// Its number, for delivery and the ledger.
    pub sequence: Sequence,
    /// When it was published; distinct for every row of a publisher.
    pub time: Timestamp,
    /// The measurement that it belongs to.
    pub measurement: T,
    /// Tags beyond `publisher` and `host`, which the writer adds.
    pub tags: Vec<(T, T)>,
    /// At least one field.
    pub fields: Vec<(T, FieldValue)>,
}

impl Reading<Cow<'_, str>> {
    /// The same with texts of its own.
    #[must_use]
    pub fn into_owned(self) -> Reading {
        let Self { sequence, time, measurement, tags, fields } = self;
        Reading {
            sequence,
            time,
            measurement: measurement.into_owned(),
            tags: tags.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect(),
            fields: fields.into_iter().map(|(key, value)| (key.into_owned(), value)).collect(),
        }
    }
}

impl Reading {
    /// The same as it would be read from a message.
    #[must_use]
    pub fn into_cow<'a>(self) -> Reading<Cow<'a, str>> {
        let Self { sequence, time, measurement, tags, fields } = self;
        Reading {
            sequence,
            time,
            measurement: measurement.into(),
            tags: tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            fields: fields.into_iter().map(|(key, value)| (key.into(), value)).collect(),
        }
    }
}

/// Whether a text has a line break, a tab or another control character: no name in a row may.
#[must_use]
pub fn has_control_character(text: &str) -> bool {
    if text.is_ascii() { text.bytes().any(|byte| byte.is_ascii_control()) } else { text.contains(char::is_control) }
}
