//! What the embedded broker counts: whoever runs it adds, `/metrics` shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::connections::ConnectionCounts;

/// The counters of one broker, since the program began.
#[derive(Debug, Default)]
pub struct BrokerCounts {
    /// Times that it was started again after its own failure.
    pub restarts: AtomicU64,
    /// Clients that are connected.
    pub clients: AtomicU64,
    /// Connections that it closed or refused because of what they sent, and messages that it took no further.
    pub refused: AtomicU64,
    /// Messages that it dropped because their subscriber was too far behind.
    pub dropped: AtomicU64,
    /// Clients that lost their session to another one with the same id.
    pub taken_over: AtomicU64,
    /// How many came, stay and were turned away.
    pub connections: Arc<ConnectionCounts>,
}

impl BrokerCounts {
    /// One more.
    pub fn add(counter: &AtomicU64) {
        Self::add_many(counter, 1);
    }

    /// So many more.
    pub fn add_many(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    /// One less.
    pub fn subtract(counter: &AtomicU64) {
        counter.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
