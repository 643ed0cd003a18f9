//! subscriber → influx writer: rows to make safe, and what became of them.

use std::sync::Arc;

use actix::Message;

use crate::domain::publisher::{HostName, Incarnation, PublisherId};
use crate::domain::reading::Sequence;

/// One row, already encoded as line protocol without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedLine {
    /// The reading's number.
    pub sequence: Sequence,
    /// The encoded row.
    pub line: Vec<u8>,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntakeEntry {
    /// Readings of one publisher and incarnation, for exactly-once storage and the ledger.
    Readings {
        /// Whose they are.
        publisher: PublisherId,
        /// Where it runs.
        host: HostName,
        /// Which of its lives numbered them.
        incarnation: Incarnation,
        /// The rows.
        lines: Vec<NumberedLine>,
    },
    /// What a heartbeat says about delivery: numbers up to `produced` exist.
    Produced {
        /// Whose numbers.
        publisher: PublisherId,
        /// Which of its lives.
        incarnation: Incarnation,
        /// The highest number given out.
        produced: Sequence,
    },
    /// Readings that the publisher itself gave up, named by it: they will never come.
    GivenUp {
        /// Whose they were.
        publisher: PublisherId,
        /// Which of its lives.
        incarnation: Incarnation,
        /// First number of the range.
        first: Sequence,
        /// Last number of the range.
        last: Sequence,
        /// Why, in the publisher's words.
        reason: String,
    },
    /// Rows outside the ledger (heartbeats, counters, error metrics): line protocol, one row a line.
    Unnumbered {
        /// The encoded rows, each ended by `\n`.
        lines: Vec<u8>,
        /// How many they are.
        rows: u64,
    },
}

/// A batch for the durable buffer. Its reply comes after the commit.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<DeliveryState>")]
pub struct Intake(pub Arc<Vec<IntakeEntry>>);

/// How far the safe record of one publisher's incarnation reaches: what is confirmed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryState {
    /// Whose record.
    pub publisher: PublisherId,
    /// Which of its lives.
    pub incarnation: Incarnation,
    /// Every number up to this one is safe (or named as lost).
    pub through: Sequence,
    /// The highest number that is safe; above `through` when there are gaps.
    pub highest: Sequence,
    /// Gaps between `through` and `highest`, first and last number of each; at most
    /// [`GAPS_REPORTED_MAX`], the lowest ones.
    pub gaps: Vec<(Sequence, Sequence)>,
    /// The highest number known to exist: what is above `highest` is missing as well.
    pub produced: Sequence,
    /// Rows of this batch that were refused because the disk limit is reached; the publisher keeps them.
    pub refused: u64,
}

impl DeliveryState {
    /// Whether numbers are known to exist that are neither safe nor lost.
    #[must_use]
    pub fn has_missing(&self) -> bool {
        !self.gaps.is_empty() || self.produced > self.highest
    }

    /// What is missing, lowest first: the gaps, and what is above the highest safe number.
    #[must_use]
    pub fn missing(&self) -> Vec<(Sequence, Sequence)> {
        let mut missing = self.gaps.clone();
        // a full list may have left out higher gaps, so that nothing is known of what is above it
        if self.gaps.len() < GAPS_REPORTED_MAX && self.produced > self.highest {
            missing.push((self.highest + 1, self.produced));
        }
        missing
    }
}

pub use crate::domain::delivery::GAPS_REPORTED_MAX;
