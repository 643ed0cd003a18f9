//! Says that Kafka is away once, and that it is back once.

use std::sync::{Mutex, PoisonError};

/// Whether it is away, and since when that was said.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<bool>);

impl Outage {
    /// Something failed. Whether that is news.
    pub fn failed(&self, brokers: &str, reason: &str) -> bool {
        let news = !std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), true);
        if news {
            tracing::warn!(brokers, reason, "no connection to Kafka; trying again until there is one");
        }
        news
    }

    /// Something worked. Whether that is news.
    pub fn ended(&self, brokers: &str) -> bool {
        let news = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), false);
        if news {
            tracing::info!(brokers, "connected to Kafka again");
        }
        news
    }
}
