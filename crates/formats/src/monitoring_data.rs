//! One measured value as existing agents, servers and consoles write it: over gRPC `MonitoringData`, on
//! Kafka's topic `monitoring-data` a JSON object. Their keys are never renamed or dropped; ours are added,
//! and who does not know them ignores them.
//!
//! ```text
//! {"timestamp":1763683203,"client_id":"agent-1","hostname":"h","metric":"cpu","value":12.5,
//!  "time_ns":1763683203214000000,"seq":9,"incarnation":17,"fields":{"value":12.5},"tags":{"room":"a"}}
//! ```
//!
//! - `timestamp` is in whole seconds since 1970, `time_ns` the same instant in nanoseconds.
//! - `seq` and `incarnation` number the reading within a life of its publisher, so that a copy of it is
//!   recognised. A message without them is a foreign writer's.
//! - A reading of one numeric field `value` is one message. One with more or other fields is one message for each
//!   numeric field, so that a reader that knows only `metric` and `value` sees them all: `metric` is
//!   `measurement` for the field `value`, else `measurement_field`. Booleans are 0 and 1. The first of them
//!   has all `fields` and its `measurement`; the others have `"part": n` (2 and more), and who reads `fields` skips them.
//!   A reading without any numeric field is one message with the value 0 and its `fields`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use heartwatch_domain::publisher::{HostName, Incarnation, NAME_BYTES_MAX, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading, Sequence};
use heartwatch_domain::sequence::SEQUENCE_MAX;
use heartwatch_domain::time::Timestamp;

/// Nanoseconds in a second.
pub(super) const NANOS: i64 = 1_000_000_000;

/// Most bytes of one message that are looked at.
pub const MESSAGE_BYTES_MAX: usize = 1_048_576;

/// The topic of Kafka.
pub const TOPIC: &str = "monitoring-data";

/// The topic of a delivery that is such a message. No MQTT client can send to it: we do not subscribe to it.
pub const DELIVERY_TOPIC: &str = "$kafka/monitoring-data";

/// The name of the field that stands for the whole reading.
pub(super) const VALUE: &str = "value";

/// One message of `monitoring-data`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonitoringData {
    /// Whole seconds since 1970.
    #[serde(deserialize_with = "seconds")]
    pub timestamp: i64,
    /// Who measured: a publisher's id, or a text from outside.
    pub client_id: String,
    /// Where.
    pub hostname: String,
    /// What.
    pub metric: String,
    /// How much.
    pub value: f64,
    /// The same time in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ns: Option<i64>,
    /// The reading's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Sequence>,
    /// Which life of its publisher numbered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// The reading's measurement, where `metric` is not just that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measurement: Option<String>,
    /// All of its fields, where they are more than `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, Value>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    /// By name; each is a string.
    pub tags: BTreeMap<String, String>,
    /// Which of the messages of one reading this is, from 2 on; the first does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<usize>,
}

/// Some writers put a float there.
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = number.as_i64().or_else(|| number.as_f64().and_then(whole_seconds));
    whole.ok_or_else(|| serde::de::Error::custom(format!("timestamp {number} is not in seconds since 1970")))
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn whole_seconds(seconds: f64) -> Option<i64> {
    (seconds.is_finite() && seconds.abs() < 1e10).then_some(seconds as i64)
}

/// Why a message cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MonitoringDataError {
    /// It is not the JSON object that the topic promises.
    #[error(
        "this is not a reading ({reason}); right is \
         {{\"timestamp\": 1763683203, \"client_id\": \"agent-1\", \"hostname\": \"h\", \"metric\": \"cpu\", \"value\": 12.5}}"
    )]
    Shape {
        /// What serde says.
        reason: String,
    },
    /// It is too long.
    #[error("it has {bytes} bytes, the limit is {MESSAGE_BYTES_MAX} bytes")]
    Oversized {
        /// How long.
        bytes: usize,
    },
    /// Nobody is named.
    #[error("'{key}' is empty: it says who measured and where")]
    Nameless {
        /// Which key.
        key: &'static str,
    },
    /// A field has a value that no field can have.
    #[error("field '{field}' is neither a number, nor true or false, nor a text")]
    Field {
        /// Which.
        field: String,
    },
    /// Its time is beyond what nanoseconds in 64 bits hold.
    #[error("timestamp {timestamp} is not in seconds since 1970")]
    Time {
        /// The time.
        timestamp: i64,
    },
}

impl MonitoringDataError {
    /// Whether it was only too large.
    #[must_use]
    pub const fn is_oversized(&self) -> bool {
        matches!(self, Self::Oversized { .. })
    }
}

/// Who a name from outside stands for: a character that cannot be in a publisher's id or a host's name becomes
/// `-`, and what is beyond 96 bytes is left out. None: nothing is left of it.
pub(super) fn clean(text: &str) -> Option<Cow<'_, str>> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    let text = text.trim();
    if text.len() <= NAME_BYTES_MAX && text.chars().all(allowed) {
        return (!text.is_empty()).then_some(Cow::Borrowed(text));
    }
    Some(text.chars().map(|c| if allowed(c) { c } else { '-' }).take(NAME_BYTES_MAX).collect())
}

/// The publisher that an existing agent's `client_id` stands for.
///
/// # Errors
/// [`MonitoringDataError::Nameless`] when it is empty.
pub fn publisher_of(client_id: &str) -> Result<PublisherId, MonitoringDataError> {
    let nameless = MonitoringDataError::Nameless { key: "client_id" };
    clean(client_id).and_then(|clean| PublisherId::parse(&clean).ok()).ok_or(nameless)
}

/// The host that an existing agent's `hostname` stands for.
///
/// # Errors
/// [`MonitoringDataError::Nameless`] when it is empty.
pub fn host_of(hostname: &str) -> Result<HostName, MonitoringDataError> {
    let nameless = MonitoringDataError::Nameless { key: "hostname" };
    clean(hostname).and_then(|clean| HostName::parse(&clean).ok()).ok_or(nameless)
}

/// A message, read: whose reading it is.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributedReading {
    /// Whose.
    pub publisher: PublisherId,
    /// Where it runs.
    pub host: HostName,
    /// Which life numbered it; none for a foreign writer's, whose reading has the number 0.
    pub incarnation: Option<Incarnation>,
    /// The reading. None for a part of one whose first message has it all.
    pub reading: Option<Reading>,
}

/// Reads one message.
///
/// # Errors
/// [`MonitoringDataError`], which says what would be right.
pub fn decode(payload: &[u8]) -> Result<MonitoringData, MonitoringDataError> {
    if payload.len() > MESSAGE_BYTES_MAX {
        return Err(MonitoringDataError::Oversized { bytes: payload.len() });
    }
    serde_json::from_slice(payload).map_err(|error| MonitoringDataError::Shape { reason: error.to_string() })
}

/// As the JSON of the topic.
#[must_use]
pub fn encode(data: &MonitoringData) -> Vec<u8> {
    // A map with text keys and no number that JSON lacks: `value` is checked where a reading is made.
    serde_json::to_vec(data).unwrap_or_default()
}

impl MonitoringData {
    /// What it means.
    ///
    /// # Errors
    /// [`MonitoringDataError`], which says what would be right.
    pub fn measured(self) -> Result<AttributedReading, MonitoringDataError> {
        let publisher = publisher_of(&self.client_id)?;
        let host = host_of(&self.hostname)?;
        let nanos = match self.time_ns {
            Some(nanos) => Some(nanos),
            None => self.timestamp.checked_mul(NANOS),
        };
        let time = nanos.ok_or(MonitoringDataError::Time { timestamp: self.timestamp })?;
        let numbers = self.seq.filter(|seq| (1..=SEQUENCE_MAX).contains(seq)).zip(self.incarnation);
        let incarnation = numbers.map(|(_, incarnation)| Incarnation(incarnation));
        if self.part.is_some() {
            return Ok(AttributedReading { publisher, host, incarnation, reading: None });
        }
        let fields = match self.fields {
            Some(fields) => fields.into_iter().map(|(key, value)| field(key, value)).collect::<Result<_, _>>()?,
            None => vec![(VALUE.to_owned(), FieldValue::Float(self.value))],
        };
        let reading = Reading {
            sequence: numbers.map_or(0, |(sequence, _)| sequence),
            time: Timestamp::from_nanos(time),
            measurement: self.measurement.unwrap_or(self.metric),
            tags: self.tags.into_iter().collect(),
            fields,
        };
        Ok(AttributedReading { publisher, host, incarnation, reading: Some(reading) })
    }
}

fn field(key: String, value: Value) -> Result<(String, FieldValue), MonitoringDataError> {
    let value = match value {
        Value::Bool(value) => Some(FieldValue::Boolean(value)),
        Value::String(text) => Some(FieldValue::Text(text)),
        Value::Number(number) => {
            number.as_i64().map(FieldValue::Integer).or_else(|| number.as_f64().map(FieldValue::Float))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Some(value) => Ok((key, value)),
        None => Err(MonitoringDataError::Field { field: key.chars().take(100).collect() }),
    }
}

/// A field's value as a number, where it is one; the protocol has only floats, and `fields` has the whole number.
const fn number(value: &FieldValue) -> Option<f64> {
    match value {
        FieldValue::Float(value) => Some(*value),
        FieldValue::Integer(value) => Some(*value as f64),
        FieldValue::Boolean(true) => Some(1.0),
        FieldValue::Boolean(false) => Some(0.0),
        FieldValue::Text(_) => None,
    }
}

/// What one message says of a reading, for a reader that knows only `metric` and `value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Part<'a> {
    /// What was measured.
    pub metric: Cow<'a, str>,
    /// How much; 0 where the reading has no number.
    pub value: f64,
}

/// The messages of a reading, at least one.
pub fn parts<'a, K: AsRef<str>>(
    measurement: &'a str,
    fields: &'a [(K, FieldValue)],
) -> impl Iterator<Item = Part<'a>> + use<'a, K> {
    let numeric = |(key, value): &'a (K, FieldValue)| Some((key.as_ref(), number(value)?));
    let numbers = fields.iter().filter_map(numeric).map(move |(key, value)| Part {
        metric: if key == VALUE { Cow::Borrowed(measurement) } else { Cow::Owned(format!("{measurement}_{key}")) },
        value,
    });
    let none = (!has_number(fields)).then_some(Part { metric: Cow::Borrowed(measurement), value: 0.0 });
    numbers.chain(none)
}

/// Whether a reading has a number in it.
#[must_use]
pub fn has_number<K>(fields: &[(K, FieldValue)]) -> bool {
    fields.iter().any(|(_, value)| number(value).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_writers_message_is_read_and_a_wrong_one_named() {
        let old = br#"{"timestamp": 1763683203, "client_id": "agent 1/x", "hostname": "h", "metric": "cpu", "value": 7, "new": 1}"#;
        let measured = decode(old).unwrap().measured().unwrap();
        assert_eq!(measured.publisher.as_str(), "agent-1-x");
        assert_eq!(measured.incarnation, None);
        let read = measured.reading.unwrap();
        assert_eq!(read.time.as_nanos(), 1_763_683_203_000_000_000);
        assert_eq!(read.fields, [("value".to_owned(), FieldValue::Float(7.0))]);
        for (wrong, says) in [
            ("nonsense", "right is"),
            (r#"{"timestamp": 1, "client_id": "a", "hostname": "h", "metric": "m", "value": "x"}"#, "right is"),
            (r#"{"timestamp": 1, "client_id": " ", "hostname": "h", "metric": "m", "value": 1}"#, "client_id"),
            (r#"{"timestamp": 1, "client_id": "a", "hostname": "", "metric": "m", "value": 1}"#, "hostname"),
            (
                r#"{"timestamp": 99999999999999, "client_id": "a", "hostname": "h", "metric": "m", "value": 1}"#,
                "seconds",
            ),
            (
                r#"{"timestamp": 1, "client_id": "a", "hostname": "h", "metric": "m", "value": 1, "fields": {"f": []}}"#,
                "'f'",
            ),
        ] {
            let error = decode(wrong.as_bytes()).and_then(MonitoringData::measured).unwrap_err().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
