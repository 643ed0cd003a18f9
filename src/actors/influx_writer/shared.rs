//! What outlives one life of the writer: counters, the state of the sink, the lease of the loop.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::course::Health;
use crate::buffer::journal::JournalError;

/// The writer's counters since the program started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriterCounters {
    /// Rows that the sink has confirmed.
    pub rows_stored: u64,
    /// Rows that the sink refused for good; they are dead letters in the journal.
    pub rows_refused: u64,
    /// Requests to the sink.
    pub writes: u64,
    /// What they took together.
    pub write_time: Duration,
    /// Requests that found it unable or unwilling to write.
    pub retries: u64,
    /// How often rows could not be written for a while.
    pub outages: u64,
    /// Times that the journal itself refused something (the disk).
    pub journal_failures: u64,
}

/// Shared by all lives of one writer.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub lease: Rc<Mutex<()>>,
    pub rows_stored: Cell<u64>,
    pub rows_refused: Cell<u64>,
    pub writes: Cell<u64>,
    pub write_time: Cell<Duration>,
    pub retries: Cell<u64>,
    pub outages: Cell<u64>,
    journal_failures: Cell<u64>,
    journal_error: RefCell<String>,
    health: Cell<Health>,
    sink_error: RefCell<String>,
}

impl Shared {
    pub fn counters(&self) -> WriterCounters {
        WriterCounters {
            rows_stored: self.rows_stored.get(),
            rows_refused: self.rows_refused.get(),
            writes: self.writes.get(),
            write_time: self.write_time.get(),
            retries: self.retries.get(),
            outages: self.outages.get(),
            journal_failures: self.journal_failures.get(),
        }
    }

    pub fn set_sink(&self, health: Health, error: &str) {
        self.health.set(health);
        error.clone_into(&mut self.sink_error.borrow_mut());
    }

    pub fn health(&self) -> Health {
        self.health.get()
    }

    /// The last error of the sink, or of the journal where the sink has none.
    pub fn last_error(&self) -> String {
        let sink = self.sink_error.borrow();
        if sink.is_empty() { self.journal_error.borrow().clone() } else { sink.clone() }
    }

    /// Counts a refusal of the journal, and says it when it is the first in a row.
    pub fn journal_failed(&self, error: &JournalError) {
        self.journal_failures.set(self.journal_failures.get() + 1);
        let before = self.journal_error.replace(error.to_string());
        if before.is_empty() {
            tracing::error!(%error, "nothing new is confirmed until the journal can write again");
        }
    }

    /// The journal did what it was asked.
    pub fn journal_worked(&self) {
        if !self.journal_error.take().is_empty() {
            tracing::info!(failures = self.journal_failures.get(), "the journal can write again");
        }
    }
}
