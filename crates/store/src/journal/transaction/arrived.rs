//! Rows that their publisher does not number: which of them are new, and where they are put.

use super::JournalTransaction;
use crate::journal::dirty_incarnations::DirtyIncarnation;
use crate::journal::incarnation::Unwritten;
use crate::journal::point_index::{Stamped, Takes};
use heartwatch_domain::marks::SourceMark;
use heartwatch_domain::publisher::{Incarnation, PublisherId};
use heartwatch_formats::line_protocol::Rows;

/// Rows of which none overwrites another.
struct Distinct {
    lines: Vec<u8>,
    rows: u64,
    /// Those that are one point with another row.
    merged: u64,
}

impl JournalTransaction<'_> {
    /// What one message says that does not number its readings. Nobody sends it again: what has no room is lost.
    pub(super) fn arrived(
        &mut self,
        publisher: &PublisherId,
        lines: &[u8],
        rows: u64,
        mark: Option<&SourceMark>,
    ) -> rusqlite::Result<()> {
        if rows == 0 || lines.is_empty() {
            return Ok(());
        }
        let number = self.number_of(publisher, Incarnation::UNNUMBERED);
        if self.known.marks.is_here(&mut self.changed.marks, mark) {
            self.copies(number, rows);
            return Ok(());
        }
        if !self.has_room_for(Some(number), lines.len())? {
            let state = self.state(number);
            state.refused += rows;
            state.differs(Unwritten::More);
            self.changed.given_up_rows += rows;
            return Ok(());
        }
        let Distinct { lines, rows: kept, merged } = self.distinct_rows(lines, mark == Some(&SourceMark::Retained));
        if kept < rows {
            self.copies(number, rows - kept);
        }
        if kept == 0 {
            return Ok(());
        }
        let DirtyIncarnation { owner, state, .. } = self.changed.incarnations.get_mut(number);
        state.unnumbered += kept;
        state.stored += if self.config.has_sink { 0 } else { kept };
        state.differs(Unwritten::Readings);
        if merged > 0 {
            state.merged += merged;
            state.differs(Unwritten::More);
        }
        let earliest = self.builder.push_unnumbered(number, owner, &lines, kept);
        state.note_earliest(earliest);
        self.changed.accepted_rows += kept;
        self.end_full_block()
    }

    fn copies(&mut self, number: usize, rows: u64) {
        let state = self.state(number);
        state.copies = state.copies.saturating_add(rows);
        state.differs(Unwritten::More);
    }

    /// The rows of a message, each at a point of which it overwrites nothing, and how many they are. What the broker had kept from
    /// before has come, where its point is taken.
    fn distinct_rows(&mut self, lines: &[u8], retained: bool) -> Distinct {
        let (stamps, points) = (&self.known.stamps, &mut self.changed.points);
        let mut distinct = Distinct { lines: Vec::with_capacity(lines.len() + 16), rows: 0, merged: 0 };
        for row in Rows::of(lines) {
            if retained && stamps.is_here(points, row) {
                continue;
            }
            distinct.rows += 1;
            match stamps.distinct(points, row, None, Takes::Fields) {
                Stamped::Moved { line, is_shared, .. } => {
                    self.changed.moved_rows += 1;
                    distinct.merged += u64::from(is_shared);
                    distinct.lines.extend_from_slice(&line);
                }
                Stamped::AsItIs { is_shared, .. } => {
                    distinct.merged += u64::from(is_shared);
                    distinct.lines.extend_from_slice(row);
                }
                Stamped::Unknown => distinct.lines.extend_from_slice(row),
            }
            distinct.lines.push(b'\n');
        }
        distinct
    }
}
