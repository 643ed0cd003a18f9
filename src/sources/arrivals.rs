//! Rows that another task pushes at its own pace: what a program prints, what a collector finds.
//!
//! A bounded queue between that task and the publisher's worker. It belongs to neither: when the
//! publisher is started again, its next life reads on where the one before had stopped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::sources::{BadRow, Next, Source, SourceError, SourceRow};

/// Most rows that wait for the publisher, unless said otherwise.
pub(crate) const ROWS_MAX: usize = 10_000;

/// What is pushed: a row, or one that cannot be used.
pub(crate) type Arrival = Result<SourceRow, BadRow>;

/// The queue; cheap to clone. Whoever has rows pushes them, the publisher takes them.
#[derive(Debug, Clone)]
pub struct Arrivals {
    shared: Arc<Queue>,
}

impl PartialEq for Arrivals {
    /// Whether it is the same queue.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Arrivals {}

#[derive(Debug)]
struct Queue {
    origin: String,
    rows_max: usize,
    queue: Mutex<VecDeque<Arrival>>,
    arrived: Notify,
    closed: AtomicBool,
    /// Rows that the publisher has taken.
    taken: AtomicU64,
    /// Rows that found no place.
    refused: AtomicU64,
    /// Longest time between two rows when all is well, in milliseconds; 0 is not known.
    expected_ms: AtomicU64,
}

impl Arrivals {
    /// An empty queue. `origin` is where the rows come from, for a person; more than `rows_max` rows that
    /// wait are refused, counted and logged.
    #[must_use]
    pub fn new(origin: impl Into<String>, rows_max: usize) -> Self {
        let shared = Queue {
            origin: origin.into(),
            rows_max,
            queue: Mutex::default(),
            arrived: Notify::new(),
            closed: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            expected_ms: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Adds rows in their order and wakes the publisher; answers how many found no place.
    pub fn push(&self, rows: impl IntoIterator<Item = Arrival>) -> u64 {
        let mut no_place = 0;
        {
            let mut queue = self.queue();
            for row in rows {
                if queue.len() < self.shared.rows_max {
                    queue.push_back(row);
                } else {
                    no_place += 1;
                }
            }
        }
        self.shared.arrived.notify_one();
        if no_place > 0 {
            let before = self.shared.refused.fetch_add(no_place, Ordering::Relaxed);
            // at 1, 2, 4, 8 … so that a flood of rows is not one of lines too
            if before.checked_ilog2() != (before + no_place).checked_ilog2() {
                let (origin, rows_max) = (&self.shared.origin, self.shared.rows_max);
                let refused = before + no_place;
                tracing::warn!(origin, refused, rows_max, "rows come faster than they are taken: dropped");
            }
        }
        no_place
    }

    /// Says that nothing more comes: the publisher ends behind the last row.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.arrived.notify_one();
    }

    /// Promises a row at least this often. A publisher whose queue stays empty for longer says in its
    /// heartbeats that it is not idle, and is `hung` in the end. None promises nothing.
    pub fn expect_every(&self, expected: Option<Duration>) {
        let millis = expected.map_or(0, |expected| u64::try_from(expected.as_millis()).unwrap_or(u64::MAX).max(1));
        self.shared.expected_ms.store(millis, Ordering::Relaxed);
    }

    /// What [`expect_every`](Self::expect_every) promised.
    #[must_use]
    pub fn expected_every(&self) -> Option<Duration> {
        match self.shared.expected_ms.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    /// Rows that found no place, over all lives of the publisher.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Rows that wait to be taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue().len()
    }

    /// Waits until something has come since the last wait. One waits at a time.
    pub async fn arrived(&self) {
        self.shared.arrived.notified().await;
    }

    /// Has [`arrived`](Self::arrived) answer at once when there is something to take: after a look that
    /// has not taken everything.
    pub fn wake_if_waiting(&self) {
        if self.waiting() > 0 || self.shared.closed.load(Ordering::Acquire) {
            self.shared.arrived.notify_one();
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Arrival>> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The publisher's end of the queue.
pub(crate) struct ArrivalsSource {
    arrivals: Arrivals,
}

impl ArrivalsSource {
    /// Takes from this queue.
    #[must_use]
    pub(crate) const fn new(arrivals: Arrivals) -> Self {
        Self { arrivals }
    }
}

impl Source for ArrivalsSource {
    fn next_row(&mut self) -> Next {
        // asked before the queue is: what was pushed before it was closed is not overlooked
        let closed = self.arrivals.shared.closed.load(Ordering::Acquire);
        let Some(arrival) = self.arrivals.queue().pop_front() else {
            return if closed { Next::End } else { Next::NothingYet };
        };
        self.arrivals.shared.taken.fetch_add(1, Ordering::Relaxed);
        match arrival {
            Ok(row) => Next::Row(row),
            Err(bad) => Next::Bad(bad),
        }
    }

    fn rewind(&mut self) -> Result<bool, SourceError> {
        Ok(false)
    }

    /// Rows taken, good and bad.
    fn cursor(&self) -> u64 {
        self.arrivals.shared.taken.load(Ordering::Relaxed)
    }

    fn origin(&self) -> String {
        self.arrivals.shared.origin.clone()
    }

    fn dropped(&self) -> u64 {
        self.arrivals.refused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: u64) -> SourceRow {
        SourceRow { line, ..SourceRow::default() }
    }

    #[test]
    fn rows_come_in_their_order_and_the_next_life_reads_on() {
        let arrivals = Arrivals::new("a sensor", 10);
        let bad = BadRow { reason: "no number".to_owned(), ..BadRow::default() };
        assert_eq!(arrivals.push([Ok(row(1)), Err(bad.clone()), Ok(row(3))]), 0);
        let mut source = ArrivalsSource::new(arrivals.clone());
        assert_eq!(source.next_row(), Next::Row(row(1)));
        assert_eq!(source.next_row(), Next::Bad(bad));
        let mut next_life = ArrivalsSource::new(arrivals.clone());
        assert_eq!(next_life.next_row(), Next::Row(row(3)));
        assert_eq!((next_life.next_row(), next_life.cursor()), (Next::NothingYet, 3));
        assert!(!next_life.rewind().unwrap());
        arrivals.push([Ok(row(4))]);
        arrivals.close();
        assert_eq!((next_life.next_row(), next_life.next_row()), (Next::Row(row(4)), Next::End));
    }

    #[test]
    fn what_finds_no_place_is_counted_and_what_waits_stays() {
        let arrivals = Arrivals::new("a sensor", 2);
        assert_eq!(arrivals.push((1..=5).map(|line| Ok(row(line)))), 3);
        assert_eq!((arrivals.refused(), arrivals.waiting()), (3, 2));
        let mut source = ArrivalsSource::new(arrivals.clone());
        assert_eq!(source.next_row(), Next::Row(row(1)));
        assert_eq!(arrivals.push([Ok(row(6))]), 0);
    }

    #[tokio::test]
    async fn who_waits_is_woken_also_by_what_came_before_and_by_what_was_left() {
        let arrivals = Arrivals::new("a sensor", 10);
        arrivals.push([Ok(row(1)), Ok(row(2))]);
        arrivals.arrived().await;
        ArrivalsSource::new(arrivals.clone()).next_row();
        arrivals.wake_if_waiting();
        arrivals.arrived().await;
        ArrivalsSource::new(arrivals.clone()).next_row();
        arrivals.wake_if_waiting();
        let waits = tokio::time::timeout(Duration::from_millis(20), arrivals.arrived()).await;
        assert!(waits.is_err(), "there is nothing to take");
    }

    #[test]
    fn a_promise_can_be_changed_and_taken_back() {
        let arrivals = Arrivals::new("a collector", 1);
        assert_eq!(arrivals.expected_every(), None);
        arrivals.expect_every(Some(Duration::from_millis(500)));
        assert_eq!(arrivals.expected_every(), Some(Duration::from_millis(500)));
        arrivals.expect_every(None);
        assert_eq!(arrivals.expected_every(), None);
    }
}
