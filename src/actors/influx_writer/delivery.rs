//! The delivery loop: journal → sink, for as long as the writer lives.
//!
//! Invariants:
//! 1. blocks are reported as delivered only when each of their rows is stored in the sink or kept as
//!    a dead letter in the same report; so a crash at any point costs a repetition, never a row;
//! 2. one loop at a time works on a journal, over all lives of the writer (the lease);
//! 3. a row waits for others no longer than one flush interval; a full batch waits for nothing.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::course::{BatchSize, Course, Failure, Health, Lanes, Say, Waits};
use super::dissection::Dissection;
use super::shared::Shared;
use super::{WriterConfig, WriterParts};
use crate::buffer::journal::{Batch, DeadLetter, Journal, JournalError};
use crate::domain::time::describe_duration;
use crate::ports::{Sink, SinkError};
use crate::runtime::clock::Clock;

/// How often a batch that is not full is looked at again.
const FILL_CHECK: Duration = Duration::from_millis(20);
/// Wait after the journal could not be read or written.
const JOURNAL_RETRY: Duration = Duration::from_secs(1);

/// Everything that the loop works with.
pub(super) struct Delivery {
    journal: Journal,
    sink: Arc<dyn Sink>,
    clock: Clock,
    config: WriterConfig,
    shared: Rc<Shared>,
    course: Course,
    size: BatchSize,
    lanes: Lanes,
    last_taken: Option<Instant>,
    draining: watch::Receiver<Option<Instant>>,
}

/// The loop has to end: it was asked to drain and is done, or can't go on now.
struct End;

impl Delivery {
    pub fn new(
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
        let course = Course::new(waits);
        let size = BatchSize::new(config.batch_bytes_max);
        Self { journal, sink, clock, config, shared, course, size, lanes: Lanes::new(), last_taken: None, draining }
    }

    /// Runs until it is dropped, or until a drain is done.
    pub async fn run(mut self) {
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
                SinkError::Misconfigured { reason }
                | SinkError::Refused { reason }
                | SinkError::TooLarge { reason } => Failure::Misconfigured { reason },
            };
            self.wait_after(failure).await?;
        }
        self.reached();
        Ok(())
    }

    async fn turn(&mut self) -> Result<(), End> {
        if !self.is_draining() {
            let journal = self.journal.clone();
            tokio::select! {
                () = journal.wait_for_rows() => {}
                _ = self.draining.changed() => {}
            }
            self.wait_until_worth_it().await;
        }
        let batch = match self.take().await {
            Ok(batch) => batch,
            Err(error) => return self.journal_failed(&error).await,
        };
        self.last_taken = Some(Instant::now());
        if batch.block_ids.is_empty() {
            if self.is_draining() {
                return Err(End);
            }
            tokio::time::sleep(FILL_CHECK).await;
            return Ok(());
        }
        let outage_before = self.shared.outages.get();
        self.deliver(batch).await?;
        if self.shared.outages.get() != outage_before {
            self.split().await;
        }
        Ok(())
    }

    /// Waits until a batch is full, or a flush interval has passed since the last one was taken.
    async fn wait_until_worth_it(&mut self) {
        let Some(due) = self.last_taken.map(|taken| taken + self.config.flush_interval) else { return };
        while !self.is_draining() && Instant::now() < due && !self.is_full() {
            let check = due.min(Instant::now() + FILL_CHECK);
            tokio::select! {
                () = tokio::time::sleep_until(check) => {}
                _ = self.draining.changed() => {}
            }
        }
    }

    fn is_full(&self) -> bool {
        let level = self.journal.level();
        let bytes_max = u64::try_from(self.size.bytes_max()).unwrap_or(u64::MAX);
        level.undelivered_rows >= self.config.batch_rows_max || level.undelivered_bytes >= bytes_max
    }

    async fn take(&mut self) -> Result<Batch, JournalError> {
        for lane in self.lanes.next() {
            let batch = self.journal.next_batch(lane, self.config.batch_rows_max, self.size.bytes_max()).await?;
            self.shared.journal_worked();
            if !batch.block_ids.is_empty() {
                return Ok(batch);
            }
            self.lanes.was_empty(lane);
        }
        Ok(Batch::default())
    }

    async fn deliver(&mut self, batch: Batch) -> Result<(), End> {
        let Batch { block_ids, lines, rows } = batch;
        let mut dissection = Dissection::of(lines);
        while let Some(piece) = dissection.next() {
            let bytes = piece.len();
            self.shared.writes.set(self.shared.writes.get() + 1);
            let begin = Instant::now();
            let written = self.sink.write(piece).await;
            self.shared.write_time.set(self.shared.write_time.get() + begin.elapsed());
            match written {
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
                Err(SinkError::Misconfigured { reason }) => {
                    self.wait_after(Failure::Misconfigured { reason }).await?;
                }
            }
        }
        self.report(block_ids, rows, dissection.into_refused()).await
    }

    async fn report(&mut self, blocks: Vec<i64>, rows: u64, refused: Vec<(Vec<u8>, String)>) -> Result<(), End> {
        let at = self.clock.wall();
        let dead: Vec<DeadLetter> = refused.into_iter().map(|(line, reason)| DeadLetter { line, reason, at }).collect();
        if let Some(first) = dead.first() {
            let (refused, reason) = (dead.len(), first.reason.as_str());
            let row = String::from_utf8_lossy(&first.line);
            tracing::warn!(sink = self.sink.name(), refused, reason, %row, "rows refused, kept as dead letters");
        }
        let refused = u64::try_from(dead.len()).unwrap_or(u64::MAX);
        loop {
            match self.journal.delivered(blocks.clone(), dead.clone()).await {
                Ok(()) => {
                    self.shared.journal_worked();
                    break;
                }
                Err(error) => self.journal_failed(&error).await?,
            }
        }
        self.shared.rows_stored.set(self.shared.rows_stored.get() + rows.saturating_sub(refused));
        self.shared.rows_refused.set(self.shared.rows_refused.get() + refused);
        Ok(())
    }

    fn reached(&mut self) {
        if let Some(Say::Recovered { outage }) = self.course.reached(self.clock.monotonic()) {
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
        if before == Health::Ok {
            self.shared.outages.set(self.shared.outages.get() + 1);
        }
        self.shared.retries.set(self.shared.retries.get() + 1);
        self.shared.set_sink(self.course.health(), self.course.last_error());
        let waiting_rows = self.journal.level().undelivered_rows;
        match say {
            Some(Say::OutageBegan { reason }) => tracing::warn!(
                sink = self.sink.name(),
                reason,
                waiting_rows,
                "rows can't be written, they wait on disk; trying again until they can"
            ),
            Some(Say::Misconfigured { reason }) => tracing::error!(
                sink = self.sink.name(),
                reason,
                waiting_rows,
                retry = describe_duration(wait),
                "rows can't be written until this is put right; they wait on disk"
            ),
            Some(Say::Recovered { .. }) | None => {}
        }
        if self.is_draining() {
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
        self.lanes.split();
    }

    fn is_draining(&self) -> bool {
        self.draining.borrow().is_some()
    }
}
