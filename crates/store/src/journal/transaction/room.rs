//! Room for new rows: which rows go for them, and who has to wait.

use hashbrown::HashMap;
use rusqlite::{OptionalExtension, params};

use super::JournalTransaction;
use crate::encoding::checksum;
use crate::journal::block::{BLOCK_OVERHEAD_BYTES, BlockBuilder, Index, Owner, Part, Whose};
use crate::journal::incarnation::Unwritten;
use crate::journal::schema::{DELIVERED, HERE};
use crate::journal::shares::WAITING_SHARED_PARTS;
use heartwatch_domain::publisher::PublisherId;

/// Blocks of history that are dropped in one step.
const DROP_STEP_BLOCKS: u32 = 8;

/// What a row takes at most in the index, with an owner that is new there.
const ROW_OVERHEAD_BYTES: u64 = 128;

/// A block whose rows may make room.
struct Candidate {
    /// When it was committed, and its id.
    place: (i64, i64),
    bytes: u64,
    index: Vec<u8>,
}

impl JournalTransaction<'_> {
    /// Whether a row outside the ledger fits below the limit, after history has made room.
    pub(super) fn has_room(&mut self, bytes: usize) -> rusqlite::Result<bool> {
        self.has_room_for(None, bytes)
    }

    /// Whether a row of an incarnation fits below the limit, after history has made room.
    pub(super) fn has_room_for(&mut self, number: Option<usize>, bytes: usize) -> rusqlite::Result<bool> {
        while !self.fits_below_limit(bytes) {
            if !self.make_room()? {
                return Ok(false);
            }
        }
        Ok(self.leaves_the_shares(number, bytes))
    }

    /// Whether a row of an incarnation fits now.
    pub(super) fn fits(&mut self, number: usize, bytes: usize) -> bool {
        self.fits_below_limit(bytes) && self.leaves_the_shares(Some(number), bytes)
    }

    fn fits_below_limit(&self, bytes: usize) -> bool {
        self.changed.level.bytes + self.gathered() + bytes as u64 + ROW_OVERHEAD_BYTES <= self.config.bytes_max
    }

    fn gathered(&self) -> u64 {
        self.builder.bytes() + if self.builder.rows() > 0 { BLOCK_OVERHEAD_BYTES } else { 0 }
    }

    /// Whether what others may need of the room stays free. History makes room at any time: only rows that wait count.
    fn leaves_the_shares(&mut self, number: Option<usize>, bytes: usize) -> bool {
        let bytes_max = self.config.bytes_max;
        let waiting = self.changed.level.undelivered_bytes + self.gathered() + bytes as u64;
        if !self.config.has_sink || waiting <= bytes_max - bytes_max / WAITING_SHARED_PARTS {
            return true;
        }
        if let Some(number) = number {
            let owner = &self.changed.incarnations.get_mut(number).owner;
            let held = self.known.shares.held(&self.changed.shares, &owner.0).waiting + self.builder.part_bytes(number);
            if held + bytes as u64 <= self.known.shares.of_waiting(bytes_max) {
                return true;
            }
        }
        let (shares, kept_free) = (&self.known.shares, &mut self.kept_free);
        waiting + *kept_free.get_or_insert_with(|| shares.kept_free(bytes_max)) <= bytes_max
    }

    /// Drops what is also in the sink, the oldest first, then what its publishers can spare. Without a sink, what once waited
    /// for one is here alone.
    fn make_room(&mut self) -> rusqlite::Result<bool> {
        let sql = "DELETE FROM blocks WHERE id IN
                   (SELECT id FROM blocks WHERE delivered = 1 ORDER BY committed_at, id LIMIT ?1)
                   RETURNING bytes";
        if self.drop_history(sql, i64::from(DROP_STEP_BLOCKS))? > 0 || self.expire_some()? {
            return Ok(true);
        }
        if self.config.has_sink {
            // what waits for the sink is worth more than what was never for it
            return self.expire_the_oldest();
        }
        let sql = "SELECT id FROM blocks WHERE delivered = 0 ORDER BY id LIMIT 1";
        let oldest: Option<i64> = self.transaction.query_row(sql, [], |row| row.get(0)).optional()?;
        match oldest {
            Some(id) => self.no_longer_waits(id, HERE, None),
            None => self.expire_the_oldest(),
        }
    }

    pub(super) fn drop_aged(&mut self) -> rusqlite::Result<()> {
        let seconds = i64::try_from(self.config.history.as_secs()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        let sql = "DELETE FROM blocks WHERE id IN
                   (SELECT id FROM blocks WHERE delivered = 1 AND committed_at <= unixepoch() - ?1
                    ORDER BY committed_at, id LIMIT 8)
                   RETURNING bytes";
        self.drop_history(sql, seconds).map(|_| ())
    }

    fn drop_history(&mut self, sql: &str, parameter: i64) -> rusqlite::Result<usize> {
        const { assert!(DELIVERED == 1, "as it stands in the statements") };
        let mut statement = self.transaction.prepare_cached(sql)?;
        let dropped: Vec<i64> = statement.query_map([parameter], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let bytes: u64 = dropped.iter().map(|bytes| bytes.cast_unsigned()).sum();
        self.changed.level.bytes = self.changed.level.bytes.saturating_sub(bytes);
        Ok(dropped.len())
    }

    /// The oldest rows that are stored here alone make room, of publishers that hold more than their share.
    fn expire_some(&mut self) -> rusqlite::Result<bool> {
        let bytes_max = self.config.bytes_max;
        if self.known.shares.round_is_over(&self.changed.shares, bytes_max) {
            self.changed.shares.begin_round();
        }
        let mut is_whole_round = self.changed.shares.is_at_the_oldest();
        loop {
            let Some(candidate) = self.next_here(self.changed.shares.after())? else {
                if is_whole_round {
                    return Ok(false);
                }
                self.changed.shares.begin_round();
                is_whole_round = true;
                continue;
            };
            let freed = self.thin(&candidate)?;
            self.changed.shares.looked_at(candidate.place, freed);
            if freed > 0 {
                return Ok(true);
            }
        }
    }

    /// Nobody has more than its share, and there is no room all the same.
    fn expire_the_oldest(&mut self) -> rusqlite::Result<bool> {
        let Some(oldest) = self.next_here((i64::MIN, i64::MIN))? else { return Ok(false) };
        for (owner, part) in Index::read(&oldest.index).map(|index| index.parts()).unwrap_or_default() {
            self.expire(&owner, part);
        }
        self.drop_block(&oldest)?;
        Ok(true)
    }

    fn next_here(&self, after: (i64, i64)) -> rusqlite::Result<Option<Candidate>> {
        const { assert!(HERE == 2, "as it stands in the statement") };
        let sql = "SELECT committed_at, id, bytes, row_index FROM blocks
                   WHERE delivered = 2 AND committed_at >= ?1 AND (committed_at > ?1 OR id > ?2)
                   ORDER BY committed_at, id LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Candidate> {
            let bytes: i64 = row.get(2)?;
            Ok(Candidate { place: (row.get(0)?, row.get(1)?), bytes: bytes.cast_unsigned(), index: row.get(3)? })
        };
        self.transaction.prepare_cached(sql)?.query_row(params![after.0, after.1], read).optional()
    }

    /// Takes rows out of a block, the first ones first, of publishers that hold more than their share. Says how many bytes
    /// that frees.
    fn thin(&mut self, block: &Candidate) -> rusqlite::Result<u64> {
        let Some(index) = Index::read(&block.index) else {
            // nobody can say whose its rows are; the next start finds that they are gone
            return self.drop_block(block);
        };
        let share = self.known.shares.of_stored(self.config.bytes_max);
        let parts = index.parts();
        let mut in_block: HashMap<&PublisherId, u64> = HashMap::new();
        for ((publisher, _), part) in &parts {
            *in_block.entry(publisher).or_default() += part.bytes;
        }
        let spare = |publisher| (publisher, self.known.shares.spare(&self.changed.shares, publisher, share));
        let spare: HashMap<&PublisherId, u64> = in_block.keys().copied().map(spare).collect();
        if in_block.iter().all(|(publisher, bytes)| spare.get(publisher).is_some_and(|spare| bytes <= spare)) {
            for (owner, part) in &parts {
                self.expire(owner, *part);
            }
            return self.drop_block(block);
        }
        if spare.values().any(|spare| *spare > 0) || index.rows.iter().any(|row| row.whose == Whose::Nobody) {
            return self.rewrite(block, &index, &parts, spare);
        }
        for ((publisher, _), _) in &parts {
            self.changed.shares.keep(publisher);
        }
        Ok(0)
    }

    /// Writes a block again without the first rows of publishers that can spare so many bytes, and without rows of nobody.
    fn rewrite(
        &mut self,
        block: &Candidate,
        index: &Index,
        parts: &[(Owner, Part)],
        mut spare: HashMap<&PublisherId, u64>,
    ) -> rusqlite::Result<u64> {
        let id = block.place.1;
        let read = "SELECT lines FROM blocks WHERE id = ?1";
        let lines: Vec<u8> = self.transaction.prepare_cached(read)?.query_row([id], |row| row.get(0))?;
        let mut left = BlockBuilder::default();
        let mut damaged: HashMap<&Owner, u64> = HashMap::new();
        for row in &index.rows {
            let Some(owner) = index.owner_of(row) else { continue };
            if let Some(spare) = spare.get_mut(&owner.0) {
                match spare.checked_sub(Part::row_bytes(row.place.len())) {
                    Some(less) => {
                        *spare = less;
                        continue;
                    }
                    // the later ones stay as well
                    None => *spare = 0,
                }
            }
            match row.whole(&lines) {
                Some(line) => left.push_again(index, row, line),
                None => *damaged.entry(owner).or_default() += row.rows,
            }
        }
        let left = left.finish();
        for (owner, part) in parts {
            let kept = left.iter().flat_map(|left| &left.parts).find(|(other, _)| other == owner);
            if kept.is_some() {
                self.changed.shares.keep(&owner.0);
            }
            let kept = kept.map_or_else(Part::default, |(_, part)| *part);
            let damaged = damaged.get(owner).copied().unwrap_or(0);
            if damaged > 0 {
                self.damaged(owner, damaged);
            }
            let rows = part.rows.saturating_sub(kept.rows).saturating_sub(damaged);
            self.expire(owner, Part { rows, bytes: part.bytes.saturating_sub(kept.bytes), ..Part::default() });
        }
        let Some(left) = left else { return self.drop_block(block) };
        let (time_min, time_max) = left.times.unzip();
        self.transaction
            .prepare_cached(
                "UPDATE blocks SET rows = ?2, bytes = ?3, time_min = ?4, time_max = ?5, row_index = ?6,
                 lines_checksum = ?7, lines = ?8 WHERE id = ?1",
            )?
            .execute(params![
                id,
                left.rows.cast_signed(),
                left.bytes().cast_signed(),
                time_min,
                time_max,
                left.index,
                checksum(&left.lines),
                left.lines
            ])?;
        self.read_blocks.forget();
        let freed = block.bytes.saturating_sub(left.bytes());
        self.changed.level.bytes = self.changed.level.bytes.saturating_sub(freed);
        Ok(freed)
    }

    fn drop_block(&mut self, block: &Candidate) -> rusqlite::Result<u64> {
        self.transaction.prepare_cached("DELETE FROM blocks WHERE id = ?1")?.execute([block.place.1])?;
        self.changed.level.bytes = self.changed.level.bytes.saturating_sub(block.bytes);
        Ok(block.bytes)
    }

    /// Rows that were stored here alone are gone.
    fn expire(&mut self, owner: &Owner, part: Part) {
        let number = self.changed.incarnations.number_of(&self.known.incarnations, owner);
        let state = self.state(number);
        state.expired = state.expired.saturating_add(part.rows);
        state.stored = state.stored.saturating_sub(part.rows);
        state.here = state.here.saturating_sub(part.rows);
        state.differs(Unwritten::More);
        self.changed.shares.change(&owner.0, 0, -part.bytes.cast_signed());
        if part.rows > 0 {
            *self.changed.expired.entry_ref(&owner.0).or_default() += part.rows;
        }
    }

    fn damaged(&mut self, owner: &Owner, rows: u64) {
        let number = self.changed.incarnations.number_of(&self.known.incarnations, owner);
        let state = self.state(number);
        state.damaged = state.damaged.saturating_add(rows);
        state.stored = state.stored.saturating_sub(rows);
        state.here = state.here.saturating_sub(rows);
        state.differs(Unwritten::More);
        tracing::error!(publisher = %owner.0, rows, "rows that were stored here were changed on disk: they are lost");
    }
}
