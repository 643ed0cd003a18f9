//! The journal's file and what is known of it in memory. Only the journal's thread has it.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::watch;

use super::block::{Index, Owner};
use super::dirty_incarnations::Incarnations;
use super::incarnation::Unwritten;
use super::memory_state::MemoryState;
use super::noted::Noted;
use super::recent_blocks::RecentBlocks;
use super::schema::LAYOUT;
use super::transaction::{Changed, JournalTransaction};
use super::witness::{Testimony, Witness};
use super::{Batch, DeadLetter, JournalConfig, JournalError, Level, Limits, NamedLoss, Recovery, identity, recovery};
use crate::encoding::{checksum, unsealed};
use crate::{database, disk, records};
use heartwatch_domain::history::{ChangesQuery, DeadLetterLine, NewestQuery};
use heartwatch_domain::intake::{AppendReceipt, DeliveryState, IntakeEntry};
use heartwatch_domain::journal_id::JournalId;
use heartwatch_domain::ledger::LedgerLine;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::roster::Standing;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::Change;
use heartwatch_system::damage_log::DamageLog;

/// Most changes that one question looks at, so that a rare verdict does not hold up the commits.
const CHANGES_LOOKED_AT_MAX: usize = 20_000;
/// Bytes of a dead letter that are shown.
const DEAD_LETTER_BYTES_SHOWN_MAX: i64 = 2_048;

/// One thing to make durable.
pub(super) enum Write {
    Append(Arc<Vec<IntakeEntry>>),
    Changes(Arc<Vec<Change>>),
    Standing(Arc<Vec<Standing>>),
    Delivered { block_ids: Vec<i64>, dead_letters: Vec<DeadLetter> },
}

impl Write {
    /// The last verdict change that it makes durable.
    fn last_epoch(&self) -> Option<u64> {
        let Self::Changes(changes) = self else { return None };
        changes.iter().map(|change| change.epoch).max()
    }

    /// Its bytes, about, for the size of a group.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append(entries) => entries
                .iter()
                .map(|entry| match entry {
                    IntakeEntry::Readings { lines, .. } => lines.bytes() + lines.len(),
                    IntakeEntry::Arrived { lines, .. } | IntakeEntry::Unnumbered { lines, .. } => lines.len(),
                    IntakeEntry::Produced { .. } | IntakeEntry::GivenUp { .. } => 64,
                })
                .sum(),
            Self::Changes(changes) => changes.len() * 1024,
            Self::Standing(standing) => standing.len() * 256,
            Self::Delivered { block_ids, .. } => block_ids.len() * 1024,
        }
    }
}

pub(super) struct Store {
    /// None after a reading error, until the file could be opened again.
    connection: Option<Connection>,
    config: JournalConfig,
    known: MemoryState,
    /// The last block of the backlog.
    lanes_split_at: i64,
    /// What the log has been told, so that it is told once an episode.
    failing: bool,
    refusing: bool,
    expired: Noted,
    conflicts: Noted,
    /// Writes so far.
    kept: u64,
    identity: watch::Sender<Option<JournalId>>,
    witness: Witness,
    damage_log: DamageLog,
    /// None until the file was opened for the first time.
    lock: Option<File>,
}

impl Store {
    /// New limits from the next commit on.
    pub(super) const fn set_limits(&mut self, limits: Limits) {
        let Limits { bytes_max, history, has_sink } = limits;
        (self.config.bytes_max, self.config.history, self.config.has_sink) = (bytes_max, history, has_sink);
    }

    pub(super) fn open(config: JournalConfig, damage_log: DamageLog) -> Result<(Self, Recovery), JournalError> {
        let opened = database::open(&config.path, &LAYOUT).and_then(|opened| {
            let database::Opened { connection, lock, mut damage } = opened;
            let (connection, loaded) = load(&config, connection, &mut damage)?;
            Ok((connection, lock, damage, loaded))
        });
        let (connection, lock, damage, loaded) = match opened {
            Ok(opened) => opened,
            Err(reason) => {
                let Some(advice) = disk::waits_for(&config.path, &reason) else {
                    return Err(JournalError::Open { path: config.path, reason });
                };
                tracing::error!(advice, "the journal cannot be opened: nothing is confirmed until it can");
                let recovery = unopened(&config.path);
                return Ok((Self::new(config, damage_log), recovery));
            }
        };
        damage_log.report_all(&config.path, &damage);
        let Loaded { identity, known, last_changes, last_epoch } = loaded;
        let witness = Witness::begin(&config.path, identity, last_epoch, &known.incarnations);
        let recovery = Recovery { undelivered_rows: known.level.undelivered_rows, last_changes, last_epoch, damage };
        let mut store = Self::new(config, damage_log);
        (store.connection, store.lock, store.known, store.witness) = (Some(connection), lock, known, witness);
        store.failing = false;
        store.identity.send_replace(Some(identity));
        Ok((store, recovery))
    }

    /// Before its file is open.
    fn new(config: JournalConfig, damage_log: DamageLog) -> Self {
        Self {
            connection: None,
            config,
            known: MemoryState::default(),
            lanes_split_at: 0,
            failing: true,
            refusing: false,
            expired: Noted::default(),
            conflicts: Noted::default(),
            kept: 0,
            identity: watch::Sender::new(None),
            witness: Witness::default(),
            damage_log,
            lock: None,
        }
    }

    pub(super) fn identity(&self) -> watch::Receiver<Option<JournalId>> {
        self.identity.subscribe()
    }

    pub(super) const fn accounts_since(&self) -> Timestamp {
        self.known.since
    }

    pub(super) const fn level(&self) -> Level {
        self.known.level
    }

    /// Commits a group: all of it or nothing. The answers are in the order of the group.
    pub(super) fn commit(&mut self, group: &[&Write]) -> Result<Vec<AppendReceipt>, JournalError> {
        let result = self.ready().and_then(|()| self.try_commit(group));
        match result {
            Ok((answers, changed)) => {
                if self.failing {
                    self.failing = false;
                    tracing::info!(path = %self.config.path.display(), "the journal writes again");
                }
                let last_epoch = group.iter().filter_map(|write| write.last_epoch()).max();
                self.witness.note(changed.incarnations.iter(), last_epoch);
                self.adopt(changed);
                let first = self.kept + 1;
                self.kept += answers.len() as u64;
                let journal = *self.identity.borrow();
                Ok((first..)
                    .zip(answers)
                    .map(|(number, mut states)| {
                        states.iter_mut().for_each(|state| state.journal = journal);
                        AppendReceipt { number, states }
                    })
                    .collect())
            }
            Err(error) => {
                let reason = error.to_string();
                if !self.failing {
                    self.failing = true;
                    tracing::error!(path = %self.config.path.display(), reason, "the journal cannot write: nothing is confirmed until it can");
                }
                self.invalidate(&error);
                Err(JournalError::Write { reason })
            }
        }
    }

    /// Writes what of the ledger only the blocks say, at the end: the next start has less to read.
    pub(super) fn checkpoint(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let unwritten = self.known.incarnations.iter_mut().filter(|(_, state)| state.unwritten != Unwritten::Nothing);
        let settled = connection.transaction().and_then(|transaction| {
            for (owner, state) in unwritten {
                state.write(&transaction, owner, self.known.last_block)?;
            }
            transaction.commit()
        });
        if let Err(error) = settled {
            tracing::debug!(%error, "the ledger stays as its blocks say it");
        }
    }

    fn try_commit(&mut self, group: &[&Write]) -> rusqlite::Result<(Vec<Vec<DeliveryState>>, Changed)> {
        let connection = self.connection.as_mut().ok_or(rusqlite::Error::InvalidQuery)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let bytes = group.iter().map(|write| write.bytes()).sum();
        let identity = *self.identity.borrow();
        let mut draft = JournalTransaction::new(&transaction, &self.config, &self.known, identity, bytes);
        let mut answers = Vec::with_capacity(group.len());
        for write in group {
            answers.push(match write {
                Write::Append(entries) => draft.append(entries)?,
                Write::Changes(changes) => {
                    draft.changes(changes)?;
                    Vec::new()
                }
                Write::Standing(standing) => {
                    draft.standing(standing)?;
                    Vec::new()
                }
                Write::Delivered { block_ids, dead_letters } => {
                    draft.delivered(block_ids, dead_letters)?;
                    Vec::new()
                }
            });
        }
        let changed = draft.finish()?;
        transaction.commit()?;
        Ok((answers, changed))
    }

    fn adopt(&mut self, changed: Changed) {
        let before = self.known.level.moved_rows;
        let moved_rows = before + changed.moved_rows;
        if moved_rows.checked_ilog2() != before.checked_ilog2() {
            tracing::warn!(
                count = moved_rows,
                "rows came with a time that another one of their series has: the later one was moved by nanoseconds"
            );
        }
        let refused = changed.refused_readings + changed.given_up_rows;
        if refused > 0 && !self.refusing {
            self.refusing = true;
            tracing::error!(
                bytes_max = self.config.bytes_max,
                refused_readings = changed.refused_readings,
                given_up_rows = changed.given_up_rows,
                "the journal has reached its limit: readings stay with their publishers, heartbeats and counters are given up"
            );
        } else if self.refusing && refused == 0 && changed.accepted_rows > 0 {
            self.refusing = false;
            let refused_rows = changed.level.refused_rows;
            tracing::info!(refused_rows, "the journal has room again");
        }
        if let Some((rows, whose)) = self.expired.note(changed.expired) {
            tracing::warn!(
                rows,
                whose,
                "the store here is full: its oldest rows make room for new ones and are gone; more room: buffer.bytes_max"
            );
        }
        if let Some((rows, whose)) = self.conflicts.note(changed.conflicts) {
            tracing::warn!(
                rows,
                whose,
                "readings came with a number that another reading had: both are kept. Two publishers have one id, or one has gone back to an old state"
            );
        }
        self.known.places.adopt(changed.places);
        self.known.adopt(changed.incarnations);
        self.known.shares.adopt(changed.shares);
        self.known.last_block = changed.last_block;
        self.known.marks.adopt(changed.marks);
        self.known.stamps.adopt(changed.points);
        self.known.fresh.adopt(changed.fresh, &changed.delivered);
        self.known.verdicts.extend(changed.verdicts);
        let refused_rows = changed.level.refused_rows + refused;
        self.known.level = Level { refused_rows, moved_rows, ..changed.level };
    }

    /// After an error nothing in memory is believed: the next use reads it from the file again, and
    /// salvages the file where the error says that it is damaged.
    fn invalidate(&mut self, error: &rusqlite::Error) {
        let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        let rolled_back = self.connection.as_ref().is_some_and(Connection::is_autocommit);
        // a full disk is an everyday error that SQLite rolls back; memory has not been changed by it
        if !(full && rolled_back) {
            self.connection = None;
        }
    }

    fn ready(&mut self) -> rusqlite::Result<()> {
        if self.connection.is_some() {
            return Ok(());
        }
        let failed = |reason: String| {
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN), Some(reason))
        };
        let path = &self.config.path;
        let waits = |reason: String| failed(disk::waits_for(path, &reason).unwrap_or(reason));
        let (connection, mut damage) = if self.lock.is_some() {
            database::open_locked(path, &LAYOUT).map_err(waits)?
        } else {
            let database::Opened { connection, lock, damage } = database::open(path, &LAYOUT).map_err(waits)?;
            self.lock = lock;
            (connection, damage)
        };
        let (connection, loaded) = load(&self.config, connection, &mut damage).map_err(waits)?;
        self.damage_log.report_all(path, &damage);
        let Loaded { identity, known, last_epoch, .. } = loaded;
        self.witness = Witness::begin(path, identity, last_epoch, &known.incarnations);
        self.identity.send_replace(Some(identity));
        let Level { refused_rows, moved_rows, .. } = self.known.level;
        self.known = known;
        (self.known.level.refused_rows, self.known.level.moved_rows) = (refused_rows, moved_rows);
        self.connection = Some(connection);
        Ok(())
    }

    fn read<T>(&mut self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, JournalError> {
        let result = self.ready().and_then(|()| read(self.connection.as_ref().ok_or(rusqlite::Error::InvalidQuery)?));
        result.map_err(|error| {
            let reason = error.to_string();
            self.invalidate(&error);
            JournalError::Read { reason }
        })
    }

    pub(super) fn split_lanes(&mut self) -> Result<(), JournalError> {
        let sql = "SELECT coalesce(max(id), 0) FROM blocks";
        self.lanes_split_at = self.read(|connection| connection.query_row(sql, [], |row| row.get(0)))?;
        Ok(())
    }

    pub(super) fn next_batch(
        &mut self,
        rows_max: u64,
        bytes_max: usize,
        besides: &BTreeSet<i64>,
    ) -> Result<Batch, JournalError> {
        loop {
            self.read(|_| Ok(()))?;
            let fresh = std::mem::take(&mut self.known.fresh);
            let taker = Taker { fresh: &fresh, besides, rows_max, bytes_max };
            let split_at = self.lanes_split_at;
            let taken = self.read(|connection| taker.take_both(connection, split_at));
            // after a reading error nothing in memory is believed
            if self.connection.is_some() {
                self.known.fresh = fresh;
            }
            if let Some(batch) = taken? {
                return Ok(batch);
            }
            // reads all of the backlog once, names what is gone, and leaves only whole rows
            self.connection = None;
            self.read(|_| Ok(()))?;
        }
    }

    pub(super) fn changes(&mut self, ask: &ChangesQuery) -> Result<Vec<Change>, JournalError> {
        let since = ask.since_epoch.min(i64::MAX.unsigned_abs()).cast_signed();
        let most = i64::try_from(ask.changes_max).unwrap_or(i64::MAX);
        let json: Vec<String> = self.read(|connection| match &ask.publisher {
            Some(publisher) => connection
                .prepare_cached("SELECT json FROM changes WHERE publisher = ?1 AND epoch > ?2 ORDER BY epoch LIMIT ?3")?
                .query_map(params![publisher.as_str(), since, most], |row| row.get(0))?
                .collect(),
            None => connection
                .prepare_cached("SELECT json FROM changes WHERE epoch > ?1 ORDER BY epoch LIMIT ?2")?
                .query_map(params![since, most], |row| row.get(0))?
                .collect(),
        })?;
        Ok(json.iter().filter_map(|json| serde_json::from_str(json).ok()).collect())
    }

    pub(super) fn newest_changes(&mut self, ask: &NewestQuery) -> Result<Vec<Change>, JournalError> {
        let before = ask.before_epoch.map_or(i64::MAX, |epoch| i64::try_from(epoch).unwrap_or(i64::MAX));
        self.read(|connection| {
            let (mut select, mut rows);
            match &ask.publisher {
                Some(publisher) => {
                    let sql = "SELECT json FROM changes WHERE publisher = ?1 AND epoch < ?2 ORDER BY epoch DESC";
                    select = connection.prepare_cached(sql)?;
                    rows = select.query(params![publisher.as_str(), before])?;
                }
                None => {
                    select =
                        connection.prepare_cached("SELECT json FROM changes WHERE epoch < ?1 ORDER BY epoch DESC")?;
                    rows = select.query([before])?;
                }
            }
            let mut changes = Vec::new();
            let mut looked_at = 0;
            while changes.len() < ask.changes_max
                && looked_at < CHANGES_LOOKED_AT_MAX
                && let Some(row) = rows.next()?
            {
                looked_at += 1;
                let json: String = row.get(0)?;
                let Ok(change) = serde_json::from_str::<Change>(&json) else { continue };
                if ask.since.is_some_and(|since| change.decided_at < since) {
                    break;
                }
                if ask.to.is_empty() || ask.to.contains(&change.to) {
                    changes.push(change);
                }
            }
            Ok(changes)
        })
    }

    pub(super) fn dead_letters(&mut self, entries_max: usize) -> Result<Vec<DeadLetterLine>, JournalError> {
        let most = i64::try_from(entries_max).unwrap_or(i64::MAX);
        self.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT id, refused_at, publisher, reason, substr(line, 1, ?2) FROM dead_letters ORDER BY id DESC LIMIT ?1",
            )?;
            let letters = select.query_map([most, DEAD_LETTER_BYTES_SHOWN_MAX], |row| {
                let (at, publisher): (String, Option<String>) = (row.get(1)?, row.get(2)?);
                Ok(DeadLetterLine {
                    number: row.get(0)?,
                    at: at.parse().unwrap_or_default(),
                    publisher: publisher.and_then(|publisher| PublisherId::parse(&publisher).ok()),
                    reason: row.get(3)?,
                    line: String::from_utf8_lossy(&row.get::<_, Vec<u8>>(4)?).trim_end().to_owned(),
                })
            })?;
            letters.collect()
        })
    }

    pub(super) fn accounts(&mut self) -> Result<Vec<LedgerLine>, JournalError> {
        self.read(|_| Ok(()))?;
        Ok(ledger_lines(&self.known.incarnations, self.config.has_sink))
    }

    pub(super) fn losses(&mut self) -> Result<Vec<NamedLoss>, JournalError> {
        self.read(|_| Ok(()))?;
        Ok(named_losses(&self.known.incarnations))
    }

    #[cfg(test)]
    pub(super) fn execute(&mut self, sql: &str) -> Result<(), JournalError> {
        self.read(|connection| connection.execute_batch(sql))
    }
}

/// What is known of a journal that cannot be opened now: what was decided last goes on from there.
fn unopened(path: &Path) -> Recovery {
    let last_changes = database::open_without_writing(path, &LAYOUT)
        .and_then(|connection| recovery::last_changes(&connection).map_err(|error| error.to_string()))
        .unwrap_or_default();
    let here = last_changes.iter().map(|change| change.epoch).max().unwrap_or(0);
    Recovery { last_changes, last_epoch: here.max(Testimony::read(path).last_epoch), ..Recovery::default() }
}

/// The record of the last verdict change that was missed at a start: it is said once.
const EPOCHS_KNOWN_LOST: &str = "epochs-known-lost";

fn epochs_known_lost(connection: &Connection) -> rusqlite::Result<u64> {
    let known = records::read(connection, EPOCHS_KNOWN_LOST)?.and_then(|bytes| bytes.try_into().ok());
    Ok(known.map_or(0, u64::from_be_bytes))
}

/// What is read when the file is opened.
struct Loaded {
    identity: JournalId,
    known: MemoryState,
    last_changes: Vec<Change>,
    last_epoch: u64,
}

/// What damage may have taken besides rows: the marks by which a message that comes again is known.
const MESSAGES_FORGOTTEN: &str =
    "the latest messages of devices may not be known any more: one that its broker sends again is stored a second time";

/// Reads everything, compares it with the witness, and puts right what does not fit together.
fn load(
    config: &JournalConfig,
    connection: Connection,
    damage: &mut Vec<String>,
) -> Result<(Connection, Loaded), String> {
    let noted = Testimony::read(&config.path);
    database::first_use(&config.path, &LAYOUT, connection, damage, |connection, damage| {
        let identity = identity::load(connection, noted.identity)?;
        let compare = |incarnations: &mut Incarnations, changed: &mut HashSet<Owner>, damage: &mut Vec<String>| {
            noted.compare(identity, incarnations, changed, damage);
        };
        let state = recovery::load(connection, config.has_sink, damage, compare)?;
        let last_changes = recovery::last_changes(connection)?;
        let known = epochs_known_lost(connection)?;
        let here = last_changes.iter().map(|change| change.epoch).max().unwrap_or(0).max(known);
        let last_epoch = if noted.identity == Some(identity) { here.max(noted.last_epoch) } else { here };
        if last_epoch > here {
            damage.push(format!("the verdict changes from epoch {} to {last_epoch} are gone", here + 1));
            let transaction = connection.transaction()?;
            records::write(&transaction, EPOCHS_KNOWN_LOST, &last_epoch.to_be_bytes())?;
            transaction.commit()?;
        }
        let has_unnumbered = state.incarnations.values().any(|of| of.unnumbered > 0);
        if has_unnumbered && !damage.is_empty() {
            damage.push(MESSAGES_FORGOTTEN.to_owned());
        }
        Ok(Loaded { identity, known: state, last_changes, last_epoch })
    })
}

/// The account of every incarnation, ordered.
pub(super) fn ledger_lines(incarnations: &Incarnations, has_sink: bool) -> Vec<LedgerLine> {
    let mut lines: Vec<_> = incarnations.iter().map(|(owner, state)| state.ledger_line(owner, has_sink)).collect();
    lines.sort_by(|a, b| (&a.publisher, a.incarnation).cmp(&(&b.publisher, b.incarnation)));
    lines
}

/// What their `lost` consists of, ordered.
pub(super) fn named_losses(incarnations: &Incarnations) -> Vec<NamedLoss> {
    let mut losses: Vec<_> = incarnations.iter().flat_map(|(owner, state)| state.losses(owner)).collect();
    losses.sort_by(|a, b| (&a.publisher, a.incarnation, a.first).cmp(&(&b.publisher, b.incarnation, b.first)));
    losses
}

/// A range of ids of blocks.
#[derive(Debug, Clone, Copy)]
struct Part {
    after: i64,
    through: i64,
    /// So many blocks of it come even if they are beyond the limits.
    at_least: usize,
}

/// Takes blocks for the sink.
struct Taker<'a> {
    fresh: &'a RecentBlocks,
    besides: &'a BTreeSet<i64>,
    rows_max: u64,
    bytes_max: usize,
}

impl Taker<'_> {
    /// Live blocks and those of the backlog; none when a row of theirs is damaged.
    fn take_both(&self, connection: &Connection, split_at: i64) -> rusqlite::Result<Option<Batch>> {
        let mut batch = Batch::default();
        let half = Self { rows_max: self.rows_max / 2, bytes_max: self.bytes_max / 2, ..*self };
        let mut whole = half.take(connection, &mut batch, Part { after: split_at, through: i64::MAX, at_least: 1 })?;
        let (live_rows, live_through) = (batch.rows, batch.block_ids.last().copied());
        whole &= self.take(connection, &mut batch, Part { after: i64::MIN, through: split_at, at_least: 1 })?;
        batch.backlog_rows = batch.rows - live_rows;
        if let (0, Some(after)) = (batch.backlog_rows, live_through) {
            whole &= self.take(connection, &mut batch, Part { after, through: i64::MAX, at_least: 0 })?;
        }
        Ok(whole.then_some(batch))
    }

    /// Adds the oldest undelivered blocks of a part; says whether each of their rows is whole.
    fn take(&self, connection: &Connection, batch: &mut Batch, part: Part) -> rusqlite::Result<bool> {
        let blocks_min = batch.block_ids.len() + part.at_least;
        let is_full = |batch: &Batch, rows: u64, lines: &[u8]| {
            batch.block_ids.len() >= blocks_min
                && (batch.rows + rows > self.rows_max || batch.lines.len() + lines.len() > self.bytes_max)
        };
        let mut select = connection
            .prepare_cached("SELECT id FROM blocks WHERE delivered = 0 AND id > ?1 AND id <= ?2 ORDER BY id")?;
        let mut read = connection
            .prepare_cached("SELECT rows, bytes, row_index, lines_checksum, lines FROM blocks WHERE id = ?1")?;
        let mut ids = select.query([part.after, part.through])?;
        while let Some(row) = ids.next()? {
            let id: i64 = row.get(0)?;
            if self.besides.contains(&id) {
                continue;
            }
            if let Some(block) = self.fresh.get(id) {
                if is_full(batch, block.rows, &block.lines) {
                    break;
                }
                add(batch, id, block.rows, block.bytes, &block.lines);
                continue;
            }
            let mut rows = read.query([id])?;
            let Some(row) = rows.next()? else { continue };
            let (rows, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
            let lines = row.get_ref(4)?.as_blob().unwrap_or_default();
            if is_full(batch, rows.cast_unsigned(), lines) {
                break;
            }
            // the two checksums stand for those of the single rows, which say where there is damage
            let index = row.get_ref(2)?.as_blob().unwrap_or_default();
            let is_whole = unsealed(index).is_some() && row.get::<_, i64>(3)? == i64::from(checksum(lines));
            if !is_whole && !Index::read(index).is_some_and(|index| index.all_whole(lines)) {
                return Ok(false);
            }
            add(batch, id, rows.cast_unsigned(), bytes.cast_unsigned(), lines);
        }
        Ok(true)
    }
}

fn add(batch: &mut Batch, id: i64, rows: u64, bytes: u64, lines: &[u8]) {
    batch.block_ids.push(id);
    batch.rows += rows;
    batch.bytes += bytes;
    batch.lines.extend_from_slice(lines);
}
