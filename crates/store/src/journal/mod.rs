//! The monitor's journal: every accepted row is here, fsynced, before anything is acknowledged.
//!
//! Invariants, attacked by the model test in `tests/model.rs` beside this file:
//! 1. **Confirmed is durable.** When [`Journal::append`] resolves, its rows are in the file and the
//!    file is synced. After a crash at any point every confirmed reading is there exactly once; one that
//!    was not confirmed is there once or not at all.
//! 2. **One transaction, one truth.** The rows, the record of which numbers were received, and the
//!    ledger's counts change in the same transaction. Memory follows after the commit, so a failed
//!    commit leaves nothing behind, and nothing of its group is confirmed. A record to which only readings
//!    were added need not be written with them: the undelivered blocks that hold them are a part of it.
//! 3. **Undelivered rows are never dropped** for room or age; only delivered ones are. At the limit new
//!    readings are refused (their publishers keep them) and rows outside the ledger are given up, both
//!    counted. Verdict changes are never refused.
//! 4. **The account balances** for every incarnation: produced = stored + buffered + missing + lost
//!    + expired. Rows that their publisher does not number are in its account by their count.
//! 5. **Damage is named.** Each row has a checksum; a row that is not what was written is taken out and
//!    counted as lost, its whole neighbours are kept, and the journal starts anyway.
//! 6. **Loss is named.** What the file held is noted beside it (`witness.rs`): rows that were safe and are not in it
//!    at the next start are lost by publisher and number, also where its last commits were cut off cleanly.
//! 7. **One reading, one point.** No two readings that are remembered have one series and time, and no two rows without
//!    numbers one series, time and field (`point_index.rs`): the row that is written here overwrites nothing, and is the same
//!    at every retry. A message that comes again is one row (`marks.rs`): what it is known by is in the same transaction.
//!
//! One thread owns the file and commits in groups: while one group is synced the next one gathers in a
//! queue of `queue_entries_max` entries, and senders wait for room in it.

mod block;
mod committer;
mod copies;
mod dirty_incarnations;
mod field_sets;
mod history;
mod history_check;
mod identity;
mod incarnation;
mod marks;
mod memory_state;
mod noted;
mod past;
mod point_index;
mod readings;
mod recent_blocks;
mod recovery;
mod schema;
mod shares;
mod since;
mod snapshot;
mod store;
mod tail;
mod transaction;
mod verdict_row;
mod witness;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::block::line_time;
use self::committer::{CommitterCommand, Reply, Take};
pub use self::history::{HistoryBlock, HistoryFile, recorded_changes};
pub use self::snapshot::{Snapshot, snapshot};
use self::store::{Store, Write};
pub use self::tail::Tail;
use heartwatch_domain::history::{ChangesQuery, DeadLetterLine, NewestQuery, ReadingsPlot, ReadingsQuery};
use heartwatch_domain::intake::{AppendReceipt, IntakeEntry};
use heartwatch_domain::journal_id::JournalId;
use heartwatch_domain::ledger::LedgerLine;
pub use heartwatch_domain::ledger::NamedLoss;
use heartwatch_domain::roster::Standing;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::Change;
use heartwatch_system::clock::Clock;
use heartwatch_system::damage_log::DamageLog;

/// Entries that may wait for the journal's next commit, where nothing else is said.
const QUEUE_ENTRIES_MAX: usize = 20_000;

/// What bounds the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// The SQLite file; its directory is created.
    pub path: PathBuf,
    /// Most bytes of rows on disk. At nine tenths intake slows down; at the limit delivered history
    /// goes first, then readings are refused (their publishers keep them), counted and named.
    pub bytes_max: u64,
    /// How long delivered rows stay for the page and `export`, counted from their commit. Without a
    /// sink only the limit ends them: they are the one copy.
    pub history: Duration,
    /// Whether a sink beyond the journal exists. Without one a row is `stored` when it is here, and
    /// at the limit the oldest history makes room. Rows that waited for a sink before wait on, for
    /// the next start with one.
    pub has_sink: bool,
    /// Most entries that wait for a commit.
    pub queue_entries_max: usize,
}

/// What is kept on disk, as a person says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimits {
    /// [`JournalConfig::bytes_max`].
    pub bytes_max: u64,
    /// [`JournalConfig::history`].
    pub history: Duration,
}

impl Default for BufferLimits {
    /// 1 GiB, and a week of history.
    fn default() -> Self {
        Self { bytes_max: 1024 * 1024 * 1024, history: Duration::from_secs(7 * 86_400) }
    }
}

impl BufferLimits {
    /// With the word on whether rows go on from the journal.
    #[must_use]
    pub const fn with_sink(self, has_sink: bool) -> Limits {
        Limits { bytes_max: self.bytes_max, history: self.history, has_sink }
    }
}

impl JournalConfig {
    /// The journal of a data directory, with room for 20,000 entries that wait for a commit.
    #[must_use]
    pub fn within(data_dir: &Path, limits: Limits) -> Self {
        let Limits { bytes_max, history, has_sink } = limits;
        let path = data_dir.join("journal.sqlite");
        Self { path, bytes_max, history, has_sink, queue_entries_max: QUEUE_ENTRIES_MAX }
    }

    /// What of it may change while the journal is in use.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits { bytes_max: self.bytes_max, history: self.history, has_sink: self.has_sink }
    }
}

/// What of a [`JournalConfig`] may change while the journal is in use; the words are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// [`JournalConfig::bytes_max`]. A smaller one drops nothing that nobody has: readings are refused until there is room.
    pub bytes_max: u64,
    /// [`JournalConfig::history`].
    pub history: Duration,
    /// [`JournalConfig::has_sink`]. Rows that were `stored` here while there was none stay here only.
    pub has_sink: bool,
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
    /// The file cannot be read.
    #[error("the journal cannot be read: {reason}")]
    Read {
        /// SQLite's words.
        reason: String,
    },
    /// The journal has been closed.
    #[error("the journal is closed")]
    Closed,
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
    /// How many of them are of the backlog.
    pub backlog_rows: u64,
    /// What they count for in [`Level::undelivered_bytes`].
    pub bytes: u64,
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
    /// Rows whose time was moved since the start, because another one of their series had it.
    pub moved_rows: u64,
}

/// Part of the limit, in thousandths, from which intake slows down.
const SLOW_FROM_THOUSANDTHS: u64 = 900;
/// The longest delay of one append, just below the limit.
const SLOW_DELAY_MAX: Duration = Duration::from_millis(100);
/// The longest time that a mark of delivery waits for a commit to ride in. Losing it costs a repetition.
pub const DELIVERED_WAIT_MAX: Duration = Duration::from_millis(20);
/// Most batches for the sink that are asked for at once.
const TAKES_WAITING_MAX: usize = 4;
/// Most plots that are read at once.
const PLOTS_AT_ONCE_MAX: usize = 2;

/// A handle to the journal; clones share it. One thread owns the database and commits in groups; it
/// ends with [`Journal::close`], or when the last handle is gone and the queue is empty.
#[derive(Debug, Clone)]
pub struct Journal {
    commands: mpsc::Sender<CommitterCommand>,
    takes: mpsc::Sender<Take>,
    level: watch::Receiver<Level>,
    queue: Arc<Semaphore>,
    queue_entries_max: u32,
    limits: watch::Sender<Limits>,
    identity: watch::Receiver<Option<JournalId>>,
    path: Arc<PathBuf>,
    plots: Arc<Semaphore>,
    accounts_since: Timestamp,
}

impl Journal {
    /// Opens or makes the journal, salvages what is whole of a damaged one, and starts its thread.
    /// Blocks while every waiting row is compared with its checksum.
    ///
    /// # Errors
    /// [`JournalError::Open`]: the file cannot be opened, is not a journal, or another monitor has it.
    pub fn open(config: JournalConfig) -> Result<(Self, Recovery), JournalError> {
        Self::open_with(config, DamageLog::default())
    }

    /// [`Journal::open`], where damage is said now and later.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_with(config: JournalConfig, damage: DamageLog) -> Result<(Self, Recovery), JournalError> {
        let path = config.path.clone();
        let journal_path = path.clone();
        let limits = watch::Sender::new(config.limits());
        let queue_entries_max = u32::try_from(config.queue_entries_max.max(1)).unwrap_or(u32::MAX);
        let (store, recovery) = Store::open(config, damage)?;
        let (level_sender, level) = watch::channel(store.level());
        let (identity, accounts_since) = (store.identity(), store.accounts_since());
        // entries are limited by the semaphore; the channel's own limit is for the other commands
        let (commands, receiver) = mpsc::channel(1_024);
        let (takes, taken) = mpsc::channel(TAKES_WAITING_MAX);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || committer::run(store, receiver, taken, &level_sender))
            .map_err(|error| JournalError::Open { path, reason: format!("its thread cannot start: {error}") })?;
        // a semaphore holds fewer than 2^29 permits on 32-bit machines
        let queue_entries_max = queue_entries_max.min(1 << 28);
        let queue = Arc::new(Semaphore::new(queue_entries_max as usize));
        let plots = Arc::new(Semaphore::new(PLOTS_AT_ONCE_MAX));
        let path = Arc::new(journal_path);
        Ok((
            Self { commands, takes, level, queue, queue_entries_max, limits, identity, path, plots, accounts_since },
            recovery,
        ))
    }

    /// New limits from the next commit on.
    ///
    /// # Errors
    /// [`JournalError::Closed`].
    pub async fn set_limits(&self, limits: Limits) -> Result<(), JournalError> {
        self.ask(|reply| CommitterCommand::SetLimits { limits, reply }).await?;
        self.limits.send_replace(limits);
        Ok(())
    }

    /// Makes entries durable, duplicates removed. Resolves after the commit that holds them, with the
    /// state of every incarnation named in them. Near the limit it waits first, up to 100 ms.
    ///
    /// # Errors
    /// [`JournalError::Write`]: nothing of it was stored.
    pub async fn append(&self, entries: Arc<Vec<IntakeEntry>>) -> Result<AppendReceipt, JournalError> {
        let delay = self.slow_down();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let permits = u32::try_from(entries.len()).unwrap_or(u32::MAX).clamp(1, self.queue_entries_max);
        let permit = Arc::clone(&self.queue).acquire_many_owned(permits).await.map_err(|_| JournalError::Closed)?;
        self.ask(|reply| CommitterCommand::Write { write: Write::Append(entries), reply, permit: Some(permit) }).await
    }

    /// Makes verdict changes durable: their own table, and a `heartwatch_verdict` row each for the sink.
    /// A change whose epoch is recorded already is left as it is, so that a retry changes nothing.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub async fn record_changes(&self, changes: Arc<Vec<Change>>) -> Result<(), JournalError> {
        self.write(Write::Changes(changes)).await
    }

    /// Repeats standing verdicts as `heartwatch_verdict` rows.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub async fn record_standing(&self, standing: Arc<Vec<Standing>>) -> Result<(), JournalError> {
        self.write(Write::Standing(standing)).await
    }

    /// Past changes after an epoch, oldest first.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub async fn changes(&self, ask: ChangesQuery) -> Result<Vec<Change>, JournalError> {
        self.ask(|reply| CommitterCommand::Changes { ask, reply }).await
    }

    /// The newest changes, newest first.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub async fn newest_changes(&self, ask: NewestQuery) -> Result<Vec<Change>, JournalError> {
        self.ask(|reply| CommitterCommand::NewestChanges { ask, reply }).await
    }

    /// The newest dead letters, newest first.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub async fn dead_letters(&self, entries_max: usize) -> Result<Vec<DeadLetterLine>, JournalError> {
        self.ask(|reply| CommitterCommand::DeadLetters { entries_max, reply }).await
    }

    /// One publisher's readings for a plot. It reads beside the journal's thread, for at most about two
    /// seconds, and says when that was not enough.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub async fn readings(&self, ask: ReadingsQuery) -> Result<ReadingsPlot, JournalError> {
        let permit = Arc::clone(&self.plots).acquire_owned().await.map_err(|_| JournalError::Closed)?;
        let path = Arc::clone(&self.path);
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            readings::read(&path, &ask, Clock::start())
        });
        read.await.unwrap_or_else(|error| Err(JournalError::Read { reason: error.to_string() }))
    }

    /// A place from which to follow what is committed, beside the journal's thread.
    #[must_use]
    pub fn tail(&self) -> Tail {
        Tail::new(Arc::clone(&self.path))
    }

    /// Everything undelivered now becomes the backlog; what comes later is live. Before the first
    /// call everything is live.
    pub async fn split_lanes(&self) {
        if let Err(error) = self.ask(|reply| CommitterCommand::SplitLanes { reply }).await {
            tracing::warn!(%error, "live rows wait behind the backlog");
        }
    }

    /// Undelivered whole blocks: live ones for up to half of the limits, then the backlog, each of them oldest first
    /// and at least one where there is one; without a backlog as many live ones as the limits allow. The same blocks
    /// come again until they are [`Journal::delivered`].
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub async fn next_batch(&self, rows_max: u64, bytes_max: usize) -> Result<Batch, JournalError> {
        self.next_batch_besides(rows_max, bytes_max, Arc::default()).await
    }

    /// [`Journal::next_batch`] without the blocks that are on their way already.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub async fn next_batch_besides(
        &self,
        rows_max: u64,
        bytes_max: usize,
        besides: Arc<BTreeSet<i64>>,
    ) -> Result<Batch, JournalError> {
        let (reply, answer) = oneshot::channel();
        let take = Take { rows_max, bytes_max, besides, reply };
        self.takes.send(take).await.map_err(|_| JournalError::Closed)?;
        // where there is no room, the thread is awake and looks anyway
        let _ = self.commands.try_send(CommitterCommand::Take);
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Marks blocks as delivered, and keeps the rows of them that the sink refused: such a reading
    /// counts as lost, by its own number. The next commit of anything else takes it along; it has one of its
    /// own after [`DELIVERED_WAIT_MAX`].
    ///
    /// # Errors
    /// [`JournalError::Write`]: they will be delivered again, which changes nothing in the sink.
    pub async fn delivered(&self, block_ids: Vec<i64>, dead_letters: Vec<DeadLetter>) -> Result<(), JournalError> {
        let mut marked = std::pin::pin!(self.write(Write::Delivered { block_ids, dead_letters }));
        loop {
            match tokio::time::timeout(DELIVERED_WAIT_MAX, &mut marked).await {
                Ok(marked) => return marked,
                Err(_) => self.ask(|reply| CommitterCommand::Flush { reply }).await?,
            }
        }
    }

    /// Resolves when its level is so (at once when it is), or the journal is closed, which the next call then
    /// says.
    pub async fn wait_until(&self, is_so: impl FnMut(&Level) -> bool) {
        let _ = self.level.clone().wait_for(is_so).await;
    }

    /// Entries of appends that wait for their commit, and how many may.
    #[must_use]
    pub fn queue_entries(&self) -> (u64, u64) {
        let waiting = (self.queue_entries_max as usize).saturating_sub(self.queue.available_permits());
        (waiting as u64, u64::from(self.queue_entries_max))
    }

    /// Which journal it is; none until its file could be opened.
    #[must_use]
    pub fn identity(&self) -> Option<JournalId> {
        *self.identity.borrow()
    }

    /// Since when its accounts know whose the rows without numbers are, and which rows are here alone.
    #[must_use]
    pub const fn accounts_since(&self) -> Timestamp {
        self.accounts_since
    }

    /// How full it is; cheap.
    #[must_use]
    pub fn level(&self) -> Level {
        *self.level.borrow()
    }

    /// The account of every incarnation of every publisher, ordered by both.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub async fn accounts(&self) -> Result<Vec<LedgerLine>, JournalError> {
        self.ask(|reply| CommitterCommand::Accounts { reply }).await
    }

    /// What the `lost` of the accounts consists of, ordered by publisher, incarnation and number.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub async fn losses(&self) -> Result<Vec<NamedLoss>, JournalError> {
        self.ask(|reply| CommitterCommand::Losses { reply }).await
    }

    /// Commits what waits and closes the file. Later calls answer [`JournalError::Closed`].
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.commands.send(CommitterCommand::Close { reply }).await.is_ok() {
            let _ = closed.await;
        }
    }

    async fn write(&self, write: Write) -> Result<(), JournalError> {
        self.ask(|reply| CommitterCommand::Write { write, reply, permit: None }).await.map(|_| ())
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> CommitterCommand) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| JournalError::Closed)?;
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    /// How long an append waits: nothing up to nine tenths of the limit, then in proportion. Without a
    /// sink history makes room, and there is nothing to wait for.
    fn slow_down(&self) -> Duration {
        let Limits { bytes_max, has_sink, .. } = *self.limits.borrow();
        if !has_sink || bytes_max == 0 {
            return Duration::ZERO;
        }
        let full = u128::from(self.level().undelivered_bytes) * 1_000 / u128::from(bytes_max);
        let over = u64::try_from(full).unwrap_or(u64::MAX).saturating_sub(SLOW_FROM_THOUSANDTHS);
        let most = 1_000 - SLOW_FROM_THOUSANDTHS;
        SLOW_DELAY_MAX.mul_f64(over.min(most) as f64 / most as f64)
    }

    /// Runs SQL in the journal's connection, to make it fail.
    #[cfg(test)]
    async fn execute(&self, sql: &str) -> Result<(), JournalError> {
        let sql = sql.to_owned();
        self.ask(|reply| CommitterCommand::Execute { sql, reply }).await
    }
}
