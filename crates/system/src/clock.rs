//! The only place that reads a clock. Under `tokio::time::pause` both clocks stand still together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use heartwatch_domain::time::{Monotonic, Timestamp};

/// Both clocks, read together. Clones agree with each other.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The clock that decides.
    #[must_use]
    pub fn monotonic(&self) -> Monotonic {
        Monotonic::START + self.start.elapsed()
    }

    /// The clock that is written down.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place that owns the wall clock")]
    pub fn wall(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::from_nanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
    }

    /// When a monotonic instant will be (or was), for a timer.
    #[must_use]
    pub fn instant(&self, at: Monotonic) -> Instant {
        self.start + at.since(Monotonic::START)
    }

    /// Waits until then; for ever when that is never.
    pub async fn sleep_until(&self, at: Option<Monotonic>) {
        match at {
            Some(at) => tokio::time::sleep_until(self.instant(at)).await,
            None => std::future::pending().await,
        }
    }
}
