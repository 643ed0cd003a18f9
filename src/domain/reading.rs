//! One reading: what was measured, when it was published, and which of the publisher's readings it is.

use crate::domain::time::Timestamp;

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

/// One row on its way to the database.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Its number, for delivery and the ledger.
    pub sequence: Sequence,
    /// When it was published; distinct for every row of a publisher.
    pub time: Timestamp,
    /// The measurement that it belongs to.
    pub measurement: String,
    /// Tags beyond `publisher` and `host`, which the writer adds.
    pub tags: Vec<(String, String)>,
    /// At least one field.
    pub fields: Vec<(String, FieldValue)>,
}
