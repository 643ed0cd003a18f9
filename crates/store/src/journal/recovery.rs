//! Reading the journal's state from its file, and putting right what does not fit together.
//!
//! Every row that is here alone is compared with its checksum: it waits for the sink, or there was none. Rows that are not what was written are taken
//! out and counted as damaged, by publisher. The ledger knows readings of undelivered blocks from them, where it was not
//! written since they came; one that was damaged is built again from all blocks.

use std::cmp::Ordering;
use std::collections::HashSet;

use hashbrown::HashMap;
use rusqlite::{Connection, Transaction, params};

use super::block::{BlockBuilder, Index, Owner, Part};
use super::copies::Places;
use super::dirty_incarnations::Incarnations;
use super::incarnation::IncarnationState;
use super::marks::Marks;
use super::memory_state::MemoryState;
use super::point_index::PointIndex;
use super::schema::{DELIVERED, WAITING};
use super::shares::Held;
use super::verdict_row::LastVerdict;
use super::{Level, history_check, since};
use crate::encoding::checksum;
use heartwatch_domain::publisher::{Incarnation, PublisherId};
use heartwatch_domain::verdict::Change;
use heartwatch_formats::line_protocol::Rows;

/// Reads the state; what had to be put right is appended to `damage` in words, and committed.
/// `compare` puts right what only a witness beside the file knows.
pub(super) fn load(
    connection: &mut Connection,
    has_sink: bool,
    damage: &mut Vec<String>,
    compare: impl FnOnce(&mut Incarnations, &mut HashSet<Owner>, &mut Vec<String>),
) -> rusqlite::Result<MemoryState> {
    let was_salvaged = !damage.is_empty();
    let transaction = connection.transaction()?;
    let (since, begins_now) = since::begin(&transaction, has_sink)?;
    let mut incarnations = Incarnations::default();
    let last_block = last_block(&transaction)?;
    let ledger_is_whole = load_incarnations(&transaction, last_block, &mut incarnations, damage)?;
    history_check::check(&transaction, damage)?;
    let mut changed = HashSet::new();
    let in_blocks =
        check_blocks(&transaction, damage, |id, index| accept(id, index, false, &mut incarnations, &mut changed))?;
    if was_salvaged || !ledger_is_whole {
        accept_what_is_there(&transaction, &mut incarnations, &mut changed)?;
    }
    for (owner, state) in &mut incarnations {
        let in_blocks = in_blocks.get(owner).copied().unwrap_or_default();
        let (expected, found) = (state.buffered(), in_blocks.waiting.rows);
        if found < expected {
            let gone = expected - found;
            state.damaged += gone;
            damage.push(format!("{gone} readings of {} (incarnation {}) that waited here are lost", owner.0, owner.1));
        } else if found > expected {
            // the ledger's row is older than the blocks: they are counted as waiting again
            let excess = found - expected;
            let from_damaged = excess.min(state.damaged);
            state.damaged -= from_damaged;
            state.stored = state.stored.saturating_sub(excess - from_damaged);
        }
        let before = (state.here, state.stored);
        match in_blocks.here.rows.cmp(&state.here) {
            // what was dropped for room was called stored by earlier versions; of a damaged file only that record may be gone
            _ if begins_now && !has_sink && !was_salvaged => {
                state.expired += state.stored.saturating_sub(in_blocks.here.rows);
                state.stored = state.stored.min(in_blocks.here.rows);
            }
            Ordering::Less => {
                let gone = state.here - in_blocks.here.rows;
                state.damaged += gone;
                state.stored = state.stored.saturating_sub(gone);
                damage.push(format!(
                    "{gone} rows of {} (incarnation {}) that were stored here are lost",
                    owner.0, owner.1
                ));
            }
            Ordering::Equal | Ordering::Greater => state.stored = state.stored.max(in_blocks.here.rows),
        }
        state.here = in_blocks.here.rows;
        if found != expected || before != (state.here, state.stored) {
            changed.insert(owner.clone());
        }
    }
    compare(&mut incarnations, &mut changed, damage);
    for owner in &changed {
        if let Some(state) = incarnations.get_mut(owner) {
            state.write(&transaction, owner, last_block)?;
        }
    }
    Marks::forget(&transaction)?;
    let level = read_level(&transaction)?;
    transaction.commit()?;
    let verdicts =
        last_changes(connection)?.iter().map(|change| (change.publisher.clone(), LastVerdict::of(change))).collect();
    let (marks, stamps, places) = (Marks::read(connection)?, PointIndex::read(connection)?, Places::read(connection)?);
    let mut known = MemoryState { verdicts, level, since, last_block, marks, stamps, places, ..MemoryState::default() };
    known.begin(incarnations);
    for ((publisher, _), InBlocks { waiting, here }) in &in_blocks {
        known.shares.note(publisher, Held { waiting: waiting.bytes, here: here.bytes });
    }
    Ok(known)
}

/// The last change of every publisher, by epoch.
pub(super) fn last_changes(connection: &Connection) -> rusqlite::Result<Vec<Change>> {
    let mut select = connection.prepare(
        "SELECT json FROM changes WHERE epoch IN (SELECT max(epoch) FROM changes GROUP BY publisher) ORDER BY epoch",
    )?;
    let json: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let readable = json.iter().filter_map(|json| match serde_json::from_str(json) {
        Ok(change) => Some(change),
        Err(error) => {
            tracing::error!(%error, json, "a recorded verdict change is damaged");
            None
        }
    });
    Ok(readable.collect())
}

/// Says whether every record of the ledger could be read.
fn load_incarnations(
    transaction: &Transaction<'_>,
    last_block: i64,
    incarnations: &mut Incarnations,
    damage: &mut Vec<String>,
) -> rusqlite::Result<bool> {
    let mut damaged_ids = Vec::new();
    let mut select = transaction.prepare("SELECT id, publisher, incarnation, state FROM incarnations")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (id, incarnation): (i64, i64) = (row.get(0)?, row.get(2)?);
        let publisher = row.get_ref(1)?.as_str().ok().and_then(|text| PublisherId::parse(text).ok());
        let bytes = row.get_ref(3)?.as_blob().unwrap_or_default();
        let owner = publisher.map(|publisher| (publisher, Incarnation(incarnation.cast_unsigned())));
        let state = owner.as_ref().and_then(|owner| IncarnationState::restore(id, owner, bytes));
        match (owner, state) {
            (Some(owner), Some(mut state)) => {
                // a salvaged file may begin anew with its blocks' numbers
                state.counted_through = state.counted_through.min(last_block);
                incarnations.insert(owner, state);
            }
            (owner, _) => {
                let whose = owner.map_or_else(|| "an unreadable publisher".to_owned(), |(id, _)| id.to_string());
                damage.push(format!("the account of {whose} (incarnation {incarnation}) is damaged; it is built again from the rows that are here"));
                damaged_ids.push(id);
            }
        }
    }
    for id in &damaged_ids {
        transaction.execute("DELETE FROM incarnations WHERE id = ?1", [id])?;
    }
    Ok(damaged_ids.is_empty())
}

/// What an owner has in blocks that nobody else has.
#[derive(Debug, Clone, Copy, Default)]
struct InBlocks {
    waiting: Part,
    here: Part,
}

impl InBlocks {
    fn add(&mut self, mark: i64, part: &Part) {
        let all = if mark == WAITING { &mut self.waiting } else { &mut self.here };
        all.rows += part.rows;
        all.bytes += part.bytes;
    }
}

/// Compares every row that is here alone with its checksum, takes out those that were damaged, and counts the
/// rows of every owner. `came` is given each index of waiting rows that can be read, oldest first.
fn check_blocks(
    transaction: &Transaction<'_>,
    damage: &mut Vec<String>,
    mut came: impl FnMut(i64, &Index),
) -> rusqlite::Result<HashMap<Owner, InBlocks>> {
    let mut in_blocks: HashMap<Owner, InBlocks> = HashMap::new();
    let mut repairs = Vec::new();
    let mut unverified = Vec::new();
    let mut select = transaction.prepare(
        "SELECT id, rows, lines_checksum, row_index, lines, delivered FROM blocks WHERE delivered <> ?1 ORDER BY id",
    )?;
    let mut rows = select.query([DELIVERED])?;
    while let Some(row) = rows.next()? {
        let (id, count, mark): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(5)?);
        let (index, lines) =
            (row.get_ref(3)?.as_blob().unwrap_or_default(), row.get_ref(4)?.as_blob().unwrap_or_default());
        let mut parts = Vec::new();
        let index = Index::read(index);
        index.iter().filter(|_| mark == WAITING).for_each(|index| came(id, index));
        match index {
            Some(index) if index.all_whole(lines) => parts = index.parts(),
            Some(index) => {
                let (repaired, gone) = index.repaired(lines);
                let lost: Vec<_> =
                    gone.iter().map(|((publisher, _), count)| format!("{count} of {publisher}")).collect();
                damage.push(format!(
                    "block {id}: {} of {count} rows are whole; readings lost: {}",
                    repaired.rows(),
                    if lost.is_empty() { "none".to_owned() } else { lost.join(", ") }
                ));
                repairs.push((id, mark, repaired));
            }
            None if row.get::<_, i64>(2)? == i64::from(checksum(lines)) => {
                let mut repaired = BlockBuilder::default();
                let kept = Rows::of(lines).count() as u64;
                repaired.push_rows(lines, kept);
                damage.push(format!(
                    "block {id}: its index is damaged; its {kept} rows are delivered outside the ledger"
                ));
                repairs.push((id, mark, repaired));
            }
            None => {
                damage.push(format!(
                    "block {id}: its index and some of its {count} rows are damaged; they are kept as dead letters"
                ));
                unverified.extend(Rows::of(lines).map(<[u8]>::to_vec));
                repairs.push((id, mark, BlockBuilder::default()));
            }
        }
        for (owner, part) in parts {
            in_blocks.entry(owner).or_default().add(mark, &part);
        }
    }
    for (id, mark, repaired) in repairs {
        let Some(block) = repaired.finish() else {
            transaction.execute("DELETE FROM blocks WHERE id = ?1", [id])?;
            continue;
        };
        for (owner, part) in &block.parts {
            in_blocks.entry_ref(owner).or_default().add(mark, part);
        }
        transaction.execute(
            "UPDATE blocks SET rows = ?2, bytes = ?3, row_index = ?4, lines_checksum = ?5, lines = ?6 WHERE id = ?1",
            params![
                id,
                block.rows.cast_signed(),
                block.bytes().cast_signed(),
                block.index,
                checksum(&block.lines),
                block.lines
            ],
        )?;
    }
    for line in unverified {
        transaction.execute(
            "INSERT INTO dead_letters (refused_at, reason, line)
             VALUES (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), 'damaged on disk: it may not be what was written', ?1)",
            [line],
        )?;
    }
    Ok(in_blocks)
}

/// Takes every row that is in a block for received, where the ledger does not know of it.
fn accept_what_is_there(
    transaction: &Transaction<'_>,
    incarnations: &mut Incarnations,
    changed: &mut HashSet<Owner>,
) -> rusqlite::Result<()> {
    // those that wait are known already
    let mut select = transaction.prepare("SELECT id, row_index FROM blocks WHERE delivered <> 0 ORDER BY id")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let Some(index) = Index::read(row.get_ref(1)?.as_blob().unwrap_or_default()) else { continue };
        accept(row.get(0)?, &index, true, incarnations, changed);
    }
    Ok(())
}

/// Takes every row of a block for received, where the ledger does not know of it; `changed` is told whose.
pub(super) fn accept(
    block: i64,
    index: &Index,
    delivered: bool,
    incarnations: &mut Incarnations,
    changed: &mut HashSet<Owner>,
) {
    for (owner, part) in index.parts().into_iter().filter(|(_, part)| part.unnumbered > 0) {
        if incarnations.get(&owner).is_some_and(|state| block <= state.counted_through) {
            continue;
        }
        let state = incarnations.entry(owner.clone()).or_default();
        state.unnumbered += part.unnumbered;
        state.conflicts += part.conflicts;
        state.stored += if delivered { part.unnumbered } else { 0 };
        changed.insert(owner);
    }
    for (owner, sequence) in index.rows.iter().filter_map(|row| row.whose.reading()) {
        let Some(owner) = index.owners.get(owner) else { continue };
        if incarnations.get(owner).is_some_and(|state| state.tracker.is_received(sequence)) {
            continue;
        }
        let state = incarnations.entry(owner.clone()).or_default();
        state.tracker.accept(sequence);
        state.stored += u64::from(delivered);
        changed.insert(owner.clone());
    }
}

/// The block that was written last, also where it is gone.
fn last_block(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    let sql = "SELECT max(coalesce((SELECT max(id) FROM blocks), 0),
                          coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'blocks'), 0))";
    transaction.query_row(sql, [], |row| row.get(0))
}

fn read_level(transaction: &Transaction<'_>) -> rusqlite::Result<Level> {
    let sum = |sql: &str| transaction.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned);
    Ok(Level {
        undelivered_rows: sum("SELECT coalesce(sum(rows), 0) FROM blocks WHERE delivered = 0")?,
        undelivered_bytes: sum("SELECT coalesce(sum(bytes), 0) FROM blocks WHERE delivered = 0")?,
        bytes: sum("SELECT coalesce(sum(bytes), 0) FROM blocks")?,
        dead_letters: sum("SELECT count(*) FROM dead_letters")?,
        refused_rows: 0,
        moved_rows: 0,
    })
}
