//! The payloads as serde sees them, and the functions that the rest of the program calls.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{EnvelopeError, Problem};
use super::limits::{
    BOOT_ID_BYTES_MAX, PAYLOAD_BYTES_MAX, READINGS_MAX, REASON_BYTES_MAX, check_error_env, check_numbered, number,
    wrong,
};
use super::reading;
use super::topic::TopicKind;
use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::confirmers::Confirmer;
use heartwatch_domain::process::ProcessIdentity;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::reading::{Reading, Sequence};
use heartwatch_domain::sequence::SEQUENCE_MAX;
use heartwatch_domain::time::Timestamp;

/// Most error metrics in one heartbeat.
pub const ERRORS_MAX: usize = 128;
/// Most earlier lives in one heartbeat.
pub const EARLIER_MAX: usize = 16;

/// The version that is written and read.
pub(super) const VERSION: u64 = 1;

/// Readings of one publisher's life, with the names as they stand in the payload.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadingBatch<'a> {
    /// Where the publisher runs.
    pub host: HostName,
    /// Which of its lives numbered them.
    pub incarnation: Incarnation,
    /// The readings that can be taken.
    pub readings: Vec<Reading<Cow<'a, str>>>,
    /// Numbers of readings that can't be, and why. With `readings` at least one.
    pub refused: Vec<(Sequence, Problem)>,
    /// What is wrong with a reading that does not even have a number.
    pub problem: Option<Problem>,
}

/// A heartbeat with what only the delivery needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatNote {
    /// Where the publisher runs.
    pub host: HostName,
    /// What it says of itself.
    pub heartbeat: Heartbeat,
    /// How far it knows that it is confirmed.
    pub confirmed: Sequence,
    /// Earlier lives and the last number that each gave out, where it says so; at most [`EARLIER_MAX`].
    pub earlier: Vec<(Incarnation, Sequence)>,
    /// What went wrong with it, and what did not.
    pub errors: ErrorNote,
}

impl HeartbeatNote {
    /// One that knows of no confirmation, no earlier life and no error.
    #[must_use]
    pub fn new(host: HostName, heartbeat: Heartbeat) -> Self {
        Self { host, heartbeat, confirmed: 0, earlier: Vec::new(), errors: ErrorNote::default() }
    }
}

/// Error metrics of a publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorNote {
    /// Their tag `env`.
    pub env: Option<String>,
    /// The counts; at most [`ERRORS_MAX`].
    pub counts: Vec<ErrorCount>,
}

/// One count of an error metric. The same measurement and time is the same count, told again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorCount {
    /// What was measured: the name of a series.
    pub measurement: String,
    /// How often it went wrong; 0 when nothing is wrong.
    pub value: u64,
    /// When.
    pub at: Timestamp,
}

/// The end of a publisher in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    /// Where the publisher ran.
    pub host: HostName,
    /// Which of its lives ends.
    pub incarnation: Incarnation,
    /// The last number that it gave out.
    pub sequence: Sequence,
}

/// What a broker publishes for a publisher whose connection was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWill {
    /// Where the publisher ran.
    pub host: HostName,
    /// Which of its lives had the connection.
    pub incarnation: Incarnation,
}

/// Numbers that will never come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Where the publisher runs.
    pub host: HostName,
    /// Which of its lives gave them out.
    pub incarnation: Incarnation,
    /// The first of them.
    pub first: Sequence,
    /// The last of them.
    pub last: Sequence,
    /// Why.
    pub reason: String,
    /// Who has confirmed them, where that is known: a monitor that did not is told that they are no loss of its.
    pub confirmed_by: Option<Confirmer>,
}

/// A message from a publisher to the monitor.
#[derive(Debug, Clone, PartialEq)]
pub enum Message<'a> {
    /// Readings.
    Readings(ReadingBatch<'a>),
    /// That it lives, and how far it has come.
    Heartbeat(Box<HeartbeatNote>),
    /// That it ends in order.
    Goodbye(Goodbye),
    /// That its connection was lost, said by the broker.
    LastWill(LastWill),
    /// Numbers given up.
    GivenUp(GivenUp),
}

#[derive(Serialize, Deserialize)]
struct ReadingsWire<'a, R> {
    v: u64,
    #[serde(borrow)]
    host: Cow<'a, str>,
    incarnation: u64,
    readings: Vec<R>,
}

#[derive(Serialize, Deserialize)]
struct HeartbeatWire<'a> {
    v: u64,
    #[serde(borrow)]
    host: Cow<'a, str>,
    incarnation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<ProcessIdentity>,
    sequence: u64,
    confirmed: u64,
    cursor: u64,
    idle: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    agent: bool,
    interval_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbox_stalled_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<(Cow<'a, str>, u64, i64)>,
}

#[derive(Serialize, Deserialize)]
struct GoodbyeWire<'a> {
    v: u64,
    #[serde(borrow)]
    host: Cow<'a, str>,
    incarnation: u64,
    sequence: u64,
}

#[derive(Serialize, Deserialize)]
struct LastWillWire<'a> {
    v: u64,
    #[serde(borrow)]
    host: Cow<'a, str>,
    incarnation: u64,
}

#[derive(Serialize, Deserialize)]
struct GivenUpWire<'a> {
    v: u64,
    #[serde(borrow)]
    host: Cow<'a, str>,
    incarnation: u64,
    first: u64,
    last: u64,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    confirmed_by: Option<Cow<'a, str>>,
}

/// Readings as payloads: one message, or more where one would pass a limit. Nothing for no reading. A single
/// reading may be longer than `payload_bytes_max`, which is at most [`PAYLOAD_BYTES_MAX`].
///
/// # Errors
/// The first reading that [`super::check`] does not accept, or that has no number.
pub fn encode_readings(
    host: &HostName,
    incarnation: Incarnation,
    readings: &[Reading],
    payload_bytes_max: usize,
) -> Result<Vec<Vec<u8>>, Problem> {
    let payload_bytes_max = payload_bytes_max.min(PAYLOAD_BYTES_MAX);
    number("incarnation", incarnation.0, 0)?;
    let head = format!(r#"{{"v":{VERSION},"host":"{host}","incarnation":{incarnation},"readings":["#).into_bytes();
    let mut messages = Vec::new();
    let mut message = head.clone();
    let mut count = 0;
    let mut encoded = Vec::new();
    for (index, reading) in readings.iter().enumerate() {
        check_numbered(reading).map_err(|problem| problem.inside(&format!("readings[{index}]")))?;
        encoded.clear();
        serde_json::to_writer(&mut encoded, &reading::Out(reading)).map_err(not_json)?;
        // a comma before it, and the two brackets at the end
        if count == READINGS_MAX || (count > 0 && message.len() + encoded.len() + 3 > payload_bytes_max) {
            message.extend_from_slice(b"]}");
            messages.push(std::mem::replace(&mut message, head.clone()));
            count = 0;
        }
        if count > 0 {
            message.push(b',');
        }
        message.extend_from_slice(&encoded);
        count += 1;
    }
    if count > 0 {
        message.extend_from_slice(b"]}");
        messages.push(message);
    }
    Ok(messages)
}

/// A heartbeat as a payload.
#[must_use]
pub fn encode_heartbeat(note: &HeartbeatNote) -> Vec<u8> {
    let beat = &note.heartbeat;
    encode(&HeartbeatWire {
        v: VERSION,
        host: note.host.as_str().into(),
        incarnation: beat.incarnation.0,
        process: beat.process.clone(),
        sequence: beat.sequence,
        confirmed: note.confirmed,
        cursor: beat.cursor,
        idle: beat.idle,
        agent: beat.is_agent,
        interval_ms: u64::try_from(beat.interval.as_millis()).unwrap_or(u64::MAX),
        outbox_stalled_ms: beat.outbox_stalled.map(|stalled| u64::try_from(stalled.as_millis()).unwrap_or(u64::MAX)),
        earlier: note.earlier.iter().take(EARLIER_MAX).map(|(life, last)| (life.0, *last)).collect(),
        env: note.errors.env.as_deref().filter(|_| !note.errors.counts.is_empty()).map(Cow::from),
        errors: (note.errors.counts.iter().take(ERRORS_MAX))
            .map(|count| (count.measurement.as_str().into(), count.value, count.at.as_nanos()))
            .collect(),
    })
}

/// A goodbye as a payload.
#[must_use]
pub fn encode_goodbye(goodbye: &Goodbye) -> Vec<u8> {
    let Goodbye { host, incarnation, sequence } = goodbye;
    encode(&GoodbyeWire { v: VERSION, host: host.as_str().into(), incarnation: incarnation.0, sequence: *sequence })
}

/// A last will as a payload, to be left with the broker when connecting.
#[must_use]
pub fn encode_last_will(will: &LastWill) -> Vec<u8> {
    encode(&LastWillWire { v: VERSION, host: will.host.as_str().into(), incarnation: will.incarnation.0 })
}

/// Numbers given up as a payload. A reason that is too long is cut.
#[must_use]
pub fn encode_given_up(given_up: &GivenUp) -> Vec<u8> {
    let mut end = given_up.reason.len().min(REASON_BYTES_MAX);
    while !given_up.reason.is_char_boundary(end) {
        end -= 1;
    }
    encode(&GivenUpWire {
        v: VERSION,
        host: given_up.host.as_str().into(),
        incarnation: given_up.incarnation.0,
        first: given_up.first,
        last: given_up.last,
        reason: given_up.reason[..end].into(),
        confirmed_by: given_up.confirmed_by.map(|by| by.to_string().into()),
    })
}

/// Reads what a publisher says. `publisher` and `kind` come from its topic.
///
/// # Errors
/// [`EnvelopeError`]; nothing of a message with an error is taken. A reading that can't be taken is no error of its
/// message: see [`ReadingBatch::refused`].
pub fn decode<'a>(kind: TopicKind, publisher: &PublisherId, payload: &'a [u8]) -> Result<Message<'a>, EnvelopeError> {
    let message = match kind {
        TopicKind::Readings => decode_readings(payload).map(Message::Readings),
        TopicKind::Heartbeat => decode_heartbeat(payload).map(|note| Message::Heartbeat(Box::new(note))),
        TopicKind::Goodbye => decode_goodbye(payload).map(Message::Goodbye),
        TopicKind::LastWill => decode_last_will(payload).map(Message::LastWill),
        TopicKind::GivenUp => decode_given_up(payload).map(Message::GivenUp),
        TopicKind::Confirm => Err(Problem::Key {
            key: "topic".to_owned(),
            right: "readings, heartbeat, goodbye, last-will or given-up".to_owned(),
            found: "confirm, which only the monitor publishes".to_owned(),
        }),
    };
    message.map_err(|problem| said(kind, publisher, problem))
}

fn decode_readings(payload: &[u8]) -> Result<ReadingBatch<'_>, Problem> {
    let read: Result<ReadingsWire<'_, reading::In<'_>>, _> =
        parse(TopicKind::Readings, payload, |wire: &ReadingsWire<'_, _>| wire.v);
    match read {
        Ok(wire) => {
            let mut batch = empty_batch(&wire.host, wire.incarnation, wire.readings.len())?;
            batch.readings.extend(wire.readings.into_iter().map(Reading::from));
            if batch.readings.iter().any(|reading| check_numbered(reading).is_err()) {
                for (index, reading) in std::mem::take(&mut batch.readings).into_iter().enumerate() {
                    batch.take(index, reading);
                }
            }
            batch.or_problem()
        }
        Err(problem @ Problem::Key { .. }) => decode_one_by_one(payload, problem),
        Err(problem) => Err(problem),
    }
}

/// Where one reading has no form at all: its neighbours are taken, and its number is refused where it has one.
fn decode_one_by_one(payload: &[u8], problem: Problem) -> Result<ReadingBatch<'static>, Problem> {
    let Ok(wire) = serde_json::from_slice::<ReadingsWire<'_, serde_json::Value>>(payload) else { return Err(problem) };
    let mut batch = empty_batch(&wire.host, wire.incarnation, wire.readings.len())?;
    for (index, value) in wire.readings.iter().enumerate() {
        match reading::In::deserialize(value) {
            Ok(reading) => batch.take(index, Reading::from(reading).into_owned().into_cow()),
            Err(error) => {
                let problem = super::diagnose::reading(index, value, &error);
                batch.refuse(value.get("seq").and_then(serde_json::Value::as_u64).unwrap_or(0), problem);
            }
        }
    }
    batch.or_problem()
}

fn empty_batch<'a>(host: &str, incarnation: u64, readings: usize) -> Result<ReadingBatch<'a>, Problem> {
    let (host, incarnation) = life(host, incarnation)?;
    if readings == 0 || readings > READINGS_MAX {
        return Err(wrong("readings", &format!("1 to {READINGS_MAX} readings"), &readings.to_string()));
    }
    let readings = Vec::with_capacity(readings);
    Ok(ReadingBatch { host, incarnation, readings, refused: Vec::new(), problem: None })
}

impl<'a> ReadingBatch<'a> {
    fn take(&mut self, index: usize, reading: Reading<Cow<'a, str>>) {
        match check_numbered(&reading) {
            Ok(()) => self.readings.push(reading),
            Err(problem) => self.refuse(reading.sequence, problem.inside(&format!("readings[{index}]"))),
        }
    }

    fn refuse(&mut self, sequence: Sequence, problem: Problem) {
        if (1..=SEQUENCE_MAX).contains(&sequence) {
            self.refused.push((sequence, problem));
        } else {
            self.problem.get_or_insert(problem);
        }
    }

    /// It, or why nothing of it can be taken.
    fn or_problem(self) -> Result<Self, Problem> {
        match self.problem {
            Some(problem) if self.readings.is_empty() && self.refused.is_empty() => Err(problem),
            _ => Ok(self),
        }
    }
}

fn decode_heartbeat(payload: &[u8]) -> Result<HeartbeatNote, Problem> {
    let wire: HeartbeatWire<'_> = parse(TopicKind::Heartbeat, payload, |wire: &HeartbeatWire<'_>| wire.v)?;
    let (host, incarnation) = life(&wire.host, wire.incarnation)?;
    number("sequence", wire.sequence, 0)?;
    number("confirmed", wire.confirmed, 0)?;
    if wire.process.as_ref().is_some_and(|process| process.boot_id.text_bytes() > BOOT_ID_BYTES_MAX) {
        return Err(wrong("process.boot_id", &format!("at most {BOOT_ID_BYTES_MAX} bytes"), "more"));
    }
    if wire.earlier.len() > EARLIER_MAX {
        return Err(wrong("earlier", &format!("at most {EARLIER_MAX} lives"), &wire.earlier.len().to_string()));
    }
    let mut earlier = Vec::with_capacity(wire.earlier.len());
    for (index, &(life, last)) in wire.earlier.iter().enumerate() {
        let key = format!("earlier[{index}]");
        number(&key, life, 0)?;
        number(&key, last, 0)?;
        earlier.push((Incarnation(life), last));
    }
    let heartbeat = Heartbeat {
        incarnation,
        process: wire.process,
        sequence: wire.sequence,
        cursor: wire.cursor,
        idle: wire.idle,
        is_agent: wire.agent,
        interval: Duration::from_millis(wire.interval_ms),
        outbox_stalled: wire.outbox_stalled_ms.map(Duration::from_millis),
    };
    if wire.errors.len() > ERRORS_MAX {
        return Err(wrong("errors", &format!("at most {ERRORS_MAX} counts"), &wire.errors.len().to_string()));
    }
    // A publisher is not silent because an error metric of it has a name that it may not have: who uses them looks.
    let counts = wire.errors.into_iter().map(|(measurement, value, at)| ErrorCount {
        measurement: measurement.into_owned(),
        value,
        at: Timestamp::from_nanos(at),
    });
    let env = wire.env.filter(|env| check_error_env(env).is_ok()).map(Cow::into_owned);
    let errors = ErrorNote { env, counts: counts.collect() };
    Ok(HeartbeatNote { host, heartbeat, confirmed: wire.confirmed, earlier, errors })
}

fn decode_goodbye(payload: &[u8]) -> Result<Goodbye, Problem> {
    let wire: GoodbyeWire<'_> = parse(TopicKind::Goodbye, payload, |wire: &GoodbyeWire<'_>| wire.v)?;
    let (host, incarnation) = life(&wire.host, wire.incarnation)?;
    number("sequence", wire.sequence, 0)?;
    Ok(Goodbye { host, incarnation, sequence: wire.sequence })
}

fn decode_last_will(payload: &[u8]) -> Result<LastWill, Problem> {
    let wire: LastWillWire<'_> = parse(TopicKind::LastWill, payload, |wire: &LastWillWire<'_>| wire.v)?;
    let (host, incarnation) = life(&wire.host, wire.incarnation)?;
    Ok(LastWill { host, incarnation })
}

fn decode_given_up(payload: &[u8]) -> Result<GivenUp, Problem> {
    let wire: GivenUpWire<'_> = parse(TopicKind::GivenUp, payload, |wire: &GivenUpWire<'_>| wire.v)?;
    let (host, incarnation) = life(&wire.host, wire.incarnation)?;
    number("first", wire.first, 1)?;
    number("last", wire.last, wire.first)?;
    if wire.reason.len() > REASON_BYTES_MAX {
        return Err(wrong("reason", &format!("at most {REASON_BYTES_MAX} bytes"), &wire.reason));
    }
    let confirmed_by = wire.confirmed_by.and_then(|by| by.parse().ok());
    let reason = wire.reason.into_owned();
    Ok(GivenUp { host, incarnation, first: wire.first, last: wire.last, reason, confirmed_by })
}

/// Whose life speaks: what every message from a publisher begins with.
fn life(host: &str, incarnation: u64) -> Result<(HostName, Incarnation), Problem> {
    let host = HostName::parse(host)
        .map_err(|_| wrong("host", "1 to 96 letters, digits, '.', '_', '-' or ':'", &format!("'{host}'")))?;
    number("incarnation", incarnation, 0)?;
    Ok((host, Incarnation(incarnation)))
}

/// Parses straight into the type; only a payload that fails is looked at again, for the key to name.
pub(super) fn parse<'a, T: Deserialize<'a>>(
    kind: TopicKind,
    payload: &'a [u8],
    version: fn(&T) -> u64,
) -> Result<T, Problem> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Problem::TooLarge { bytes: payload.len(), bytes_max: PAYLOAD_BYTES_MAX });
    }
    let wire = serde_json::from_slice(payload).map_err(|error| super::diagnose::problem(kind, payload, &error))?;
    match version(&wire) {
        VERSION => Ok(wire),
        found => Err(Problem::Version { found }),
    }
}

/// Plain structures of numbers, booleans and texts: writing them to memory cannot fail.
pub(super) fn encode<T: Serialize>(wire: &T) -> Vec<u8> {
    serde_json::to_vec(wire).unwrap_or_default()
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn not_json(error: serde_json::Error) -> Problem {
    Problem::NotJson { reason: error.to_string() }
}

pub(super) fn said(kind: TopicKind, publisher: &PublisherId, problem: Problem) -> EnvelopeError {
    EnvelopeError { what: kind.as_str(), publisher: publisher.to_string(), problem }
}
