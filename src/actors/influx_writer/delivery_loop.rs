//! The delivery loop: journal → sink, for as long as the writer lives; on a thread of its own, since it would get its
//! turn too seldom on that of the actors while rows flood in.
//!
//! Invariants:
//! 1. blocks are reported as delivered only when each of their rows is stored in the sink or kept as
//!    a dead letter in the same report; so a crash at any point costs a repetition, never a row;
//! 2. one loop at a time works on a journal, over all lives of the writer (the lease);
//! 3. a row waits for others no longer than one flush interval; a full batch waits for nothing.
//!
//! While batches are on their way to the sink the next one is taken, and those before it are marked as
//! delivered by the journal's next commit: nobody waits for the other. What is taken at once is bounded: the
//! requests under way ([`Sink::writes_at_once`]), one batch that waits for its turn, and [`MARKS_AT_ONCE_MAX`]
//! whose rows are gone. When a request fails, what else is under way comes to its end, and then one batch at
//! a time is tried until it is through.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;

use super::bisection::Bisection;
use super::sink_health::{BatchSize, Failure, Health, SinkEvent, SinkHealth, Waits};
use super::writer_state::WriterState;
use super::{WriterConfig, WriterParts};
use heartwatch_domain::time::describe_duration;
use heartwatch_ports::{Sink, SinkError};
use heartwatch_store::journal::{Batch, DeadLetter, Journal, JournalError, Level};
use heartwatch_system::clock::Clock;

/// Wait after the journal had nothing where its level says that rows wait.
const NOTHING_FOUND_WAIT: Duration = Duration::from_millis(20);
/// Wait after the journal could not be read or written.
const JOURNAL_RETRY: Duration = Duration::from_secs(1);
/// Batches that the sink has and the journal has not marked yet, before no further one is taken.
const MARKS_AT_ONCE_MAX: usize = 16;
/// What is left of a burst waits for this part of a flush interval: behind a batch that was half full or more.
const BURST_FLUSH_PART: u32 = 40;

/// Something under way.
type UnderWay<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// What the journal had.
type Found = Result<Batch, JournalError>;

/// Everything that the loop works with.
pub(super) struct DeliveryLoop {
    journal: Journal,
    sink: Arc<dyn Sink>,
    clock: Clock,
    config: WriterConfig,
    shared: Arc<WriterState>,
    course: SinkHealth,
    size: BatchSize,
    /// Rows wait from before an outage or the start: no more is waited for.
    has_backlog: bool,
    draining: watch::Receiver<Option<Instant>>,
    /// Until when rows wait for others.
    due: Option<Instant>,
    /// The batch that is being taken.
    taking: Option<UnderWay<Found>>,
    /// Whether that began while draining.
    taking_drains: bool,
    /// Taken while the sink had enough to do.
    next: Option<(Batch, Bisection)>,
    writing: FuturesUnordered<UnderWay<Written>>,
    marking: FuturesUnordered<UnderWay<Marked>>,
    /// The blocks of all of them: not to be taken again.
    taken_ids: BTreeSet<i64>,
    taken_rows: u64,
    taken_bytes: u64,
    /// While draining: the journal had nothing more at the last look, and nothing has ended since.
    exhausted: bool,
}

/// The first request of a batch has ended.
struct Written {
    batch: Batch,
    dissection: Bisection,
    bytes: usize,
    result: Result<(), SinkError>,
}

/// The journal has marked a batch, or could not.
struct Marked {
    batch: Batch,
    dead: Vec<DeadLetter>,
    result: Result<(), JournalError>,
}

/// The loop has to end: it was asked to drain and is done, or can't go on now.
struct End;

impl DeliveryLoop {
    pub(super) fn new(
        parts: &WriterParts,
        sink: Arc<dyn Sink>,
        config: WriterConfig,
        draining: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let WriterParts { journal, clock, shared, .. } = parts.clone();
        let waits = Waits {
            backoff_min: config.backoff_min,
            backoff_max: config.backoff_max,
            misconfigured_retry: config.misconfigured_retry,
        };
        Self {
            journal,
            sink,
            clock,
            config,
            shared,
            course: SinkHealth::new(waits),
            size: BatchSize::new(config.batch_bytes_max),
            has_backlog: false,
            draining,
            due: None,
            taking: None,
            taking_drains: false,
            next: None,
            writing: FuturesUnordered::new(),
            marking: FuturesUnordered::new(),
            taken_ids: BTreeSet::new(),
            taken_rows: 0,
            taken_bytes: 0,
            exhausted: false,
        }
    }

    /// Runs until it is dropped, or until a drain is done.
    pub(super) async fn run(mut self) {
        let lease = self.shared.lease.clone();
        let _lease = lease.lock().await;
        if self.prepare().await.is_err() {
            return;
        }
        // what waited until now is the backlog
        self.split().await;
        while self.turn().await.is_ok() {}
    }

    async fn prepare(&mut self) -> Result<(), End> {
        while let Err(error) = self.sink.prepare().await {
            let failure = match error {
                SinkError::Retry { reason, retry_after } => Failure::Retry { reason, retry_after },
                SinkError::NotListening { reason } => Failure::NotListening { reason },
                SinkError::Misconfigured { reason }
                | SinkError::Refused { reason }
                | SinkError::TooLarge { reason } => Failure::Misconfigured { reason },
            };
            self.wait_after(failure).await?;
        }
        self.reached();
        Ok(())
    }

    /// Waits for whatever comes first, and does what follows from it.
    async fn turn(&mut self) -> Result<(), End> {
        let draining = self.is_draining();
        let idle = self.writing.is_empty() && self.marking.is_empty() && self.taking.is_none() && self.next.is_none();
        if draining && idle && self.exhausted {
            return Err(End);
        }
        let may_take = self.taking.is_none()
            && self.next.is_none()
            && self.marking.len() < MARKS_AT_ONCE_MAX
            && !(draining && self.exhausted);
        let worth_it = self.worth_taking();
        tokio::select! {
            Some(marked) = self.marking.next() => self.marked(marked).await,
            Some(written) = self.writing.next() => self.written(written).await,
            taken = poll_taking(&mut self.taking) => {
                self.taking = None;
                self.taken(taken).await
            }
            () = worth_it, if may_take => {
                self.take();
                Ok(())
            }
            _ = self.draining.changed(), if !draining => Ok(()),
        }
    }

    /// Resolves when a batch is full, or rows have waited for others long enough; at once while there is a backlog,
    /// and while draining.
    fn worth_taking(&self) -> impl Future<Output = ()> + use<> {
        let (journal, due) = (self.journal.clone(), self.due);
        let at_once = self.has_backlog || self.is_draining();
        let (rows_taken, bytes_taken) = (self.taken_rows, self.taken_bytes);
        let rows_full = self.config.batch_rows_max;
        let bytes_full = u64::try_from(self.size.bytes_max()).unwrap_or(u64::MAX);
        async move {
            if at_once {
                return;
            }
            let waits = |level: &Level| level.undelivered_rows > rows_taken;
            let is_full = |level: &Level| {
                level.undelivered_rows >= rows_taken.saturating_add(rows_full)
                    || level.undelivered_bytes >= bytes_taken.saturating_add(bytes_full)
            };
            journal.wait_until(waits).await;
            if let Some(due) = due {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = journal.wait_until(is_full) => {}
                }
            }
        }
    }

    fn take(&mut self) {
        let journal = self.journal.clone();
        let (rows_max, bytes_max) = (self.config.batch_rows_max, self.size.bytes_max());
        let besides = Arc::new(self.taken_ids.clone());
        self.taking_drains = self.is_draining();
        self.taking = Some(Box::pin(async move { journal.next_batch_besides(rows_max, bytes_max, besides).await }));
    }

    async fn taken(&mut self, found: Found) -> Result<(), End> {
        let mut batch = match found {
            Ok(batch) => batch,
            Err(error) => return self.journal_failed(&error).await,
        };
        self.shared.journal_worked();
        // nothing is ever added to it
        let was_backlog = std::mem::replace(&mut self.has_backlog, batch.backlog_rows > 0);
        let was_burst = batch.rows.saturating_mul(2) >= self.config.batch_rows_max
            || batch.lines.len() >= self.size.bytes_max() / 2;
        let interval = self.config.flush_interval;
        self.due = Some(Instant::now() + if was_burst { interval / BURST_FLUSH_PART } else { interval });
        if batch.block_ids.is_empty() {
            self.exhausted = self.taking_drains;
            if !self.exhausted && !was_backlog {
                tokio::time::sleep(NOTHING_FOUND_WAIT).await;
            }
            return Ok(());
        }
        self.taken_ids.extend(&batch.block_ids);
        self.taken_rows += batch.rows;
        self.taken_bytes += batch.bytes;
        let lines = std::mem::take(&mut batch.lines);
        self.next = Some((batch, Bisection::of(lines)));
        self.write_next();
        Ok(())
    }

    /// Sends the batch that waits, where the sink takes another one.
    fn write_next(&mut self) {
        if self.writing.len() >= self.sink.writes_at_once().max(1) {
            return;
        }
        let Some((batch, dissection)) = self.next.take() else { return };
        let piece = dissection.next().unwrap_or_default();
        let (sink, shared, bytes) = (Arc::clone(&self.sink), Arc::clone(&self.shared), piece.len());
        self.writing.push(Box::pin(async move {
            let result = write(&*sink, &shared, piece).await;
            Written { batch, dissection, bytes, result }
        }));
    }

    async fn written(&mut self, written: Written) -> Result<(), End> {
        self.exhausted = false;
        if written.result.is_ok() {
            self.stored(written);
            self.write_next();
            return Ok(());
        }
        // the others come to their end first: from then on one at a time is tried
        let mut failed = vec![written];
        while let Some(other) = self.writing.next().await {
            if other.result.is_ok() {
                self.stored(other);
            } else {
                failed.push(other);
            }
        }
        let outages_before = self.shared.counters().outages;
        for written in failed {
            self.deliver(written).await?;
        }
        if self.shared.counters().outages != outages_before {
            self.split().await;
        }
        self.write_next();
        Ok(())
    }

    fn stored(&mut self, written: Written) {
        self.reached();
        self.size.passed();
        self.mark(written.batch, Vec::new());
    }

    /// A batch whose first request failed, until each of its rows is stored or known to be refused.
    async fn deliver(&mut self, written: Written) -> Result<(), End> {
        let Written { batch, mut dissection, mut bytes, mut result } = written;
        loop {
            match result {
                Ok(()) => {
                    self.reached();
                    self.size.passed();
                    dissection.accepted();
                }
                Err(SinkError::Refused { reason }) => {
                    self.reached();
                    dissection.refused(&reason);
                }
                Err(SinkError::TooLarge { reason }) => {
                    self.reached();
                    self.size.too_large(bytes);
                    tracing::warn!(sink = self.sink.name(), bytes, reason, "batch too large, halved");
                    dissection.too_large(&reason);
                }
                Err(SinkError::Retry { reason, retry_after }) => {
                    self.wait_after(Failure::Retry { reason, retry_after }).await?;
                }
                Err(SinkError::NotListening { reason }) => {
                    self.wait_after(Failure::NotListening { reason }).await?;
                }
                Err(SinkError::Misconfigured { reason }) => {
                    self.wait_after(Failure::Misconfigured { reason }).await?;
                }
            }
            let Some(piece) = dissection.next() else { break };
            bytes = piece.len();
            result = write(&*self.sink, &self.shared, piece).await;
        }
        let dead = self.dead_letters(dissection.into_refused());
        self.mark(batch, dead);
        Ok(())
    }

    fn dead_letters(&self, refused: Vec<(Vec<u8>, String)>) -> Vec<DeadLetter> {
        let at = self.clock.wall();
        let dead: Vec<DeadLetter> = refused.into_iter().map(|(line, reason)| DeadLetter { line, reason, at }).collect();
        if let Some(first) = dead.first() {
            let (refused, reason) = (dead.len(), first.reason.as_str());
            let row = String::from_utf8_lossy(&first.line);
            tracing::warn!(sink = self.sink.name(), refused, reason, %row, "rows refused, kept as dead letters");
        }
        dead
    }

    fn mark(&mut self, batch: Batch, dead: Vec<DeadLetter>) {
        let journal = self.journal.clone();
        self.marking.push(Box::pin(async move {
            let result = journal.delivered(batch.block_ids.clone(), dead.clone()).await;
            Marked { batch, dead, result }
        }));
    }

    async fn marked(&mut self, marked: Marked) -> Result<(), End> {
        let Marked { batch, dead, result } = marked;
        if let Err(error) = result {
            self.journal_failed(&error).await?;
            self.mark(batch, dead);
            return Ok(());
        }
        self.shared.journal_worked();
        self.exhausted = false;
        for id in &batch.block_ids {
            self.taken_ids.remove(id);
        }
        self.taken_rows = self.taken_rows.saturating_sub(batch.rows);
        self.taken_bytes = self.taken_bytes.saturating_sub(batch.bytes);
        let refused = u64::try_from(dead.len()).unwrap_or(u64::MAX);
        self.shared.count(|counters| {
            counters.rows_stored += batch.rows.saturating_sub(refused);
            counters.rows_refused += refused;
        });
        Ok(())
    }

    fn reached(&mut self) {
        if let Some(SinkEvent::Recovered { outage }) = self.course.reached(self.clock.monotonic()) {
            let waiting_rows = self.journal.level().undelivered_rows;
            let lasted = describe_duration(outage);
            tracing::info!(sink = self.sink.name(), lasted, waiting_rows, "rows are written again");
        }
        self.shared.set_sink(Health::Ok, "");
    }

    /// Waits before the next attempt. While draining there is none.
    async fn wait_after(&mut self, failure: Failure) -> Result<(), End> {
        let before = self.course.health();
        let (wait, say) = self.course.failed(failure, self.clock.monotonic());
        self.shared.count(|counters| {
            counters.outages += u64::from(before == Health::Ok);
            counters.retries += 1;
            counters.absences += u64::from(matches!(say, Some(SinkEvent::OutageBegan { .. })));
        });
        self.shared.set_sink(self.course.health(), self.course.last_error());
        let waiting_rows = self.journal.level().undelivered_rows;
        match say {
            Some(SinkEvent::OutageBegan { reason }) => tracing::warn!(
                sink = self.sink.name(),
                reason,
                waiting_rows,
                "rows can't be written, they wait on disk; trying again until they can"
            ),
            Some(SinkEvent::Misconfigured { reason }) => tracing::error!(
                sink = self.sink.name(),
                reason,
                waiting_rows,
                retry = describe_duration(wait),
                "rows can't be written until this is put right; they wait on disk"
            ),
            Some(SinkEvent::Recovered { .. }) | None => {}
        }
        if self.is_draining() {
            // what the sink has is marked first, so that the next start need not send it again
            while let Some(marked) = self.marking.next().await {
                self.marked(marked).await?;
            }
            return Err(End);
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // one more attempt, at once
            _ = self.draining.changed() => {}
        }
        Ok(())
    }

    async fn journal_failed(&mut self, error: &JournalError) -> Result<(), End> {
        if self.is_draining() || *error == JournalError::Closed {
            return Err(End);
        }
        self.shared.journal_failed(error);
        tokio::time::sleep(JOURNAL_RETRY).await;
        Ok(())
    }

    async fn split(&mut self) {
        self.journal.split_lanes().await;
        self.has_backlog = true;
    }

    fn is_draining(&self) -> bool {
        self.draining.borrow().is_some()
    }
}

/// One request to the sink, counted.
async fn write(sink: &dyn Sink, shared: &WriterState, piece: Bytes) -> Result<(), SinkError> {
    shared.count(|counters| counters.writes += 1);
    let begin = Instant::now();
    let result = sink.write(piece).await;
    shared.count(|counters| counters.write_time += begin.elapsed());
    result
}

/// The batch that is being taken, when it is there; for ever where none is.
async fn poll_taking<T>(taking: &mut Option<UnderWay<T>>) -> T {
    match taking {
        Some(taking) => taking.await,
        None => std::future::pending().await,
    }
}
