//! One MQTT message → what the watchdog hears and what the writer keeps. A pure function: the edge
//! where text from outside becomes types that can't be wrong.

use crate::domain::beat::{Beat, BeatKind};
use crate::domain::publisher::{HostName, Incarnation, PublisherId};
use crate::domain::reading::{FieldValue, Sequence};
use crate::domain::time::{Monotonic, Timestamp};
use crate::formats::envelope::{self, EnvelopeError, Message, Prefix, ReadingBatch, Topic, TopicError};
use crate::formats::foreign::{Foreign, ForeignError, ForeignReading};
use crate::formats::line_protocol;
use crate::messages::deliveries::Delivery;
use crate::messages::intake::{IntakeEntry, NumberedLine};

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
}

impl Unreadable {
    /// Whether it was only too large.
    #[must_use]
    pub const fn is_oversized(&self) -> bool {
        match self {
            Self::Payload(error) => error.is_oversized(),
            Self::Foreign(error) => matches!(error, ForeignError::Oversized { .. }),
            Self::Topic(_) => false,
        }
    }
}

/// Reads one message: of a heartwatch publisher under the prefix, else of the first foreign device whose topic
/// it has. `lag` tells how much later than promised a heartbeat is, given who sends it,
/// when it came and what it promises.
///
/// # Errors
/// [`Unreadable`], which says what would be right.
pub fn translate(
    prefix: &Prefix,
    foreign: &[Foreign],
    delivery: &Delivery,
    lag: impl FnOnce(&PublisherId, Monotonic, std::time::Duration) -> std::time::Duration,
) -> Result<Translation, Unreadable> {
    let topic = match Topic::parse(prefix, &delivery.topic) {
        Err(error @ TopicError::Foreign { .. }) => {
            let Delivery { topic, payload, wall, retained, .. } = delivery;
            let read = foreign.iter().find_map(|foreign| foreign.read(topic, payload, *wall, *retained));
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
        kind,
    };
    let mut meaning = Translation::default();
    match message {
        Message::Readings(batch) => {
            meaning.beat = Some(beat(&batch.host, BeatKind::Readings { incarnation: Some(batch.incarnation) }));
            let first = batch.readings.iter().map(|reading| reading.sequence).min().unwrap_or(Sequence::MAX);
            meaning.confirmed = Some((publisher.clone(), batch.incarnation, first.saturating_sub(1)));
            keep_readings(&mut meaning, &publisher, batch);
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
            meaning.entries.extend(error_rows(&publisher, &note));
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
            let envelope::GivenUp { incarnation, first, last, reason, .. } = given_up;
            meaning.asked = Some((publisher.clone(), incarnation));
            meaning.entries.push(IntakeEntry::GivenUp {
                publisher: publisher.clone(),
                incarnation,
                first,
                last,
                reason,
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
    let beat = Beat { publisher, host, at: delivery.at, wall: delivery.wall, kind };
    let entries = if rows > 0 { vec![IntakeEntry::Unnumbered { lines, rows }] } else { Vec::new() };
    Translation { beat: Some(beat), entries, problem, newest, ..Translation::default() }
}

fn keep_readings(meaning: &mut Translation, publisher: &PublisherId, batch: ReadingBatch) {
    let ReadingBatch { host, incarnation, readings } = batch;
    let mut lines = Vec::with_capacity(readings.len());
    for reading in &readings {
        let mut line = Vec::with_capacity(96);
        match line_protocol::encode_reading(&mut line, publisher, &host, reading) {
            Ok(()) => lines.push(NumberedLine { sequence: reading.sequence, line }),
            Err(error) => meaning.unstorable.push((reading.sequence, error.to_string())),
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
        });
    }
    if !lines.is_empty() {
        meaning.entries.push(IntakeEntry::Readings { publisher: publisher.clone(), host, incarnation, lines });
    }
}

/// Error metrics, each at the time at which it happened.
fn error_rows(publisher: &PublisherId, note: &envelope::HeartbeatNote) -> Option<IntakeEntry> {
    let (mut lines, mut rows) = (Vec::new(), 0);
    let env = note.errors.env.as_deref().map(|env| ("env", env));
    for count in &note.errors.counts {
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
    (rows > 0).then_some(IntakeEntry::Unnumbered { lines, rows })
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
