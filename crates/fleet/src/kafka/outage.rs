//! Says that Kafka is away once, and that it is back once.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether it was said last that it is away.
#[derive(Debug, Default)]
pub(super) struct Outage(AtomicBool);

impl Outage {
    /// Something failed. Whether that is news.
    pub(super) fn failed(&self, brokers: &str, reason: &str) -> bool {
        let news = !self.0.swap(true, Ordering::Relaxed);
        if news {
            tracing::warn!(brokers, reason, "no connection to Kafka; trying again until there is one");
        }
        news
    }

    /// Something worked. Whether that is news.
    pub(super) fn ended(&self, brokers: &str) -> bool {
        let news = self.0.swap(false, Ordering::Relaxed);
        if news {
            tracing::info!(brokers, "connected to Kafka again");
        }
        news
    }
}
