//! The monitor's journal: every accepted row is here, fsynced, before anything is acknowledged.
//! (contract; to be filled in)

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::domain::verdict::Change;
use crate::messages::ask::LedgerLine;
use crate::messages::change::Standing;
use crate::messages::intake::{DeliveryState, IntakeEntry};

/// What bounds the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// The SQLite file; its directory is created.
    pub path: PathBuf,
    /// Most bytes of rows on disk. At nine tenths intake slows down; at the limit delivered history
    /// goes first, then readings are refused (their publishers keep them), counted and named.
    pub bytes_max: u64,
    /// How long delivered rows stay for the page and `export`.
    pub history: Duration,
    /// Whether a sink beyond the journal exists. Without one a row is `stored` when it is here, and
    /// at the limit the oldest history makes room.
    pub has_sink: bool,
    /// Most entries that wait for a commit.
    pub queue_entries_max: usize,
}

/// What was found at the start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recovery {
    /// Rows that wait for the sink.
    pub undelivered_rows: u64,
    /// The last change of every publisher known.
    pub last_changes: Vec<Change>,
    /// The highest epoch given out; 0 before the first.
    pub last_epoch: u64,
    /// What was damaged and how much of it was saved, in words; empty when nothing was.
    pub damage: Vec<String>,
}

/// Why the journal could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened or made.
    #[error("cannot open the journal {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's or the system's words.
        reason: String,
    },
    /// The disk refused; nothing of the batch was stored.
    #[error("the journal cannot write: {reason}")]
    Write {
        /// SQLite's words.
        reason: String,
    },
    /// The journal has been closed.
    #[error("the journal is closed")]
    Closed,
}

/// Which end of the backlog a batch is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What came after [`Journal::split_lanes`] was last called: today's data.
    Live,
    /// What waited before that, oldest first.
    Backlog,
}

/// Rows for the sink, and which blocks they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The blocks, to be reported back.
    pub block_ids: Vec<i64>,
    /// The rows in line protocol, one a line, each ended by `\n`.
    pub lines: Vec<u8>,
    /// How many rows.
    pub rows: u64,
}

/// A row that the sink refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The row.
    pub line: Vec<u8>,
    /// The server's reason.
    pub reason: String,
    /// When it was refused.
    pub at: Timestamp,
}

/// How full the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Level {
    /// Rows that wait for the sink.
    pub undelivered_rows: u64,
    /// Their bytes.
    pub undelivered_bytes: u64,
    /// Bytes of all rows, delivered history included.
    pub bytes: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Rows refused or given up at the limit since the start.
    pub refused_rows: u64,
}

/// A handle to the journal; clones share it. One thread owns the database and commits in groups.
#[derive(Debug, Clone)]
pub struct Journal {}

impl Journal {
    /// Opens or makes the journal, salvages what is whole of a damaged one, and starts its thread.
    ///
    /// # Errors
    /// [`JournalError::Open`].
    pub fn open(_config: JournalConfig) -> Result<(Self, Recovery), JournalError> {
        unimplemented!()
    }
    /// Makes entries durable, duplicates removed. Resolves after the commit that holds them.
    ///
    /// # Errors
    /// [`JournalError::Write`]: nothing of it was stored.
    pub async fn append(&self, _entries: std::sync::Arc<Vec<IntakeEntry>>) -> Result<Vec<DeliveryState>, JournalError> {
        unimplemented!()
    }
    /// Makes verdict changes durable: their own table, and a `heartwatch_verdict` row each for the sink.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub async fn record_changes(&self, _changes: std::sync::Arc<Vec<Change>>) -> Result<(), JournalError> {
        unimplemented!()
    }
    /// Repeats standing verdicts as `heartwatch_verdict` rows.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub async fn record_standing(&self, _standing: std::sync::Arc<Vec<Standing>>) -> Result<(), JournalError> {
        unimplemented!()
    }
    /// Past changes after an epoch, oldest first.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn changes(&self, _ask: crate::messages::ask::AskChanges) -> Result<Vec<Change>, JournalError> {
        unimplemented!()
    }
    /// Everything undelivered now becomes the backlog; what comes later is live.
    pub async fn split_lanes(&self) {}
    /// The oldest undelivered whole blocks of a lane, at least one when there is one, within the limits otherwise.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn next_batch(&self, _lane: Lane, _rows_max: u64, _bytes_max: usize) -> Result<Batch, JournalError> {
        unimplemented!()
    }
    /// Marks blocks as delivered, and keeps the rows of them that the sink refused.
    ///
    /// # Errors
    /// [`JournalError::Write`]: they will be delivered again, which changes nothing in the sink.
    pub async fn delivered(&self, _block_ids: Vec<i64>, _dead_letters: Vec<DeadLetter>) -> Result<(), JournalError> {
        unimplemented!()
    }
    /// Resolves when undelivered rows exist in either lane (at once when they do).
    pub async fn wait_for_rows(&self) {}
    /// How full it is; cheap.
    #[must_use]
    pub fn level(&self) -> Level {
        unimplemented!()
    }
    /// The account of every incarnation of every publisher.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn accounts(&self) -> Result<Vec<LedgerLine>, JournalError> {
        unimplemented!()
    }
    /// Commits what waits and closes the file. Later calls answer [`JournalError::Closed`].
    pub async fn close(&self) {}
}
