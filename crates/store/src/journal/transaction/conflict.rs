//! A number that was taken comes again: a copy, or another reading under the same number, which is kept beside the first.

use hashbrown::HashMap;
use rusqlite::{OptionalExtension, Transaction};

use super::JournalTransaction;
use crate::journal::block::Owner;
use crate::journal::copies::{Before, ReadBlock};
use crate::journal::dirty_incarnations::DirtyIncarnation;
use crate::journal::incarnation::Unwritten;
use crate::journal::point_index::{Stamped, Takes};
use heartwatch_domain::intake::NumberedLine;
use heartwatch_domain::reading::Sequence;
use heartwatch_domain::time::Timestamp;

/// Most blocks in which one number is looked for.
const BLOCKS_LOOKED_AT_MAX: usize = 8;
/// Most blocks that are kept for the next number.
const BLOCKS_KEPT_MAX: usize = 16;

/// Blocks that were read for the copies in them.
#[derive(Debug, Default)]
pub(super) struct ReadBlocks(HashMap<i64, Option<ReadBlock>>);

impl ReadBlocks {
    /// What is known of a number, with what a block says of it.
    fn compare(
        &mut self,
        transaction: &Transaction<'_>,
        id: i64,
        (owner, sequence): (&Owner, Sequence),
        came: &[u8],
        before: Before,
    ) -> rusqlite::Result<Before> {
        if self.0.len() >= BLOCKS_KEPT_MAX && !self.0.contains_key(&id) {
            self.0.clear();
        }
        let block = match self.0.entry(id) {
            hashbrown::hash_map::Entry::Occupied(known) => known.into_mut(),
            hashbrown::hash_map::Entry::Vacant(place) => {
                let mut select = transaction.prepare_cached("SELECT row_index, lines FROM blocks WHERE id = ?1")?;
                let read = select.query_row([id], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?))).optional()?;
                place.insert(read.and_then(|(index, lines)| ReadBlock::new(&index, lines)))
            }
        };
        let copies = block.iter().flat_map(|block| block.of(owner, sequence));
        Ok(copies.fold(before, |before, stored| before.and(stored, came)))
    }

    /// Blocks have been written again.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

impl JournalTransaction<'_> {
    /// A reading came whose number was received before: a copy is counted, and another reading is kept beside the first. A
    /// copy of that is one as well.
    pub(super) fn came_again(
        &mut self,
        number: usize,
        &NumberedLine { sequence, line, time }: &NumberedLine<'_>,
    ) -> rusqlite::Result<()> {
        if self.before(number, sequence, line)? != Before::Others {
            return Ok(());
        }
        let has_room = self.has_room_for(Some(number), line.len())?;
        let DirtyIncarnation { owner, state, .. } = self.changed.incarnations.get_mut(number);
        state.tracker.take_back_duplicate();
        state.conflicts += 1;
        *self.changed.conflicts.entry_ref(&owner.0).or_default() += 1;
        if !has_room {
            // its number is confirmed already: nobody sends it again
            state.refused += 1;
            self.changed.given_up_rows += 1;
            return Ok(());
        }
        state.unnumbered += 1;
        state.stored += u64::from(!self.config.has_sink);
        state.differs(Unwritten::More);
        let points = &mut self.changed.points;
        match self.known.stamps.distinct(points, line, time.map(Timestamp::as_nanos), Takes::Point) {
            Stamped::Moved { line, .. } => {
                self.changed.moved_rows += 1;
                self.builder.push_conflict(number, owner, sequence, &line);
            }
            Stamped::AsItIs { .. } | Stamped::Unknown => self.builder.push_conflict(number, owner, sequence, line),
        }
        self.changed.accepted_rows += 1;
        self.end_full_block()
    }

    /// What is known of the readings that came with a number before.
    fn before(&mut self, number: usize, sequence: Sequence, came: &[u8]) -> rusqlite::Result<Before> {
        let gathered = self.builder.copies(number, sequence);
        let mut before = gathered.fold(Before::Unknown, |before, stored| before.and(stored, came));
        let owner = &self.changed.incarnations.get_mut(number).owner;
        let in_this_commit = self.changed.places.iter().rev();
        let in_this_commit = in_this_commit.filter(|(of, place)| of == owner && place.may_have(sequence));
        let blocks = in_this_commit.map(|(_, place)| place.block).chain(self.known.places.of(owner, sequence));
        if before == Before::Same {
            return Ok(before);
        }
        for block in blocks.take(BLOCKS_LOOKED_AT_MAX) {
            before = self.read_blocks.compare(self.transaction, block, (owner, sequence), came, before)?;
            if before == Before::Same {
                break;
            }
        }
        Ok(before)
    }
}
