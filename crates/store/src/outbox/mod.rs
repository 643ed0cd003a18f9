//! A publisher's outbox: every reading is here until the monitor has confirmed it.
//!
//! Invariants, attacked by the tests beside this file:
//! 1. **StoredReading is durable.** When [`Outbox::keep`] returns, the readings are in the file and the file is
//!    synced; when it fails, none of them is.
//! 2. A reading leaves in one of two ways: confirmed by the monitor, or given up at the limit. One that
//!    is given up is in exactly one named range, in the same commit, until the monitor has been told.
//! 3. Each opening has a larger incarnation than every one before it, also where the clock went back.
//! 4. What comes out is what went in: a reading whose bytes the disk has changed is given up by number.
//! 5. Of what was confirmed it knows which monitor has confirmed it ([`Outbox::confirmed_by`]), in the same commit.
//! 6. It knows the last number of each of its latest lives, also when the file that held the readings was
//!    torn or is gone (`last_number.rs`): so a number that was given out never just disappears.

mod contents;
mod given_up;
mod kept_reading;
mod last_number;
mod lives;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

pub use self::contents::{Contents, contents};
pub use self::given_up::GivenUpRange;
use self::given_up::{REASON_FULL, give_up_oldest, give_up_some};
use self::last_number::LastNumber;
pub use self::lives::LIVES_REMEMBERED_MAX;
use self::lives::{Started, start_life};
use self::schema::LAYOUT;
use super::{database, disk};
use heartwatch_domain::confirmers::{Confirmer, Confirmers};
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::{Reading, Sequence};
use heartwatch_domain::retransmitter::SequenceRange;

/// What to do when the outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FullPolicy {
    /// Take no new reading until there is room.
    #[default]
    RefuseNew,
    /// Give up the oldest ones, and name them to the monitor.
    GiveUpOldest,
}

impl FullPolicy {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RefuseNew => "refuse-new",
            Self::GiveUpOldest => "give-up-oldest",
        }
    }
}

impl std::str::FromStr for FullPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::RefuseNew, Self::GiveUpOldest]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| format!("'{text}' is not a policy: use refuse-new or give-up-oldest"))
    }
}

impl std::fmt::Display for FullPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What bounds the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxConfig {
    /// The SQLite file; none keeps readings in memory only (said at start: a kill then loses them).
    pub path: Option<PathBuf>,
    /// Most bytes of readings.
    pub bytes_max: u64,
    /// At the limit.
    pub full_policy: FullPolicy,
}

/// A reading with the life that numbered it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReading {
    /// Which life.
    pub incarnation: Incarnation,
    /// As it was measured, with its number.
    pub reading: Reading,
}

/// Why the outbox could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// The file cannot be opened or is in use by another publisher with this id.
    #[error("cannot open the outbox {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Its disk takes nothing more.
    #[error("{advice}")]
    DiskFull {
        /// What is wrong and what helps.
        advice: String,
    },
    /// The disk refused; the readings were not kept.
    #[error("the outbox cannot use its file: {reason}")]
    Write {
        /// SQLite's words.
        reason: String,
    },
    /// It is full and its policy is to refuse.
    #[error("the outbox is full ({bytes_max} bytes)")]
    Full {
        /// The limit.
        bytes_max: u64,
    },
}

/// What a reading takes on disk beyond its own bytes, about.
const READING_OVERHEAD_BYTES: u64 = 40;

/// A publisher's durable buffer. Calls block for a commit: call them off the actors' threads.
#[derive(Debug)]
pub struct Outbox {
    connection: Connection,
    incarnation: Incarnation,
    bytes_max: u64,
    full_policy: FullPolicy,
    readings: u64,
    bytes: u64,
    damage: Vec<String>,
    last_number: Option<LastNumber>,
    /// Who has confirmed what, by life.
    confirmers: BTreeMap<Incarnation, Confirmers>,
    _lock: Option<File>,
}

impl Outbox {
    /// Opens the outbox and starts a new incarnation, larger than every one before it and at
    /// least `now_micros`.
    ///
    /// # Errors
    /// [`OutboxError::Open`]: it cannot be opened, is not an outbox, or another publisher has it.
    pub fn open(config: OutboxConfig, now_micros: u64) -> Result<(Self, Incarnation), OutboxError> {
        let OutboxConfig { path: file, bytes_max, full_policy } = config;
        let path = file.clone().unwrap_or_else(|| PathBuf::from("(memory)"));
        let failed = |reason: String| match disk::waits_for(&path, &reason) {
            Some(advice) => OutboxError::DiskFull { advice },
            None => OutboxError::Open { path: path.clone(), reason },
        };
        let opened = match &file {
            Some(path) => database::open(path, &LAYOUT),
            None => database::open_in_memory(&LAYOUT),
        };
        let database::Opened { connection, lock, mut damage } = opened.map_err(failed)?;
        let mut last_number = file.as_deref().map(LastNumber::open);
        damage.extend(last_number.as_ref().and_then(LastNumber::damage));
        let noted = last_number.as_ref().map_or(&[][..], LastNumber::noted);
        let start =
            |connection: &mut Connection, damage: &mut Vec<String>| start_life(connection, damage, now_micros, noted);
        let (connection, started) = match &file {
            Some(path) => database::first_use(path, &LAYOUT, connection, &mut damage, start).map_err(failed)?,
            None => {
                let mut connection = connection;
                let started = start(&mut connection, &mut damage).map_err(|error| failed(error.to_string()))?;
                (connection, started)
            }
        };
        for damage in &damage {
            tracing::error!(path = %path.display(), damage, "the outbox was damaged");
        }
        let Started { incarnation, lives, size: Size { readings, bytes }, confirmers } = started;
        if let Some(note) = &mut last_number {
            note.catch_up(lives);
        }
        let outbox = Self {
            connection,
            incarnation,
            bytes_max,
            full_policy,
            readings,
            bytes,
            damage,
            last_number,
            confirmers,
            _lock: lock,
        };
        Ok((outbox, incarnation))
    }

    /// The current life.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What was damaged when it was opened and how much of it was saved, in words; empty when nothing was.
    #[must_use]
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Keeps new readings of the current incarnation, durable when this returns. The ranges that
    /// had to be given up for them are returned (policy [`FullPolicy::GiveUpOldest`]) and stay
    /// recorded until [`Outbox::given_up_told`]. A reading that is kept already stays as it is.
    ///
    /// # Errors
    /// [`OutboxError::Write`] or [`OutboxError::Full`]: nothing was kept.
    pub fn keep(&mut self, readings: &[Reading]) -> Result<Vec<GivenUpRange>, OutboxError> {
        let rows: Vec<_> = readings
            .iter()
            .map(|reading| (reading.sequence, kept_reading::to_bytes(reading, self.incarnation)))
            .collect();
        let new_bytes: u64 = rows.iter().map(|(_, row)| row.len() as u64 + READING_OVERHEAD_BYTES).sum();
        let over = (self.bytes + new_bytes).saturating_sub(self.bytes_max);
        if over > 0 && (self.full_policy == FullPolicy::RefuseNew || new_bytes > self.bytes_max) {
            return Err(OutboxError::Full { bytes_max: self.bytes_max });
        }
        let incarnation = self.incarnation;
        let last = readings.iter().map(|reading| reading.sequence).max();
        let (given_up, gone, kept) = self.transact(|transaction| {
            let (given_up, gone) = give_up_oldest(transaction, over, REASON_FULL)?;
            let mut kept = Size::default();
            let mut insert = transaction.prepare_cached(
                "INSERT OR IGNORE INTO readings (incarnation, sequence, reading) VALUES (?1, ?2, ?3)",
            )?;
            for (sequence, row) in &rows {
                let new = insert.execute(params![incarnation.0.cast_signed(), sequence.cast_signed(), row])?;
                if new > 0 {
                    kept.add(row.len() as u64);
                }
            }
            if let Some(last) = last {
                transaction
                    .prepare_cached("UPDATE lives SET last = max(last, ?2) WHERE incarnation = ?1")?
                    .execute([incarnation.0.cast_signed(), last.cast_signed()])?;
            }
            Ok((given_up, gone, kept))
        })?;
        if let (Some(last_number), Some(last)) = (&mut self.last_number, last) {
            last_number.note(incarnation, last);
        }
        self.grow(kept);
        self.shrink(gone);
        Ok(given_up)
    }

    /// Forgets the readings in these runs of one life: a monitor has confirmed them. Which one is remembered.
    ///
    /// # Errors
    /// [`OutboxError::Write`]: they will be confirmed again.
    pub fn confirmed(
        &mut self,
        incarnation: Incarnation,
        safe: &[SequenceRange],
        by: Confirmer,
    ) -> Result<(), OutboxError> {
        let mut confirmers = self.confirmers.get(&incarnation).cloned().unwrap_or_default();
        let gone = self.transact(|transaction| {
            let mut gone = Size::default();
            let mut delete = transaction.prepare_cached(
                "DELETE FROM readings WHERE incarnation = ?1 AND sequence BETWEEN ?2 AND ?3
                 RETURNING sequence, length(reading)",
            )?;
            for run in safe {
                let (first, last) = (to_column(run.first), to_column(run.last));
                let mut deleted = delete.query(params![incarnation.0.cast_signed(), first, last])?;
                let mut numbers: Vec<Sequence> = Vec::new();
                while let Some(row) = deleted.next()? {
                    numbers.push(row.get::<_, i64>(0)?.cast_unsigned());
                    gone.add(row.get::<_, i64>(1)?.cast_unsigned());
                }
                numbers.sort_unstable();
                // what another one had confirmed before lies between them, and stays its own
                for piece in numbers.chunk_by(|one, next| one + 1 == *next) {
                    if let (Some(first), Some(last)) = (piece.first(), piece.last()) {
                        confirmers.note(*first, *last, by);
                    }
                }
            }
            if gone.readings > 0 {
                lives::save_confirmers(transaction, incarnation, &confirmers)?;
            }
            Ok(gone)
        })?;
        self.confirmers.insert(incarnation, confirmers);
        self.shrink(gone);
        Ok(())
    }

    /// Numbers that are held no more, in pieces: each with the monitor that has confirmed it, where that is known.
    #[must_use]
    pub fn confirmed_by(&self, run: SequenceRange) -> Vec<(SequenceRange, Option<Confirmer>)> {
        let Some(confirmers) = self.confirmers.get(&run.incarnation) else { return vec![(run, None)] };
        let pieces = confirmers.split(run.first, run.last).into_iter();
        pieces.map(|(first, last, by)| (SequenceRange { first, last, ..run }, by)).collect()
    }

    /// Readings of one incarnation with numbers from `first` to `last`, in order, at most `readings_max`.
    ///
    /// # Errors
    /// [`OutboxError::Write`] when the file cannot be read.
    pub fn range(
        &self,
        incarnation: Incarnation,
        first: Sequence,
        last: Sequence,
        readings_max: usize,
    ) -> Result<Vec<StoredReading>, OutboxError> {
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT sequence, reading FROM readings
                 WHERE incarnation = ?1 AND sequence BETWEEN ?2 AND ?3 ORDER BY sequence LIMIT ?4",
            )
            .map_err(unusable)?;
        let most = i64::try_from(readings_max).unwrap_or(i64::MAX);
        let mut rows = select
            .query(params![incarnation.0.cast_signed(), to_column(first), to_column(last), most])
            .map_err(unusable)?;
        let mut kept = Vec::new();
        while let Some(row) = rows.next().map_err(unusable)? {
            let sequence = row.get::<_, i64>(0).map_err(unusable)?.cast_unsigned();
            let bytes = row.get_ref(1).map_err(unusable)?.as_blob().unwrap_or_default();
            match kept_reading::from_bytes(bytes, incarnation, sequence) {
                Some(reading) => kept.push(StoredReading { incarnation, reading }),
                // the next start gives it up by number
                None => tracing::error!(%incarnation, sequence, "a kept reading was damaged on disk"),
            }
        }
        Ok(kept)
    }

    /// Incarnations before this one that still have readings, oldest first, with their lowest and highest number.
    ///
    /// # Errors
    /// [`OutboxError::Write`] when the file cannot be read.
    pub fn earlier(&self) -> Result<Vec<(Incarnation, Sequence, Sequence)>, OutboxError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut select = self.connection.prepare_cached(
                "SELECT incarnation, min(sequence), max(sequence) FROM readings
                 WHERE incarnation < ?1 GROUP BY incarnation ORDER BY incarnation",
            )?;
            select.query_map([self.incarnation.0.cast_signed()], range_of)?.collect()
        };
        read().map_err(unusable)
    }

    /// Earlier incarnations with the last number that each has given out, oldest first; those that gave
    /// out none are left out, and of the others the latest are known.
    ///
    /// # Errors
    /// [`OutboxError::Write`] when the file cannot be read.
    pub fn earlier_lives(&self) -> Result<Vec<(Incarnation, Sequence)>, OutboxError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let sql = "SELECT incarnation, last FROM lives WHERE incarnation < ?1 AND last > 0 ORDER BY incarnation";
            let life = |row: &rusqlite::Row<'_>| {
                let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
                Ok((Incarnation(number(0)?), number(1)?))
            };
            self.connection.prepare_cached(sql)?.query_map([self.incarnation.0.cast_signed()], life)?.collect()
        };
        read().map_err(unusable)
    }

    /// Ranges given up and not yet told to the monitor.
    ///
    /// # Errors
    /// [`OutboxError::Write`] when the file cannot be read.
    pub fn given_up(&self) -> Result<Vec<GivenUpRange>, OutboxError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let sql = "SELECT incarnation, first, last, reason FROM given_up ORDER BY incarnation, first";
            let range = |row: &rusqlite::Row<'_>| {
                let (incarnation, first, last) = range_of(row)?;
                Ok(GivenUpRange::lost(incarnation, first, last, row.get::<_, String>(3)?))
            };
            self.connection.prepare_cached(sql)?.query_map([], range)?.collect()
        };
        read().map_err(unusable)
    }

    /// The monitor knows of this range now. What was given up since beside it stays to be told.
    ///
    /// # Errors
    /// [`OutboxError::Write`].
    pub fn given_up_told(&mut self, range: &GivenUpRange) -> Result<(), OutboxError> {
        let (first, last) = (to_column(range.first), to_column(range.last));
        let incarnation = range.incarnation.0.cast_signed();
        self.transact(|transaction| {
            let overlapping: Vec<(i64, i64, String)> = transaction
                .prepare_cached(
                    "DELETE FROM given_up WHERE incarnation = ?1 AND first <= ?3 AND last >= ?2
                     RETURNING first, last, reason",
                )?
                .query_map([incarnation, first, last], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<_>>()?;
            for (known_first, known_last, reason) in overlapping {
                for (first, last) in [(known_first, first.saturating_sub(1)), (last.saturating_add(1), known_last)] {
                    if first <= last {
                        transaction
                            .prepare_cached(
                                "INSERT INTO given_up (incarnation, first, last, reason) VALUES (?1, ?2, ?3, ?4)",
                            )?
                            .execute(params![incarnation, first, last, reason])?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Gives up readings that can never be sent, each for its reason. Returns the ranges that they make;
    /// they stay recorded until [`Outbox::given_up_told`].
    ///
    /// # Errors
    /// [`OutboxError::Write`]: they are still there.
    pub fn give_up(
        &mut self,
        incarnation: Incarnation,
        readings: &[(Sequence, String)],
    ) -> Result<Vec<GivenUpRange>, OutboxError> {
        let (ranges, gone) = self.transact(|transaction| give_up_some(transaction, incarnation, readings))?;
        self.shrink(gone);
        Ok(ranges)
    }

    /// Gives up everything that waits, for a reason that the monitor is told; answers how many readings it was.
    ///
    /// # Errors
    /// [`OutboxError::Write`]: everything is still there.
    pub fn clear(&mut self, reason: &str) -> Result<u64, OutboxError> {
        let (_, gone) = self.transact(|transaction| give_up_oldest(transaction, u64::MAX, reason))?;
        self.shrink(gone);
        Ok(gone.readings)
    }

    /// How many readings wait for confirmation, and their bytes.
    #[must_use]
    pub const fn level(&self) -> (u64, u64) {
        (self.readings, self.bytes)
    }

    fn transact<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, OutboxError> {
        let run = || -> rusqlite::Result<T> {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(unusable)
    }

    const fn grow(&mut self, size: Size) {
        self.readings += size.readings;
        self.bytes += size.bytes;
    }

    const fn shrink(&mut self, size: Size) {
        self.readings = self.readings.saturating_sub(size.readings);
        self.bytes = self.bytes.saturating_sub(size.bytes);
    }
}

/// Some readings and what they take.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    readings: u64,
    bytes: u64,
}

impl Size {
    const fn add(&mut self, reading_bytes: u64) {
        self.readings += 1;
        self.bytes += reading_bytes + READING_OVERHEAD_BYTES;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn unusable(error: rusqlite::Error) -> OutboxError {
    OutboxError::Write { reason: error.to_string() }
}

/// A number from outside as SQLite holds it; none that is given out is larger.
fn to_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn range_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Incarnation, Sequence, Sequence)> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok((Incarnation(number(0)?), number(1)?, number(2)?))
}
