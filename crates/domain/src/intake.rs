//! What is to be made safe, and what has become of it.

use crate::confirmers::Confirmer;
use crate::journal_id::JournalId;
use crate::marks::SourceMark;
use crate::publisher::{HostName, Incarnation, PublisherId};
use crate::reading::Sequence;
pub use crate::retransmitter::GAPS_REPORTED_MAX;
use crate::time::Timestamp;

/// Numbered rows of one publisher's life, already encoded as line protocol: one text, and where each row ends in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NumberedLines {
    text: Vec<u8>,
    rows: Vec<Row>,
}

/// What is known of a row besides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    sequence: Sequence,
    end: usize,
    time: Option<Timestamp>,
}

/// One of [`NumberedLines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberedLine<'a> {
    /// Its number.
    pub sequence: Sequence,
    /// The row, without its line end.
    pub line: &'a [u8],
    /// The time at its end, where that is known.
    pub time: Option<Timestamp>,
}

impl NumberedLines {
    /// None yet, with room for so many of so many bytes together.
    #[must_use]
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), rows: Vec::with_capacity(rows) }
    }

    /// Adds a row of this time that `write` appends, without its line end, to what it is given.
    ///
    /// # Errors
    /// What `write` fails with; nothing is added then.
    pub fn push_with<E>(
        &mut self,
        sequence: Sequence,
        time: Timestamp,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let begin = self.text.len();
        let written = write(&mut self.text);
        match written {
            Ok(()) => self.rows.push(Row { sequence, end: self.text.len(), time: Some(time) }),
            Err(_) => self.text.truncate(begin),
        }
        written
    }

    /// Adds all rows of another one.
    pub fn append(&mut self, more: &Self) {
        let begin = self.text.len();
        self.text.extend_from_slice(&more.text);
        self.rows.extend(more.rows.iter().map(|row| Row { end: begin + row.end, ..*row }));
    }

    /// Each row.
    pub fn iter(&self) -> impl Iterator<Item = NumberedLine<'_>> {
        let mut begin = 0;
        self.rows.iter().map(move |&Row { sequence, end, time }| {
            let line = self.text.get(begin..end).unwrap_or_default();
            begin = end;
            NumberedLine { sequence, line, time }
        })
    }

    /// The last row.
    #[must_use]
    pub fn last(&self) -> Option<&[u8]> {
        let end = self.rows.last()?.end;
        let begin = self.rows.len().checked_sub(2).and_then(|before| self.rows.get(before)).map_or(0, |row| row.end);
        self.text.get(begin..end)
    }

    /// How many rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of all rows.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.text.len()
    }
}

impl<L: AsRef<[u8]>> FromIterator<(Sequence, L)> for NumberedLines {
    fn from_iter<I: IntoIterator<Item = (Sequence, L)>>(rows: I) -> Self {
        let mut lines = Self::default();
        for (sequence, line) in rows {
            lines.text.extend_from_slice(line.as_ref());
            lines.rows.push(Row { sequence, end: lines.text.len(), time: None });
        }
        lines
    }
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
        lines: NumberedLines,
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
        /// Who has confirmed them, where the publisher says so.
        confirmed_by: Option<Confirmer>,
    },
    /// What one message of a publisher says that does not number its readings: they are in its account by their count.
    Arrived {
        /// Whose rows.
        publisher: PublisherId,
        /// The encoded rows, each ended by `\n`.
        lines: Vec<u8>,
        /// How many they are.
        rows: u64,
        /// What tells whether the same message came before; none where its source has no such mark.
        mark: Option<SourceMark>,
    },
    /// Rows outside the ledger (heartbeats, counters, error metrics): line protocol, one row a line.
    Unnumbered {
        /// The encoded rows, each ended by `\n`.
        lines: Vec<u8>,
        /// How many they are.
        rows: u64,
    },
}

/// What has become of an batch of entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppendReceipt {
    /// Its place in the journal's order. Replies may overtake each other: of two states of the same life the one with the
    /// higher number is newer.
    pub number: u64,
    /// The record of every life that is named in it, as it is now.
    pub states: Vec<DeliveryState>,
}

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
    /// The journal that confirms; none where that is not known.
    pub journal: Option<JournalId>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_one_by_one() {
        let mut lines = NumberedLines::default();
        assert_eq!((lines.last(), lines.len()), (None, 0));
        let write = |text: &'static str, result: Result<(), ()>| {
            move |out: &mut Vec<u8>| {
                out.extend_from_slice(text.as_bytes());
                result
            }
        };
        let time = Timestamp::from_nanos(1);
        assert_eq!(lines.push_with(7, time, write("a x=1 1", Ok(()))), Ok(()));
        assert_eq!(lines.push_with(8, time, write("half of a r", Err(()))), Err(()));
        lines.append(&[(9, "b x=2 2"), (3, "")].into_iter().collect());
        let rows: Vec<_> = lines.iter().map(|row| (row.sequence, row.line, row.time)).collect();
        assert_eq!(rows, [(7, &b"a x=1 1"[..], Some(time)), (9, b"b x=2 2", None), (3, b"", None)]);
        assert_eq!((lines.last(), lines.len(), lines.bytes()), (Some(&b""[..]), 3, 14));
    }
}
