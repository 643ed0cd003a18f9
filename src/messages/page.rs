//! web → actors: what only the page asks: readings and arrivals to plot, values as they come, the
//! newest changes, what was refused, and a look at a process now.

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::domain::ledger::NamedLoss;
use crate::domain::publisher::PublisherId;
use crate::domain::time::Timestamp;
use crate::domain::verdict::{Change, Verdict};

/// influx writer: the readings of one publisher in a time range, made smaller for a plot.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<ReadingsReply, String>")]
pub struct AskReadings {
    /// Whose.
    pub publisher: PublisherId,
    /// From this time on.
    pub from: Timestamp,
    /// Before this time.
    pub to: Timestamp,
    /// Most points of each line.
    pub points_max: usize,
}

/// The answer to [`AskReadings`]: the range cut into steps of equal length.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReadingsReply {
    /// The beginning of the first step, in milliseconds since 1970.
    pub from_ms: i64,
    /// The length of a step in milliseconds.
    pub step_ms: f64,
    /// How many steps.
    pub steps: usize,
    /// Readings of the publisher in the range.
    pub readings: u64,
    /// Heartbeats of the publisher in the range.
    pub heartbeats: u64,
    /// Whether the range holds more than could be read in the time that one answer may take.
    pub truncated: bool,
    /// Its numeric fields, in the order of their appearance.
    pub fields: Vec<FieldSteps>,
    /// For each step the longest silence that ended in it, in milliseconds; none where nothing came.
    pub silence_ms: Vec<Option<f64>>,
}

/// One numeric field of [`ReadingsReply`]; every list has an item for each step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FieldSteps {
    /// Its measurement.
    pub measurement: String,
    /// Its name.
    pub name: String,
    /// The smallest value of each step.
    pub min: Vec<Option<f64>>,
    /// The largest value of each step.
    pub max: Vec<Option<f64>>,
    /// The mean of each step.
    pub mean: Vec<Option<f64>>,
}

/// subscriber: the latest values of some publishers.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Vec<RecentValues>")]
pub struct AskRecent(pub Vec<PublisherId>);

/// The latest values of one publisher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecentValues {
    /// Whose.
    pub publisher: PublisherId,
    /// The fields of its last reading.
    pub fields: Vec<RecentField>,
    /// The first numeric field over its last readings, oldest first: milliseconds since 1970, value.
    pub line: Vec<(i64, f64)>,
}

/// One field of the last reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecentField {
    /// Its name.
    pub name: String,
    /// Its value: a number, a boolean, or the beginning of a text.
    pub value: serde_json::Value,
}

/// influx writer: the newest verdict changes, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Message, Default)]
#[rtype(result = "Vec<Change>")]
pub struct AskNewestChanges {
    /// Only changes with a smaller epoch.
    pub before_epoch: Option<u64>,
    /// Only changes decided at this time or later.
    pub since: Option<Timestamp>,
    /// Only this publisher's.
    pub publisher: Option<PublisherId>,
    /// Only changes to these verdicts; empty for all.
    pub to: Vec<Verdict>,
    /// Most changes to return.
    pub changes_max: usize,
}

/// influx writer: what was refused or is gone for good, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "Result<GoneReply, String>")]
pub struct AskGone {
    /// Most dead letters, and most losses, to return.
    pub entries_max: usize,
}

/// The answer to [`AskGone`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GoneReply {
    /// Rows that the database refused, newest first.
    pub dead_letters: Vec<DeadLetterLine>,
    /// Readings that are gone for good.
    pub losses: Vec<NamedLoss>,
}

/// A row that the database refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterLine {
    /// Its number among the dead letters.
    pub number: i64,
    /// When it was refused.
    pub at: Timestamp,
    /// Whose it was, where it was a reading.
    pub publisher: Option<PublisherId>,
    /// The server's reason.
    pub reason: String,
    /// The beginning of the row.
    pub line: String,
}

/// watchdog: look at a publisher's process now. None: it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Option<ProbeReport>")]
pub struct ProbeNow(pub PublisherId);

/// What the look found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// In words.
    pub found: String,
    /// When the probe looked.
    pub looked_at: Timestamp,
    /// The verdict after it.
    pub verdict: Verdict,
}
