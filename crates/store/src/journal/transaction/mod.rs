//! One group commit while it is being made: what a transaction has changed, in the file and in memory.
//! It becomes true when the transaction commits; before that it can be dropped and nothing has happened.

mod arrived;
mod conflict;
mod room;

use std::collections::HashSet;

use hashbrown::HashMap;
use rusqlite::{OptionalExtension, Transaction, params};

use self::conflict::ReadBlocks;
use super::block::Place;
use super::block::{Block, BlockBuilder, Index, Owner, Part, line_time};
use super::dirty_incarnations::{Answers, DirtyIncarnation, DirtyIncarnations};
use super::incarnation::{IncarnationState, Unwritten};
use super::marks::NewMarks;
use super::memory_state::MemoryState;
use super::point_index::{Points, Stamped, Takes};
use super::recent_blocks::RecentBlock;
use super::schema::{DELIVERED, HERE, WAITING};
use super::shares::NewShares;
use super::verdict_row::LastVerdict;
use super::{DeadLetter, JournalConfig, Level};
use crate::encoding::checksum;
use heartwatch_domain::confirmers::Confirmer;
use heartwatch_domain::intake::{DeliveryState, IntakeEntry, NumberedLine, NumberedLines};
use heartwatch_domain::journal_id::JournalId;
use heartwatch_domain::publisher::{Incarnation, PublisherId};
use heartwatch_domain::reading::Sequence;
use heartwatch_domain::roster::Standing;
use heartwatch_domain::sequence::Accepted;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::Change;
use heartwatch_formats::line_protocol::{EncodeError, Rows};

/// Most dead letters kept; the oldest go first.
const DEAD_LETTERS_MAX: u64 = 10_000;
/// Most verdict changes kept beyond the last one of each publisher.
const CHANGES_MAX: u64 = 1_000_000;
/// Old changes are looked for once in this many epochs.
const CHANGES_PRUNE_EVERY: u64 = 1_000;
/// Most earlier lives that a publisher is asked about at once.
const OWING_LIVES_ASKED_MAX: usize = 8;
/// What a reading takes at most beyond its row: its place in the index, its share of a block, a later time.
const READING_OVERHEAD_BYTES_MAX: usize = 128;

/// A transaction with what it will have changed.
pub(super) struct JournalTransaction<'a> {
    transaction: &'a Transaction<'a>,
    config: &'a JournalConfig,
    known: &'a MemoryState,
    /// Which journal this is.
    identity: Option<JournalId>,
    builder: BlockBuilder,
    /// Writes with rows so far.
    appends: usize,
    /// Bytes that are kept free for those that hold less than their share; none where nobody has asked yet.
    kept_free: Option<u64>,
    read_blocks: ReadBlocks,
    changed: Changed,
}

/// What a committed draft changes in memory.
pub(super) struct Changed {
    pub(super) incarnations: DirtyIncarnations,
    /// The block that was written last.
    pub(super) last_block: i64,
    /// Who holds how much of the room.
    pub(super) shares: NewShares,
    /// Rows that were stored here alone and have made room, by publisher.
    pub(super) expired: HashMap<PublisherId, u64>,
    /// Readings that came with a number that another one had, by publisher.
    pub(super) conflicts: HashMap<PublisherId, u64>,
    /// In which blocks its numbers are.
    pub(super) places: Vec<(Owner, Place)>,
    pub(super) verdicts: HashMap<PublisherId, LastVerdict>,
    pub(super) level: Level,
    /// Readings that the publishers keep.
    pub(super) refused_readings: u64,
    /// Rows outside the ledger that were dropped.
    pub(super) given_up_rows: u64,
    pub(super) accepted_rows: u64,
    /// Points that its readings take.
    pub(super) points: Points,
    /// Messages without numbers that came.
    pub(super) marks: NewMarks,
    /// Rows whose time was moved because another one of their series had it.
    pub(super) moved_rows: u64,
    /// Blocks that wait for the sink from now on.
    pub(super) fresh: Vec<(i64, RecentBlock)>,
    /// Blocks that no longer wait.
    pub(super) delivered: HashSet<i64>,
}

impl Changed {
    fn nothing(known: &MemoryState) -> Self {
        Self {
            incarnations: DirtyIncarnations::default(),
            last_block: known.last_block,
            shares: known.shares.unchanged(),
            expired: HashMap::new(),
            conflicts: HashMap::new(),
            places: Vec::new(),
            verdicts: HashMap::new(),
            level: known.level,
            refused_readings: 0,
            given_up_rows: 0,
            accepted_rows: 0,
            points: Points::default(),
            marks: NewMarks::default(),
            moved_rows: 0,
            fresh: Vec::new(),
            delivered: HashSet::new(),
        }
    }
}

impl<'a> JournalTransaction<'a> {
    /// For writes of about so many bytes.
    pub(super) fn new(
        transaction: &'a Transaction<'a>,
        config: &'a JournalConfig,
        known: &'a MemoryState,
        identity: Option<JournalId>,
        bytes: usize,
    ) -> Self {
        let changed = Changed::nothing(known);
        let builder = BlockBuilder::expecting(bytes);
        Self {
            transaction,
            config,
            known,
            identity,
            builder,
            appends: 0,
            kept_free: None,
            read_blocks: ReadBlocks::default(),
            changed,
        }
    }

    pub(super) fn append(&mut self, entries: &[IntakeEntry]) -> rusqlite::Result<Vec<DeliveryState>> {
        self.appends += 1;
        let mut answers = Answers::to_write(self.appends, entries.len());
        for entry in entries {
            match entry {
                IntakeEntry::Readings { publisher, incarnation, lines, .. } => {
                    let number = self.number_of(publisher, *incarnation);
                    let refused = self.readings(number, lines)?;
                    answers.add(&mut self.changed.incarnations, number, refused);
                }
                IntakeEntry::Produced { publisher, incarnation, produced } => {
                    let number = self.number_of(publisher, *incarnation);
                    let state = self.state(number);
                    if *produced > state.tracker.known() {
                        state.tracker.know_produced(*produced);
                        state.differs(Unwritten::More);
                    }
                    // a heartbeat is the occasion to write down what has waited for one
                    if state.unwritten != Unwritten::Nothing {
                        state.differs(Unwritten::More);
                    }
                    answers.add(&mut self.changed.incarnations, number, 0);
                    // a later life is there to be asked for what its earlier ones still owe
                    let owing = self.known.missing.get(publisher).into_iter().flatten();
                    for life in owing.take_while(|life| *life < incarnation).take(OWING_LIVES_ASKED_MAX) {
                        let number = self.number_of(publisher, *life);
                        answers.add(&mut self.changed.incarnations, number, 0);
                    }
                }
                IntakeEntry::GivenUp { publisher, incarnation, first, last, reason, confirmed_by } => {
                    let number = self.number_of(publisher, *incarnation);
                    let own = self.identity.map(Confirmer::Journal);
                    let state = self.state(number);
                    state.differs(Unwritten::More);
                    // What another monitor has confirmed is no loss. What this one had confirmed and lacks is.
                    let is_elsewhere = confirmed_by.is_some() && *confirmed_by != own;
                    let named = if is_elsewhere {
                        state.tracker.mark_elsewhere(*first, *last)
                    } else {
                        state.tracker.mark_lost(*first, *last, reason)
                    };
                    if let Err(error) = named {
                        tracing::warn!(%publisher, first, last, %error, "a loss cannot be named yet: the publisher says it again");
                    }
                    answers.add(&mut self.changed.incarnations, number, 0);
                }
                IntakeEntry::Arrived { publisher, lines, rows, mark } => {
                    self.arrived(publisher, lines, *rows, mark.as_ref())?;
                }
                IntakeEntry::Unnumbered { lines, rows } => self.outside(lines, *rows)?,
            }
        }
        Ok(answers.states(&mut self.changed.incarnations))
    }

    /// Says how many were refused.
    fn readings(&mut self, number: usize, lines: &NumberedLines) -> rusqlite::Result<u64> {
        let most = lines.bytes() + lines.len() * READING_OVERHEAD_BYTES_MAX;
        let all_fit = self.fits(number, most);
        let mut refused = 0;
        for row in lines.iter() {
            if all_fit
                || self.has_room_for(Some(number), row.line.len())?
                || self.state(number).tracker.is_received(row.sequence)
            {
                refused += self.reading(number, &row)?;
            } else {
                let state = self.state(number);
                state.tracker.know_produced(row.sequence);
                state.differs(Unwritten::More);
                refused += 1;
            }
        }
        self.changed.refused_readings += refused;
        Ok(refused)
    }

    /// One reading for which there is room. Says how many were refused: it, or none.
    fn reading(&mut self, number: usize, row: &NumberedLine<'_>) -> rusqlite::Result<u64> {
        let &NumberedLine { sequence, line, time } = row;
        let DirtyIncarnation { owner, state, .. } = self.changed.incarnations.get_mut(number);
        let accepted = state.tracker.accept(sequence);
        state.differs(if accepted == Accepted::New { Unwritten::Readings } else { Unwritten::More });
        match accepted {
            Accepted::New => {
                state.stored += u64::from(!self.config.has_sink);
                let (points, nanos) = (&mut self.changed.points, time.map(Timestamp::as_nanos));
                match self.known.stamps.distinct(points, line, nanos, Takes::Point) {
                    Stamped::AsItIs { time, .. } => self.builder.push_timed(number, owner, sequence, line, Some(time)),
                    Stamped::Moved { line, time, .. } => {
                        self.changed.moved_rows += 1;
                        self.builder.push_timed(number, owner, sequence, &line, Some(time));
                    }
                    Stamped::Unknown => self.builder.push_timed(number, owner, sequence, line, line_time(line)),
                }
                self.changed.accepted_rows += 1;
                self.end_full_block()?;
                Ok(0)
            }
            Accepted::Duplicate => self.came_again(number, row).map(|()| 0),
            Accepted::TooManyGaps | Accepted::NotASequence => Ok(1),
        }
    }

    fn outside(&mut self, lines: &[u8], rows: u64) -> rusqlite::Result<()> {
        if rows == 0 || lines.is_empty() {
            return Ok(());
        }
        if self.has_room(lines.len())? {
            self.builder.push_rows(lines, rows);
            self.changed.accepted_rows += rows;
            self.end_full_block()
        } else {
            self.changed.given_up_rows += rows;
            Ok(())
        }
    }

    /// A change is never refused: the limit is for rows, and changes are few. A change that is
    /// recorded already (its sender did not hear the reply) changes nothing.
    pub(super) fn changes(&mut self, changes: &[Change]) -> rusqlite::Result<()> {
        for change in changes {
            let json = serde_json::to_string(change)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            let new = self
                .transaction
                .prepare_cached("INSERT OR IGNORE INTO changes (epoch, publisher, json) VALUES (?1, ?2, ?3)")?
                .execute(params![change.epoch.cast_signed(), change.publisher.as_str(), json])?;
            if new == 0 {
                continue;
            }
            let row = self.verdict(&change.publisher).change_row(change);
            self.verdict_row(row)?;
            if change.epoch.is_multiple_of(CHANGES_PRUNE_EVERY) {
                self.prune_changes(change.epoch)?;
            }
        }
        Ok(())
    }

    pub(super) fn standing(&mut self, standing: &[Standing]) -> rusqlite::Result<()> {
        for standing in standing {
            let row = self.verdict(&standing.publisher).standing_row(standing);
            if self.has_room(row.as_ref().map_or(0, Vec::len))? {
                self.verdict_row(row)?;
            } else {
                self.changed.given_up_rows += 1;
            }
        }
        Ok(())
    }

    /// Marks blocks as delivered, counts their readings as stored, and keeps what the sink refused.
    pub(super) fn delivered(&mut self, block_ids: &[i64], dead_letters: &[DeadLetter]) -> rusqlite::Result<()> {
        let mut rows_by_line: HashMap<Vec<u8>, Vec<(Owner, Option<Sequence>)>> = HashMap::new();
        let mut blocks = Vec::new();
        for &id in block_ids {
            let rows_of = (!dead_letters.is_empty()).then_some(&mut blocks);
            self.no_longer_waits(id, DELIVERED, rows_of)?;
        }
        for (index, lines) in &blocks {
            for row in &index.rows {
                let (Some(owner), Some(chunk)) = (index.owner_of(row), row.whole(lines)) else { continue };
                let sequence = row.whose.reading().map(|(_, sequence)| sequence);
                for line in Rows::of(chunk) {
                    rows_by_line.entry(line.trim_ascii_end().to_vec()).or_default().push((owner.clone(), sequence));
                }
            }
        }
        for letter in dead_letters {
            let named = rows_by_line.get_mut(letter.line.trim_ascii_end()).and_then(Vec::pop);
            if let Some((owner, _)) = &named {
                let number = self.changed.incarnations.number_of(&self.known.incarnations, owner);
                let state = self.state(number);
                state.stored = state.stored.saturating_sub(1);
                state.rejected += 1;
                state.differs(Unwritten::More);
            }
            let (owner, sequence) = named.map_or((None, None), |(owner, sequence)| (Some(owner), sequence));
            self.transaction
                .prepare_cached(
                    "INSERT INTO dead_letters (refused_at, publisher, incarnation, sequence, reason, line)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    letter.at.to_string(),
                    owner.as_ref().map(|(publisher, _)| publisher.as_str()),
                    owner.as_ref().map(|(_, incarnation)| incarnation.0.cast_signed()),
                    sequence.map(u64::cast_signed),
                    letter.reason,
                    letter.line
                ])?;
            self.changed.level.dead_letters += 1;
        }
        if self.changed.level.dead_letters > DEAD_LETTERS_MAX {
            let over = self.changed.level.dead_letters - DEAD_LETTERS_MAX;
            let sql = "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters ORDER BY id LIMIT ?1)";
            self.transaction.prepare_cached(sql)?.execute([over.cast_signed()])?;
            self.changed.level.dead_letters = DEAD_LETTERS_MAX;
            tracing::warn!(dropped = over, kept = DEAD_LETTERS_MAX, "the oldest dead letters were dropped");
        }
        Ok(())
    }

    /// Writes what is gathered; afterwards the transaction can commit.
    pub(super) fn finish(mut self) -> rusqlite::Result<Changed> {
        self.end_block()?;
        if self.config.has_sink {
            self.drop_aged()?;
        }
        self.known.marks.write(&mut self.changed.marks, self.transaction)?;
        let blocks_wait = self.config.has_sink;
        let last_block = self.changed.last_block;
        for DirtyIncarnation { owner, state, .. } in self.changed.incarnations.iter_mut() {
            if state.has_to_be_written() || !blocks_wait {
                state.write(self.transaction, owner, last_block)?;
            }
        }
        Ok(self.changed)
    }

    fn number_of(&mut self, publisher: &PublisherId, incarnation: Incarnation) -> usize {
        self.changed.incarnations.number_of(&self.known.incarnations, &(publisher.clone(), incarnation))
    }

    fn state(&mut self, number: usize) -> &mut IncarnationState {
        &mut self.changed.incarnations.get_mut(number).state
    }

    /// What it has in a block no longer waits: it is stored, in the sink or here alone.
    fn stored(&mut self, owner: &Owner, part: Part, here: bool) {
        let number = self.changed.incarnations.number_of(&self.known.incarnations, owner);
        let state = self.state(number);
        state.stored += part.rows;
        state.here += if here { part.rows } else { 0 };
        state.differs(Unwritten::More);
        let bytes = part.bytes.cast_signed();
        self.changed.shares.change(&owner.0, -bytes, if here { bytes } else { 0 });
    }

    fn verdict(&mut self, publisher: &PublisherId) -> &mut LastVerdict {
        let known = self.known;
        let from_known = || known.verdicts.get(publisher).cloned().unwrap_or_default();
        self.changed.verdicts.entry(publisher.clone()).or_insert_with(from_known)
    }

    fn verdict_row(&mut self, row: Result<Vec<u8>, EncodeError>) -> rusqlite::Result<()> {
        match row {
            Ok(row) => {
                self.builder.push_rows(&row, 1);
                self.end_full_block()
            }
            Err(error) => {
                tracing::warn!(%error, "a verdict cannot be a row");
                Ok(())
            }
        }
    }

    fn end_full_block(&mut self) -> rusqlite::Result<()> {
        if self.builder.is_full() { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> rusqlite::Result<()> {
        // what follows is about as long
        let next = BlockBuilder::expecting(usize::try_from(self.builder.bytes()).unwrap_or(0));
        let Some(block) = std::mem::replace(&mut self.builder, next).finish() else { return Ok(()) };
        let waits = self.config.has_sink;
        let Block { rows, times, index, lines, .. } = &block;
        let (time_min, time_max) = times.unzip();
        self.transaction
            .prepare_cached(
                "INSERT INTO blocks (delivered, rows, bytes, time_min, time_max, row_index, lines_checksum, lines)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                if waits { WAITING } else { HERE },
                rows.cast_signed(),
                block.bytes().cast_signed(),
                time_min,
                time_max,
                index,
                checksum(lines),
                lines
            ])?;
        self.changed.last_block = self.transaction.last_insert_rowid();
        let level = &mut self.changed.level;
        level.bytes += block.bytes();
        for (owner, part) in &block.parts {
            let bytes = part.bytes.cast_signed();
            let (waiting, here) = if waits { (bytes, 0) } else { (0, bytes) };
            self.changed.shares.change(&owner.0, waiting, here);
            if let Some(place) = part.place(self.changed.last_block) {
                self.changed.places.push((owner.clone(), place));
            }
            if !waits {
                let number = self.changed.incarnations.number_of(&self.known.incarnations, owner);
                self.changed.incarnations.get_mut(number).state.here += part.rows;
            }
        }
        if waits {
            let level = &mut self.changed.level;
            level.undelivered_rows += block.rows;
            level.undelivered_bytes += block.bytes();
            let (id, bytes) = (self.changed.last_block, block.bytes());
            let Block { rows, parts, lines, .. } = block;
            self.changed.fresh.push((id, RecentBlock { rows, bytes, parts, lines }));
        }
        Ok(())
    }

    /// Marks one block that waited as delivered, or as stored here alone; answers its index and rows when they are asked for.
    /// False when it is gone or marked already.
    fn no_longer_waits(
        &mut self,
        id: i64,
        mark: i64,
        rows_of: Option<&mut Vec<(Index, Vec<u8>)>>,
    ) -> rusqlite::Result<bool> {
        let known = self.known;
        let (rows, bytes, index) = match known.fresh.get(id) {
            Some(fresh) if rows_of.is_none() && !self.changed.delivered.contains(&id) => {
                for (owner, part) in &fresh.parts {
                    self.stored(owner, *part, mark == HERE);
                }
                (fresh.rows, fresh.bytes, None)
            }
            _ => {
                let sql = if rows_of.is_some() {
                    "SELECT rows, bytes, row_index, lines FROM blocks WHERE id = ?1 AND delivered = 0"
                } else {
                    "SELECT rows, bytes, row_index, x'' FROM blocks WHERE id = ?1 AND delivered = 0"
                };
                let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(i64, i64, Vec<u8>, Vec<u8>)> {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                };
                let found = self.transaction.prepare_cached(sql)?.query_row([id], read).optional()?;
                let Some((rows, bytes, index, lines)) = found else { return Ok(false) };
                let index = Index::read(&index).unwrap_or(Index { owners: Vec::new(), rows: Vec::new() });
                for (owner, part) in index.parts() {
                    self.stored(&owner, part, mark == HERE);
                }
                (rows.cast_unsigned(), bytes.cast_unsigned(), Some((index, lines)))
            }
        };
        self.transaction.prepare_cached("UPDATE blocks SET delivered = ?2 WHERE id = ?1")?.execute([id, mark])?;
        self.changed.delivered.insert(id);
        let level = &mut self.changed.level;
        level.undelivered_rows = level.undelivered_rows.saturating_sub(rows);
        level.undelivered_bytes = level.undelivered_bytes.saturating_sub(bytes);
        if let Some(rows_of) = rows_of {
            rows_of.extend(index);
        }
        Ok(true)
    }

    fn prune_changes(&self, epoch: u64) -> rusqlite::Result<()> {
        let sql = "DELETE FROM changes WHERE epoch <= ?1
                   AND epoch NOT IN (SELECT max(epoch) FROM changes GROUP BY publisher)";
        let dropped =
            self.transaction.prepare_cached(sql)?.execute([epoch.saturating_sub(CHANGES_MAX).cast_signed()])?;
        if dropped > 0 {
            tracing::info!(dropped, kept = CHANGES_MAX, "the oldest verdict changes were dropped");
        }
        Ok(())
    }
}
