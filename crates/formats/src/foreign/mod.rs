//! What devices say that know nothing of heartwatch: a topic pattern says who speaks, a payload form
//! how it is read.
//!
//! | part of a pattern | matches |
//! |---|---|
//! | `tele` | this level |
//! | `{publisher}` | any one level, and gives it a name |
//! | `+` | any one level |
//! | `#` | all further levels; only at the end |
//!
//! - The publisher's id is made of the levels: `tele-{device}`. A character that no id may have becomes `-`.
//! - A level with a name that stands in no other place becomes a tag.
//! - Numbers are floats unless a field says otherwise: `21` now and `21.5` later would be two types, and
//!   InfluxDB refuses the second.
//! - The time of a row is when it arrived, or what the payload says where a form has a time.
//! - What can be read of a message is kept, also where another part of it can't.

mod collectd;
mod payload;
mod topic;

#[cfg(test)]
mod tests;

use crate::csv_row::CellType;
use crate::source_time::TimeFormat;
use crate::{envelope, line_protocol};
use heartwatch_domain::error_metric;
use heartwatch_domain::publisher::{HostName, NAME_BYTES_MAX, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::time::Timestamp;

pub(crate) use payload::{every_value, lookup, typed};
pub use topic::{BadPattern, BadTemplate, Captures, Template, TopicPattern, covers, overlap};

/// Most bytes of one message.
pub const PAYLOAD_BYTES_MAX: usize = envelope::PAYLOAD_BYTES_MAX;
/// Most rows in one message.
pub const ROWS_MAX: usize = envelope::READINGS_MAX;

/// One kind of device: which topics are its, and how to read them.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// Its topics.
    pub topic: TopicPattern,
    /// What the publisher's id is made of.
    pub publisher: Template,
    /// What the host is made of; none: it is called like its publisher.
    pub host: Option<Template>,
    /// What the measurement is made of; none: the publisher's id, or what the payload's form has.
    pub measurement: Option<Template>,
    /// How a payload is read.
    pub payload: Payload,
}

/// How a payload is read.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// A JSON object, or a list of them.
    Json {
        /// The fields and where they are; none: every number, text and boolean, called after its path.
        fields: Vec<Field<Path>>,
        /// Where its time is.
        time: Option<TimeAt<Path>>,
    },
    /// One row or more.
    LineProtocol,
    /// A bare number: the field `value`.
    Number,
    /// Text: the field `text`.
    Text,
    /// One CSV row or more, without a header.
    Csv {
        /// What is between two cells.
        delimiter: u8,
        /// The fields and their columns, counted from 0; none: every cell is a number, `value` or `value_1` …
        fields: Vec<Field<usize>>,
        /// The column of its time.
        time: Option<TimeAt<usize>>,
    },
    /// `epoch:value[:value…]` as collectd's `mqtt` plugin writes it. The pattern names the levels `plugin` and
    /// `type`. Rows look like those of InfluxDB's own collectd listener.
    Collectd,
}

/// A place in a JSON object: `a.b.0`, names and numbers of items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(pub Vec<String>);

/// A field that is looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Field<At> {
    /// Its name in the row.
    pub name: String,
    /// Where it is.
    pub at: At,
    /// Its type.
    pub kind: CellType,
}

/// Where a time is.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeAt<At> {
    /// Where.
    pub at: At,
    /// How it is written; none: in any form that can be told from a plain number.
    pub format: Option<TimeFormat>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignReading {
    /// Who.
    pub publisher: PublisherId,
    /// Where.
    pub host: HostName,
    /// The rows, each ended by `\n`.
    pub lines: Vec<u8>,
    /// How many they are; none when there was nothing new in it.
    pub rows: u64,
    /// What of it could not be read.
    pub problem: Option<String>,
}

/// Why nothing of a message could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// Its topic gives no id.
    #[error("its topic gives no publisher id: '{0}'")]
    Publisher(String),
    /// It is too large.
    #[error("{bytes} bytes: at most {PAYLOAD_BYTES_MAX} are read")]
    Oversized {
        /// Its size.
        bytes: usize,
    },
    /// Its payload is not what it should be.
    #[error("{0}")]
    Payload(String),
}

/// A row before it is known whose it is. Tags and fields as in a [`Reading`].
#[derive(Debug, Default)]
struct Row {
    measurement: Option<String>,
    tags: Vec<(String, String)>,
    fields: Vec<(String, FieldValue)>,
    time: Option<Timestamp>,
}

/// What was found in a payload, and the first thing that could not be read.
#[derive(Debug, Default)]
struct Found {
    rows: Vec<Row>,
    problem: Option<String>,
}

impl Found {
    fn wrong(&mut self, problem: impl FnOnce() -> String) {
        if self.problem.is_none() {
            self.problem = Some(problem());
        }
    }
}

impl Foreign {
    /// Reads a message on one of its topics; none when the topic is not one of its. `wall` is when it
    /// came. What a broker `retained` from before and has no time of its own is old news of unknown
    /// age: it gives no row.
    ///
    /// # Errors
    /// [`ForeignError`] when nothing in it can be used.
    pub fn read(
        &self,
        topic: &str,
        payload: &[u8],
        wall: Timestamp,
        retained: bool,
    ) -> Option<Result<ForeignReading, ForeignError>> {
        let levels = self.topic.captures(topic)?;
        Some(self.read_captured(&levels, payload, wall, retained))
    }

    fn read_captured(
        &self,
        levels: &Captures<'_>,
        payload: &[u8],
        wall: Timestamp,
        retained: bool,
    ) -> Result<ForeignReading, ForeignError> {
        let named = |text: &str| ForeignError::Publisher(text.chars().take(NAME_BYTES_MAX).collect());
        let id = clean(&self.publisher.render(levels));
        let publisher = PublisherId::parse(&id).map_err(|_| named(&id))?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(ForeignError::Oversized { bytes: payload.len() });
        }
        let host = self.host.as_ref().map_or_else(|| id.clone(), |host| clean(&host.render(levels)));
        let host = HostName::parse(&host).map_err(|_| named(&host))?;
        let mut found = match &self.payload {
            Payload::Json { fields, time } => payload::json(payload, fields, time.as_ref()),
            Payload::LineProtocol => payload::rows(payload),
            Payload::Number => payload::number(payload),
            Payload::Text => payload::text(payload),
            Payload::Csv { delimiter, fields, time } => payload::csv(payload, *delimiter, fields, time.as_ref()),
            Payload::Collectd => collectd::read(payload, levels),
        };
        if let (true, Some(problem)) = (found.rows.is_empty(), &found.problem) {
            return Err(ForeignError::Payload(problem.clone()));
        }
        if found.rows.len() > ROWS_MAX {
            let rows = found.rows.len();
            return Err(ForeignError::Payload(format!("{rows} rows: at most {ROWS_MAX} are read")));
        }
        let measurement = self.measurement.as_ref().map(|template| template.render(levels));
        let level_tags: Vec<_> = levels.named().filter(|(name, _)| self.is_tag(name)).collect();
        let mut reading =
            ForeignReading { publisher, host, lines: Vec::with_capacity(payload.len() + 96), rows: 0, problem: None };
        let mut after = wall.as_nanos();
        for row in std::mem::take(&mut found.rows) {
            if retained && row.time.is_none() {
                continue;
            }
            let time = row.time.unwrap_or_else(|| {
                let time = Timestamp::from_nanos(after);
                after = after.saturating_add(1);
                time
            });
            let mut tags = row.tags;
            for (name, value) in &level_tags {
                if tags.iter().all(|(key, _)| key != name) {
                    tags.push(((*name).to_owned(), (*value).to_owned()));
                }
            }
            let measurement = measurement.clone().or(row.measurement).unwrap_or_else(|| id.clone());
            let full = Reading { sequence: 0, time, measurement, tags, fields: row.fields };
            if let Err(problem) = reading.add(&full) {
                found.wrong(|| problem);
            }
        }
        if reading.rows == 0
            && let Some(problem) = found.problem
        {
            return Err(ForeignError::Payload(problem));
        }
        reading.problem = found.problem;
        Ok(reading)
    }

    /// Whether a named level is not used for anything else.
    fn is_tag(&self, name: &str) -> bool {
        let templates = [Some(&self.publisher), self.host.as_ref(), self.measurement.as_ref()];
        let used = templates.into_iter().flatten().any(|template| template.uses(name));
        let collectd = self.payload == Payload::Collectd && matches!(name, "plugin" | "type");
        !used && !collectd
    }
}

impl ForeignReading {
    fn add(&mut self, reading: &Reading) -> Result<(), String> {
        if let Some(reason) = error_metric::reserved(&reading.measurement) {
            return Err(reason);
        }
        envelope::check(reading).map_err(|problem| problem.to_string())?;
        let mut line = Vec::with_capacity(128);
        line_protocol::encode_reading(&mut line, &self.publisher, &self.host, reading)
            .map_err(|error| error.to_string())?;
        self.lines.append(&mut line);
        self.lines.push(b'\n');
        self.rows += 1;
        Ok(())
    }
}

/// A name from a topic with what no id may have replaced.
fn clean(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_:".contains(c) { c } else { '-' }).collect()
}
