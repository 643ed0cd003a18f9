//! What is kept of the past, and how it is asked for: verdict changes, readings for a plot, what was refused or lost.

use serde::{Deserialize, Serialize};

use crate::ledger::NamedLoss;
use crate::publisher::PublisherId;
use crate::time::Timestamp;
use crate::verdict::Verdict;

/// Past verdict changes after an epoch, oldest first, at most `changes_max`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangesQuery {
    /// Only changes with a larger epoch.
    pub since_epoch: u64,
    /// Only this publisher's, when given.
    pub publisher: Option<PublisherId>,
    /// Most changes to return.
    pub changes_max: usize,
}

/// The newest verdict changes, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewestQuery {
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

/// What was refused or is gone for good, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gone {
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

/// The readings of one publisher in a time range, made smaller for a plot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingsQuery {
    /// Whose.
    pub publisher: PublisherId,
    /// From this time on.
    pub from: Timestamp,
    /// Before this time.
    pub to: Timestamp,
    /// Most points of each line.
    pub points_max: usize,
}

/// The answer to [`ReadingsQuery`]: the range cut into steps of equal length.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReadingsPlot {
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

/// One numeric field of [`ReadingsPlot`]; every list has an item for each step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FieldSteps {
    /// The measurement of the series.
    pub measurement: String,
    /// The field of the series.
    pub name: String,
    /// The smallest value of each step.
    pub min: Vec<Option<f64>>,
    /// The largest value of each step.
    pub max: Vec<Option<f64>>,
    /// The mean of each step.
    pub mean: Vec<Option<f64>>,
}
