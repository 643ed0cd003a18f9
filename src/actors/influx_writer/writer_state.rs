//! What outlives one life of the writer: counters, the state of the sink, the lease of the loop.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::sink_health::Health;
use heartwatch_store::journal::JournalError;

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
    /// How often it could not be reached for a while, at the start as well: one that refuses us is there.
    pub absences: u64,
    /// Times that the journal itself refused something (the disk).
    pub journal_failures: u64,
}

/// WriterState by all lives of one writer, and by its loop on another thread.
#[derive(Debug, Default)]
pub(super) struct WriterState {
    pub lease: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counters: WriterCounters,
    journal_error: String,
    health: Health,
    sink_error: String,
}

impl WriterState {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counters(&self) -> WriterCounters {
        self.state().counters
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut WriterCounters)) {
        count(&mut self.state().counters);
    }

    pub(super) fn set_sink(&self, health: Health, error: &str) {
        let mut state = self.state();
        state.health = health;
        error.clone_into(&mut state.sink_error);
    }

    pub(super) fn health(&self) -> Health {
        self.state().health
    }

    /// The last error of the sink, or of the journal where the sink has none.
    pub(super) fn last_error(&self) -> String {
        let state = self.state();
        if state.sink_error.is_empty() { state.journal_error.clone() } else { state.sink_error.clone() }
    }

    /// Counts a refusal of the journal, and says it when it is the first in a row.
    pub(super) fn journal_failed(&self, error: &JournalError) {
        let mut state = self.state();
        state.counters.journal_failures += 1;
        let before = std::mem::replace(&mut state.journal_error, error.to_string());
        if before.is_empty() {
            tracing::error!(%error, "nothing new is confirmed until the journal can write again");
        }
    }

    /// The journal did what it was asked.
    pub(super) fn journal_worked(&self) {
        let mut state = self.state();
        if !std::mem::take(&mut state.journal_error).is_empty() {
            tracing::info!(failures = state.counters.journal_failures, "the journal can write again");
        }
    }
}
