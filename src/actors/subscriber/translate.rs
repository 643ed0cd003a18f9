//! One MQTT message → what the watchdog hears and what the writer keeps. A pure function: the edge
//! where text from outside becomes types that can't be wrong.

use heartwatch_domain::beat::{Beat, BeatKind};
use heartwatch_domain::error_metric;
use heartwatch_domain::intake::{IntakeEntry, NumberedLines};
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading, Sequence};
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_formats::envelope::{self, EnvelopeError, Message, Prefix, Topic, TopicError};
use heartwatch_formats::foreign::{Foreign, ForeignError, ForeignReading};
use heartwatch_formats::line_protocol;
use heartwatch_formats::monitoring_data::{self, AttributedReading, MonitoringDataError};
use heartwatch_formats::monitoring_row;
use heartwatch_ports::Delivery;

/// Bytes of a row, about: so many are reserved for each.
const ROW_BYTES_USUAL: usize = 96;

/// What one message means.
#[derive(Debug, Default)]
pub struct Translation {
    /// The sign of life in it.
    pub beat: Option<Beat>,
    /// What is to be kept.
    pub entries: Vec<IntakeEntry>,
    /// The publisher knows of no confirmation beyond this number of its incarnation: its heartbeat says so,
    /// or it sends the next one (again).
    pub confirmed: Option<(PublisherId, Incarnation, Sequence)>,
    /// The publisher waits to hear how this incarnation of it stands, also when that has not changed.
    pub asked: Option<(PublisherId, Incarnation)>,
    /// Readings in it that no database can hold: first the number, then why.
    pub unstorable: Vec<(Sequence, String)>,
    /// What could not be read of a message whose rest could.
    pub problem: Option<String>,
    /// The publisher of unnumbered readings and the last row of them.
    pub newest: Option<(PublisherId, Vec<u8>)>,
}

/// Why a message could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Its topic is not one of ours.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Its payload is not what the topic promises.
    #[error(transparent)]
    Payload(#[from] EnvelopeError),
    /// It is a foreign device's, and nothing in it can be used.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// It came from Kafka, and is not what the topic promises.
    #[error(transparent)]
    AttributedReading(#[from] MonitoringDataError),
}

impl Unreadable {
    /// Whether it was only too large.
    #[must_use]
    pub const fn is_oversized(&self) -> bool {
        match self {
            Self::Payload(error) => error.is_oversized(),
            Self::Foreign(error) => matches!(error, ForeignError::Oversized { .. }),
            Self::AttributedReading(error) => error.is_oversized(),
            Self::Topic(_) => false,
        }
    }
}

/// How messages are read.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// What the topics of heartwatch's publishers start with.
    pub prefix: &'a Prefix,
    /// How devices are read that know nothing of heartwatch.
    pub foreign: &'a [Foreign],
    /// Whether rows carry their numbers.
    pub numbers_in_rows: bool,
}

/// Reads one message: of a heartwatch publisher under the prefix, one of Kafka's, else of the first foreign device
/// whose topic it has. `lag` tells how much later than promised a heartbeat is, given who sends it,
/// when it came and what it promises.
///
/// # Errors
/// [`Unreadable`], which says what would be right.
pub fn translate(
    rules: &Rules<'_>,
    delivery: &Delivery,
    lag: impl FnOnce(&PublisherId, Monotonic, std::time::Duration) -> std::time::Duration,
) -> Result<Translation, Unreadable> {
    if delivery.topic == monitoring_data::DELIVERY_TOPIC {
        return translate_measured(rules, delivery);
    }
    let topic = match Topic::parse(rules.prefix, &delivery.topic) {
        Err(error @ TopicError::Foreign { .. }) => {
            let Delivery { topic, payload, wall, retained, .. } = delivery;
            let read = rules.foreign.iter().find_map(|foreign| foreign.read(topic, payload, *wall, *retained));
            return Ok(translate_foreign(read.ok_or(error)??, delivery));
        }
        topic => topic?,
    };
    let message = envelope::decode(topic.kind, &topic.publisher, &delivery.payload)?;
    let publisher = topic.publisher;
    let beat = |host: &HostName, kind| Beat {
        publisher: publisher.clone(),
        host: host.clone(),
        at: delivery.at,
        wall: delivery.wall,
        way: delivery.way,
        kind,
    };
    let mut meaning = Translation::default();
    match message {
        Message::Readings(batch) => {
            meaning.beat = Some(beat(&batch.host, BeatKind::Readings { incarnation: Some(batch.incarnation) }));
            let refused = batch.refused.iter().map(|(number, _)| *number);
            let first = batch.readings.iter().map(|reading| reading.sequence).chain(refused).min();
            let before_first = first.unwrap_or(Sequence::MAX).saturating_sub(1);
            meaning.confirmed = Some((publisher.clone(), batch.incarnation, before_first));
            meaning.problem = batch.problem.map(|problem| problem.to_string());
            meaning.unstorable =
                batch.refused.into_iter().map(|(number, problem)| (number, problem.to_string())).collect();
            keep_readings(&mut meaning, rules, &publisher, &batch.host, batch.incarnation, batch.readings);
        }
        Message::Heartbeat(note) => {
            let late_by = lag(&publisher, delivery.at, note.heartbeat.interval);
            let incarnation = note.heartbeat.incarnation;
            let produced = note.heartbeat.sequence;
            meaning.entries.push(IntakeEntry::Produced { publisher: publisher.clone(), incarnation, produced });
            meaning.entries.extend(note.earlier.iter().filter(|(life, _)| *life != incarnation).map(
                |&(life, last)| IntakeEntry::Produced {
                    publisher: publisher.clone(),
                    incarnation: life,
                    produced: last,
                },
            ));
            meaning.entries.extend(heartbeat_row(&publisher, &note, late_by, delivery.wall));
            let (errors, problem) = error_rows(&publisher, &note);
            meaning.entries.extend(errors);
            meaning.problem = problem;
            meaning.confirmed = Some((publisher.clone(), incarnation, note.confirmed));
            meaning.beat = Some(beat(&note.host, BeatKind::Heartbeat(Box::new(note.heartbeat))));
        }
        Message::Goodbye(goodbye) => {
            let (incarnation, produced) = (goodbye.incarnation, goodbye.sequence);
            meaning.entries.push(IntakeEntry::Produced { publisher: publisher.clone(), incarnation, produced });
            meaning.beat = Some(beat(&goodbye.host, BeatKind::Goodbye { incarnation }));
        }
        Message::LastWill(will) => {
            meaning.beat = Some(beat(&will.host, BeatKind::LastWill { incarnation: will.incarnation }));
        }
        Message::GivenUp(given_up) => {
            let envelope::GivenUp { incarnation, first, last, reason, confirmed_by, .. } = given_up;
            meaning.asked = Some((publisher.clone(), incarnation));
            meaning.entries.push(IntakeEntry::GivenUp {
                publisher: publisher.clone(),
                incarnation,
                first,
                last,
                reason,
                confirmed_by,
            });
        }
    }
    Ok(meaning)
}

/// Its arrival is the sign of life: a foreign device promises nothing.
fn translate_foreign(reading: ForeignReading, delivery: &Delivery) -> Translation {
    let ForeignReading { publisher, host, lines, rows, problem } = reading;
    let kind = BeatKind::Readings { incarnation: None };
    let newest = line_protocol::Rows::of(&lines).last().map(|row| (publisher.clone(), row.to_vec()));
    let entries = arrived(&publisher, lines, rows, delivery);
    let beat = Beat { publisher, host, at: delivery.at, wall: delivery.wall, way: delivery.way, kind };
    Translation { beat: Some(beat), entries, problem, newest, ..Translation::default() }
}

/// Rows of a publisher that does not number them.
fn arrived(publisher: &PublisherId, lines: Vec<u8>, rows: u64, delivery: &Delivery) -> Vec<IntakeEntry> {
    let entry = IntakeEntry::Arrived { publisher: publisher.clone(), lines, rows, mark: delivery.mark.clone() };
    if rows > 0 { vec![entry] } else { Vec::new() }
}

/// A message of Kafka's: numbered by a heartwatch before us, or some other writer's.
fn translate_measured(rules: &Rules<'_>, delivery: &Delivery) -> Result<Translation, Unreadable> {
    let measured = monitoring_data::decode(&delivery.payload)?.measured()?;
    let AttributedReading { publisher, host, incarnation, reading } = measured;
    let kind = BeatKind::Readings { incarnation };
    let Delivery { at, wall, way, .. } = *delivery;
    let beat = Beat { publisher: publisher.clone(), host: host.clone(), at, wall, way, kind };
    let mut meaning = Translation { beat: Some(beat), ..Translation::default() };
    match (reading, incarnation) {
        (None, _) => {}
        (Some(reading), Some(incarnation)) => {
            keep_readings(&mut meaning, rules, &publisher, &host, incarnation, vec![reading]);
        }
        (Some(reading), None) => {
            if let Some(reason) = error_metric::reserved(&reading.measurement) {
                meaning.problem = Some(reason);
                return Ok(meaning);
            }
            let mut lines = Vec::with_capacity(96);
            match line_protocol::encode_reading(&mut lines, &publisher, &host, &reading) {
                Ok(()) => {
                    meaning.newest = Some((publisher.clone(), lines.clone()));
                    lines.push(b'\n');
                    meaning.entries = arrived(&publisher, lines, 1, delivery);
                }
                Err(error) => meaning.problem = Some(format!("this reading cannot be stored: {error}")),
            }
        }
    }
    Ok(meaning)
}

fn keep_readings<'t, T>(
    meaning: &mut Translation,
    rules: &Rules<'_>,
    publisher: &PublisherId,
    host: &HostName,
    incarnation: Incarnation,
    mut readings: Vec<Reading<T>>,
) where
    T: AsRef<str> + From<&'t str> + PartialEq,
{
    if rules.numbers_in_rows {
        readings = readings.into_iter().map(|reading| monitoring_row::with_numbers(reading, incarnation)).collect();
    }
    let mut lines = NumberedLines::with_capacity(readings.len(), readings.len() * ROW_BYTES_USUAL);
    let mut encoder = line_protocol::ReadingEncoder::new(publisher, host);
    for reading in &readings {
        if let Some(reason) = error_metric::forbidden(reading) {
            meaning.unstorable.push((reading.sequence, reason));
        } else if let Err(error) = lines.push_with(reading.sequence, reading.time, |out| encoder.encode(out, reading)) {
            meaning.unstorable.push((reading.sequence, error.to_string()));
        }
    }
    for (number, reason) in &meaning.unstorable {
        // It would be asked for again for ever: it is lost, and the ledger says why.
        meaning.entries.push(IntakeEntry::GivenUp {
            publisher: publisher.clone(),
            incarnation,
            first: *number,
            last: *number,
            reason: reason.clone(),
            confirmed_by: None,
        });
    }
    if !lines.is_empty() {
        let (publisher, host) = (publisher.clone(), host.clone());
        meaning.entries.push(IntakeEntry::Readings { publisher, host, incarnation, lines });
    }
}

/// Error metrics, each at the time at which it happened, and why some are none of a publisher's.
fn error_rows(publisher: &PublisherId, note: &envelope::HeartbeatNote) -> (Option<IntakeEntry>, Option<String>) {
    let (mut lines, mut rows, mut problem) = (Vec::new(), 0, None);
    let env = note.errors.env.as_deref().map(|env| ("env", env));
    for count in &note.errors.counts {
        if let Some(reason) = error_metric::no_error(&count.measurement) {
            problem = Some(reason);
            continue;
        }
        let tags = env.into_iter().chain([("host", note.host.as_str()), ("publisher", publisher.as_str())]);
        let value = FieldValue::Integer(i64::try_from(count.value).unwrap_or(i64::MAX));
        // a name or time that no row can have was made up: the heartbeat itself is as good as any
        if line_protocol::encode(&mut lines, &count.measurement, tags, [("value", &value)].into_iter(), count.at)
            .is_ok()
        {
            lines.push(b'\n');
            rows += 1;
        }
    }
    ((rows > 0).then_some(IntakeEntry::Unnumbered { lines, rows }), problem)
}

fn heartbeat_row(
    publisher: &PublisherId,
    note: &envelope::HeartbeatNote,
    late_by: std::time::Duration,
    time: Timestamp,
) -> Option<IntakeEntry> {
    let integer = |value: u128| FieldValue::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    let fields = [
        ("seq", integer(note.heartbeat.sequence.into())),
        ("interval_ms", integer(note.heartbeat.interval.as_millis())),
        ("lag_ms", integer(late_by.as_millis())),
    ];
    let tags = [("host", note.host.as_str()), ("publisher", publisher.as_str())];
    let mut lines = Vec::with_capacity(128);
    let fields = fields.iter().map(|(key, value)| (*key, value));
    // Ids and hosts were checked where they came in, so only a time beyond 2262 can fail here.
    line_protocol::encode(&mut lines, "heartwatch_heartbeat", tags.into_iter(), fields, time).ok()?;
    lines.push(b'\n');
    Some(IntakeEntry::Unnumbered { lines, rows: 1 })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use heartwatch_domain::beat::Way;
    use heartwatch_ports::Receipt;

    fn read(topic: &str, payload: &str) -> Translation {
        try_read(topic, payload).unwrap()
    }

    fn try_read(topic: &str, payload: &str) -> Result<Translation, Unreadable> {
        let prefix = Prefix::default();
        let rules = Rules { prefix: &prefix, foreign: &[], numbers_in_rows: false };
        let delivery = Delivery {
            topic: topic.to_owned(),
            payload: payload.as_bytes().to_vec(),
            retained: false,
            at: Monotonic::START,
            wall: Timestamp::from_nanos(5),
            way: Way::Mqtt,
            mark: None,
            receipt: Receipt { connection_epoch: 1, packet_id: 0 },
        };
        translate(&rules, &delivery, |_, _, _| Duration::ZERO)
    }

    /// Every row that would be written, as text.
    fn rows(meaning: &Translation) -> String {
        let mut text = String::new();
        for entry in &meaning.entries {
            match entry {
                IntakeEntry::Readings { lines, .. } => {
                    lines.iter().for_each(|row| text += &String::from_utf8_lossy(row.line));
                }
                IntakeEntry::Unnumbered { lines, .. } | IntakeEntry::Arrived { lines, .. } => {
                    text += &String::from_utf8_lossy(lines);
                }
                _ => {}
            }
        }
        text
    }

    const MADE_UP: [&str; 8] = [
        "heartwatch_internal",
        "heartwatch_verdict",
        "heartwatch_heartbeat",
        "connectivity_error",
        "dead_letter_error",
        "dropped_error",
        "sensor_defect",
        "sensor.error.light",
    ];

    #[test]
    fn no_reading_writes_what_alarms_rest_on_and_those_beside_it_are_kept() {
        for measurement in MADE_UP {
            let reading = |seq: u32, measurement: &str| {
                format!(r#"{{"seq":{seq},"time":{seq},"measurement":"{measurement}","fields":{{"value":0}}}}"#)
            };
            let (wrong, right) = (reading(1, measurement), reading(2, "light"));
            let batch = format!(r#"{{"v":1,"host":"h","incarnation":17,"readings":[{wrong},{right}]}}"#);
            let meaning = read("heartwatch/v1/p/readings", &batch);
            assert_eq!(rows(&meaning), "light,host=h,publisher=p value=0i 2", "{measurement}");
            assert_eq!(meaning.unstorable[0].0, 1);
            // it is not asked for again, and the ledger says why
            let given_up = meaning.entries.iter().any(|entry| matches!(entry, IntakeEntry::GivenUp { first: 1, last: 1, reason, .. } if reason.contains(measurement)));
            assert!(given_up && meaning.beat.is_some(), "{meaning:?}");

            for numbers in ["", r#","seq":3,"incarnation":17"#] {
                let text = format!(
                    r#"{{"timestamp":5,"client_id":"p","hostname":"h","metric":"{measurement}","value":1.0{numbers}}}"#
                );
                let meaning = read(monitoring_data::DELIVERY_TOPIC, &text);
                assert_eq!(rows(&meaning), "", "{text}");
                assert!(meaning.problem.is_some() || !meaning.unstorable.is_empty(), "{text}");
            }
        }
        let text = r#"{"v":1,"host":"h","incarnation":17,"readings":[{"seq":1,"time":1,"measurement":"sensor_defect","fields":{"value":1}}]}"#;
        assert!(
            rows(&read("heartwatch/v1/p/readings", text)).starts_with("sensor_defect,"),
            "a source says it of itself"
        );
    }

    #[test]
    fn a_heartbeat_counts_a_publishers_errors_only() {
        let beat = |measurement: &str| {
            let text = format!(
                r#"{{"v":1,"host":"h","incarnation":17,"sequence":0,"confirmed":0,"cursor":0,"idle":false,"interval_ms":1000,"errors":[["{measurement}",0,7]]}}"#
            );
            try_read("heartwatch/v1/p/heartbeat", &text)
        };
        for measurement in ["heartwatch_internal", "heartwatch_alarm", "dead_letter_error", "light"] {
            let meaning = beat(measurement).unwrap();
            assert!(!rows(&meaning).contains(" value="), "{measurement}: {}", rows(&meaning));
            assert!(meaning.problem.unwrap().contains(measurement) && meaning.beat.is_some());
        }
        for measurement in ["connectivity_error", "sensor_defect", "sensor.error.light"] {
            let meaning = beat(measurement).unwrap();
            assert!(
                rows(&meaning).contains(&format!("{measurement},host=h,publisher=p value=0i 7")),
                "{}",
                rows(&meaning)
            );
            assert_eq!(meaning.problem, None);
        }
    }
}
