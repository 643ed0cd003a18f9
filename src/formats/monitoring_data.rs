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

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::publisher::{HostName, Incarnation, PublisherId};
use crate::domain::reading::{FieldValue, Reading, Sequence};
use crate::domain::sequence::SEQUENCE_MAX;
use crate::domain::time::Timestamp;

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// Most bytes of one message that are looked at.
pub const MESSAGE_BYTES_MAX: usize = 1_048_576;

/// The topic of Kafka.
pub const TOPIC: &str = "monitoring-data";

/// The topic of a delivery that is such a message. No MQTT client can send to it: we do not subscribe to it.
pub const DELIVERY_TOPIC: &str = "$kafka/monitoring-data";

/// The fields of a row that carry its number and incarnation to [`messages_of_row`].
pub const SEQUENCE_FIELD: &str = "heartwatch_seq";
/// See [`SEQUENCE_FIELD`].
pub const INCARNATION_FIELD: &str = "heartwatch_incarnation";

/// The name of the field that stands for the whole reading.
const VALUE: &str = "value";

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
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
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
fn clean(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    let clean: String = text
        .trim()
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .take(crate::domain::publisher::NAME_BYTES_MAX)
        .collect();
    (!clean.is_empty()).then_some(clean)
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
pub struct Measured {
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
    pub fn measured(self) -> Result<Measured, MonitoringDataError> {
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
            return Ok(Measured { publisher, host, incarnation, reading: None });
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
        Ok(Measured { publisher, host, incarnation, reading: Some(reading) })
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

/// A field's value as a number, where it is one.
#[expect(clippy::cast_precision_loss, reason = "the protocol has only floats; `fields` has the whole number")]
const fn number(value: &FieldValue) -> Option<f64> {
    match value {
        FieldValue::Float(value) => Some(*value),
        FieldValue::Integer(value) => Some(*value as f64),
        FieldValue::Boolean(true) => Some(1.0),
        FieldValue::Boolean(false) => Some(0.0),
        FieldValue::Text(_) => None,
    }
}

/// The messages of a reading, at least one. `incarnation` none: it has no numbers.
#[must_use]
pub fn messages(
    publisher: &PublisherId,
    host: &HostName,
    incarnation: Option<Incarnation>,
    reading: &Reading,
) -> Vec<MonitoringData> {
    let nanos = reading.time.as_nanos();
    let one = |metric: String, value: f64| MonitoringData {
        timestamp: nanos.div_euclid(NANOS),
        client_id: publisher.as_str().to_owned(),
        hostname: host.as_str().to_owned(),
        metric,
        value,
        time_ns: Some(nanos),
        seq: incarnation.map(|_| reading.sequence),
        incarnation: incarnation.map(|incarnation| incarnation.0),
        measurement: None,
        fields: None,
        tags: reading.tags.iter().cloned().collect(),
        part: None,
    };
    let numeric = reading.fields.iter().filter_map(|(key, value)| Some((key, number(value)?)));
    let mut messages: Vec<MonitoringData> = numeric
        .enumerate()
        .map(|(index, (key, value))| {
            let metric =
                if key == VALUE { reading.measurement.clone() } else { format!("{}_{key}", reading.measurement) };
            MonitoringData { part: (index > 0).then_some(index + 1), ..one(metric, value) }
        })
        .collect();
    if messages.is_empty() {
        messages.push(one(reading.measurement.clone(), 0.0));
    }
    let plain = matches!(reading.fields.as_slice(), [(key, FieldValue::Float(_))] if key == VALUE);
    if !plain && let Some(first) = messages.first_mut() {
        first.measurement = (first.metric != reading.measurement).then(|| reading.measurement.clone());
        first.fields = Some(reading.fields.iter().map(|(key, value)| (key.clone(), json(value))).collect());
    }
    messages
}

/// A reading whose row carries its number through the journal, to [`messages_of_row`].
#[must_use]
pub fn with_numbers<'t, T>(mut reading: Reading<T>, incarnation: Incarnation) -> Reading<T>
where
    T: AsRef<str> + From<&'t str>,
{
    let numbers = i64::try_from(reading.sequence).ok().zip(i64::try_from(incarnation.0).ok());
    reading.fields.retain(|(key, _)| ![SEQUENCE_FIELD, INCARNATION_FIELD].contains(&key.as_ref()));
    if let Some((sequence, incarnation)) = numbers {
        reading.fields.push((SEQUENCE_FIELD.into(), FieldValue::Integer(sequence)));
        reading.fields.push((INCARNATION_FIELD.into(), FieldValue::Integer(incarnation)));
    }
    reading
}

/// The messages of a row in line protocol; none for a row without a number: a server's own, about itself or made of what
/// goes on as a sign of life.
///
/// # Errors
/// Why it cannot be one, in words.
pub fn messages_of_row(row: &[u8]) -> Result<Vec<MonitoringData>, String> {
    let row = crate::formats::line_protocol::decode(row).map_err(|error| error.to_string())?;
    let number = |name: &str| {
        let found = row.fields.iter().find(|(key, _)| key == name);
        found.and_then(
            |(_, value)| if let FieldValue::Integer(number) = value { u64::try_from(*number).ok() } else { None },
        )
    };
    let Some((sequence, incarnation)) = number(SEQUENCE_FIELD).zip(number(INCARNATION_FIELD)) else {
        return Ok(Vec::new());
    };
    let (mut publisher, mut host, mut tags) = (None, None, Vec::new());
    for (key, value) in row.tags {
        match key.as_str() {
            "publisher" => publisher = Some(value),
            "host" => host = Some(value),
            // as the row was written: see `line_protocol::encode_reading`
            "source_publisher" => tags.push(("publisher".to_owned(), value)),
            "source_host" => tags.push(("host".to_owned(), value)),
            _ => tags.push((key, value)),
        }
    }
    let publisher = publisher_of(publisher.as_deref().unwrap_or_default()).map_err(|error| error.to_string())?;
    let host = host_of(host.as_deref().unwrap_or_default()).map_err(|error| error.to_string())?;
    let mut fields = row.fields;
    fields.retain(|(key, _)| key != SEQUENCE_FIELD && key != INCARNATION_FIELD);
    let time = row.time.ok_or("the row has no time")?;
    let reading = Reading { sequence, time, measurement: row.measurement, tags, fields };
    Ok(messages(&publisher, &host, Some(Incarnation(incarnation)), &reading))
}

fn json(value: &FieldValue) -> Value {
    match value {
        FieldValue::Float(value) => Value::from(*value),
        FieldValue::Integer(value) => Value::from(*value),
        FieldValue::Boolean(value) => Value::from(*value),
        FieldValue::Text(text) => Value::from(text.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(fields: &[(&str, FieldValue)]) -> Reading {
        Reading {
            sequence: 9,
            time: Timestamp::from_nanos(1_763_683_203_214_000_001),
            measurement: "cpu".to_owned(),
            tags: vec![("room".to_owned(), "a".to_owned())],
            fields: fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        }
    }

    fn of(fields: &[(&str, FieldValue)]) -> Vec<MonitoringData> {
        let (publisher, host) = (PublisherId::parse("agent-1").unwrap(), HostName::parse("h").unwrap());
        messages(&publisher, &host, Some(Incarnation(17)), &reading(fields))
    }

    #[test]
    fn an_agents_value_is_the_json_that_existing_consoles_read() {
        let messages = of(&[("value", FieldValue::Float(5.0))]);
        let [message] = messages.as_slice() else { panic!("{messages:?}") };
        let json = String::from_utf8(encode(message)).unwrap();
        assert_eq!(
            json,
            r#"{"timestamp":1763683203,"client_id":"agent-1","hostname":"h","metric":"cpu","value":5.0,"time_ns":1763683203214000001,"seq":9,"incarnation":17,"tags":{"room":"a"}}"#
        );
    }

    #[test]
    fn every_reading_comes_back_as_what_it_was() {
        let whole = [
            vec![("value", FieldValue::Float(0.1))],
            vec![("value", FieldValue::Integer(i64::MAX))],
            vec![("a", FieldValue::Float(5.0)), ("b", FieldValue::Integer(5)), ("c", FieldValue::Boolean(true))],
            vec![("t", FieldValue::Text("x\n\"y\"".to_owned()))],
        ];
        for fields in whole {
            let mut back = Vec::new();
            for message in of(&fields) {
                let measured = decode(&encode(&message)).unwrap().measured().unwrap();
                assert_eq!(measured.incarnation, Some(Incarnation(17)));
                back.extend(measured.reading);
            }
            assert_eq!(back, [reading(&fields)]);
        }
        let metrics: Vec<_> = of(&[("value", FieldValue::Integer(1)), ("b", FieldValue::Boolean(true))])
            .into_iter()
            .map(|message| (message.metric, message.value))
            .collect();
        assert_eq!(metrics, [("cpu".to_owned(), 1.0), ("cpu_b".to_owned(), 1.0)]);
    }

    #[test]
    fn a_row_of_the_journal_keeps_its_number() {
        use crate::formats::line_protocol::encode_reading;
        let (publisher, host) = (PublisherId::parse("agent-1").unwrap(), HostName::parse("h").unwrap());
        let mut reading = reading(&[("value", FieldValue::Float(5.0))]);
        reading.tags.insert(0, ("host".to_owned(), "other".to_owned()));
        let mut row = Vec::new();
        encode_reading(&mut row, &publisher, &host, &with_numbers(reading.clone(), Incarnation(17))).unwrap();
        let mut messages = messages_of_row(&row).unwrap();
        assert_eq!(messages.len(), 1);
        let measured = messages.remove(0).measured().unwrap();
        reading.tags.sort();
        assert_eq!((measured.incarnation, measured.reading), (Some(Incarnation(17)), Some(reading)));
        assert_eq!(messages_of_row(b"heartwatch_heartbeat,host=h,publisher=p seq=1i 5"), Ok(Vec::new()));
        assert_eq!(messages_of_row(b"batch_sending_error,host=h,publisher=p value=1i 5"), Ok(Vec::new()));
        let numbers = "heartwatch_seq=1i,heartwatch_incarnation=1i";
        assert!(messages_of_row(format!("cpu,publisher=p,host=h value=1,{numbers}").as_bytes()).is_err(), "no time");
        assert!(messages_of_row(format!("cpu,publisher=p value=1,{numbers} 5").as_bytes()).is_err(), "no host");
        assert!(messages_of_row(b"nonsense").is_err());
    }

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
