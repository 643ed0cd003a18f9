//! Rows of a server's journal → messages of Kafka's topic `monitoring-data`, as [`super::monitoring_data`] describes them.
//!
//! A reading's number rides in two fields of its row. This is the path of every row, so the JSON is written straight
//! from the row's bytes.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::line_protocol::{BorrowedRow, decode_borrowed};
use super::monitoring_data::{MonitoringDataError, NANOS, VALUE, clean, parts};
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::{FieldValue, Reading, Sequence};

/// The fields of a row that carry its number and incarnation.
const SEQUENCE_FIELD: &str = "heartwatch_seq";
/// See [`SEQUENCE_FIELD`].
const INCARNATION_FIELD: &str = "heartwatch_incarnation";

/// A reading whose row carries its number through the journal, to [`Messages::push_row`].
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

/// Messages with their keys, one after the other in one buffer.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    /// Where each one's key ends, and where its payload does.
    ends: Vec<(usize, usize)>,
}

impl Messages {
    /// None, with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::new() }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One of them: its key, which is the host, and its payload.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let &(key_end, end) = self.ends.get(index)?;
        let begin = index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |(_, end)| *end);
        Some((self.bytes.get(begin..key_end)?, self.bytes.get(key_end..end)?))
    }

    /// Adds those of a row in line protocol; none for a row without a number: a server's own, about itself or made of what
    /// goes on as a sign of life.
    ///
    /// # Errors
    /// Why it cannot be one, in words. Nothing was added then.
    pub fn push_row(&mut self, row: &[u8]) -> Result<(), String> {
        let mut row = decode_borrowed(row).map_err(|error| error.to_string())?;
        let Some((sequence, incarnation)) = take_numbers(&mut row) else { return Ok(()) };
        let BorrowedRow { measurement, tags, fields, time } = row;
        let (mut publisher, mut host, mut own) = (None, None, Vec::new());
        for (key, value) in tags {
            match &*key {
                "publisher" => publisher = Some(value),
                "host" => host = Some(value),
                // as the row was written: see `line_protocol::encode_reading`
                "source_publisher" => own.push((Cow::Borrowed("publisher"), value)),
                "source_host" => own.push((Cow::Borrowed("host"), value)),
                _ => own.push((key, value)),
            }
        }
        let nameless = |key| MonitoringDataError::Nameless { key }.to_string();
        let client_id = publisher.as_deref().and_then(clean).ok_or_else(|| nameless("client_id"))?;
        let hostname = host.as_deref().and_then(clean).ok_or_else(|| nameless("hostname"))?;
        let nanos = time.ok_or("the row has no time")?.as_nanos();
        let plain = matches!(fields.as_slice(), [(key, FieldValue::Float(_))] if key == VALUE);
        for (index, part) in parts(&measurement, &fields).enumerate() {
            let has_all = index == 0 && !plain;
            let message = Message {
                timestamp: nanos.div_euclid(NANOS),
                client_id: &client_id,
                hostname: &hostname,
                metric: &part.metric,
                value: part.value,
                time_ns: nanos,
                seq: sequence,
                incarnation,
                measurement: (has_all && part.metric != measurement).then_some(&*measurement),
                fields: has_all.then_some(Fields(&fields)),
                tags: Tags(&own),
                part: (index > 0).then_some(index + 1),
            };
            self.bytes.extend_from_slice(hostname.as_bytes());
            let key_end = self.bytes.len();
            // Texts and finite numbers, into memory: it cannot fail.
            let _ = serde_json::to_writer(&mut self.bytes, &message);
            self.ends.push((key_end, self.bytes.len()));
        }
        Ok(())
    }
}

/// Takes a row's number and incarnation out of its fields; none where it has none.
fn take_numbers(row: &mut BorrowedRow<'_>) -> Option<(Sequence, u64)> {
    let (mut sequence, mut incarnation) = (None, None);
    row.fields.retain(|(key, value)| {
        let number = match &**key {
            SEQUENCE_FIELD => &mut sequence,
            INCARNATION_FIELD => &mut incarnation,
            _ => return true,
        };
        *number = if let FieldValue::Integer(value) = value { u64::try_from(*value).ok() } else { None };
        false
    });
    sequence.zip(incarnation)
}

/// As [`super::monitoring_data::MonitoringData`] is read.
#[derive(Serialize)]
struct Message<'a> {
    timestamp: i64,
    client_id: &'a str,
    hostname: &'a str,
    metric: &'a str,
    value: f64,
    time_ns: i64,
    seq: Sequence,
    incarnation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    measurement: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Fields<'a>>,
    #[serde(skip_serializing_if = "Tags::is_empty")]
    tags: Tags<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<usize>,
}

struct Tags<'a>(&'a [(Cow<'a, str>, Cow<'a, str>)]);

impl Tags<'_> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

struct Fields<'a>(&'a [(Cow<'a, str>, FieldValue)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            match value {
                FieldValue::Float(value) => map.serialize_entry(key, value)?,
                FieldValue::Integer(value) => map.serialize_entry(key, value)?,
                FieldValue::Boolean(value) => map.serialize_entry(key, value)?,
                FieldValue::Text(text) => map.serialize_entry(key, text)?,
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line_protocol::encode_reading;
    use crate::monitoring_data::{AttributedReading, decode};
    use heartwatch_domain::publisher::{HostName, PublisherId};
    use heartwatch_domain::time::Timestamp;

    fn reading(fields: &[(&str, FieldValue)]) -> Reading {
        Reading {
            sequence: 9,
            time: Timestamp::from_nanos(1_763_683_203_214_000_001),
            measurement: "cpu".to_owned(),
            tags: vec![("room".to_owned(), "a".to_owned())],
            fields: fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        }
    }

    fn row_of(reading: Reading) -> Vec<u8> {
        let (publisher, host) = (PublisherId::parse("agent-1").unwrap(), HostName::parse("h").unwrap());
        let mut row = Vec::new();
        encode_reading(&mut row, &publisher, &host, &with_numbers(reading, Incarnation(17))).unwrap();
        row
    }

    /// The payloads of a row's messages, each with the host as its key.
    fn payloads(row: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let mut messages = Messages::default();
        messages.push_row(row)?;
        let all = (0..messages.len()).map(|index| messages.get(index).unwrap());
        Ok(all.inspect(|(key, _)| assert_eq!(*key, b"h")).map(|(_, payload)| payload.to_vec()).collect())
    }

    fn measured(payload: &[u8]) -> AttributedReading {
        decode(payload).unwrap().measured().unwrap()
    }

    #[test]
    fn an_agents_value_is_the_json_that_existing_consoles_read() {
        let payloads = payloads(&row_of(reading(&[("value", FieldValue::Float(5.0))]))).unwrap();
        let [payload] = payloads.as_slice() else { panic!("{payloads:?}") };
        assert_eq!(
            std::str::from_utf8(payload).unwrap(),
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
            vec![("a b,c=d", FieldValue::Float(5.0))],
        ];
        for fields in whole {
            let mut back = Vec::new();
            for payload in payloads(&row_of(reading(&fields))).unwrap() {
                let measured = measured(&payload);
                assert_eq!(measured.incarnation, Some(Incarnation(17)));
                back.extend(measured.reading);
            }
            assert_eq!(back, [reading(&fields)]);
        }
        let both = row_of(reading(&[("value", FieldValue::Integer(1)), ("b", FieldValue::Boolean(true))]));
        let metrics: Vec<_> = payloads(&both)
            .unwrap()
            .iter()
            .map(|payload| decode(payload).unwrap())
            .map(|message| (message.metric, message.value, message.part))
            .collect();
        assert_eq!(metrics, [("cpu".to_owned(), 1.0, None), ("cpu_b".to_owned(), 1.0, Some(2))]);
    }

    #[test]
    fn a_row_of_the_journal_keeps_its_number() {
        let mut reading = reading(&[("value", FieldValue::Float(5.0))]);
        reading.tags.insert(0, ("host".to_owned(), "other".to_owned()));
        let payloads_of_it = payloads(&row_of(reading.clone())).unwrap();
        let [payload] = payloads_of_it.as_slice() else { panic!("{payloads_of_it:?}") };
        let measured = measured(payload);
        reading.tags.sort();
        assert_eq!((measured.incarnation, measured.reading), (Some(Incarnation(17)), Some(reading)));
        assert_eq!(payloads(b"heartwatch_heartbeat,host=h,publisher=p seq=1i 5"), Ok(Vec::new()));
        assert_eq!(payloads(b"batch_sending_error,host=h,publisher=p value=1i 5"), Ok(Vec::new()));
        let numbers = "heartwatch_seq=1i,heartwatch_incarnation=1i";
        assert!(payloads(format!("cpu,publisher=p,host=h value=1,{numbers}").as_bytes()).is_err(), "no time");
        assert!(payloads(format!("cpu,publisher=p value=1,{numbers} 5").as_bytes()).is_err(), "no host");
        assert!(payloads(b"nonsense").is_err());
    }

    #[test]
    fn messages_stand_one_after_the_other() {
        let mut messages = Messages::default();
        for (host, value) in [("one", 1), ("second", 2)] {
            let row =
                format!("m,host={host},publisher=p value={value},heartwatch_seq={value}i,heartwatch_incarnation=1i 5");
            messages.push_row(row.as_bytes()).unwrap();
        }
        let (key, payload) = messages.get(1).unwrap();
        assert_eq!((key, measured(payload).reading.unwrap().sequence), (&b"second"[..], 2));
        assert_eq!((messages.len(), messages.get(2)), (2, None));
    }
}
