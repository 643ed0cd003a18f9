//! When a publisher reads its source.

use tokio::time::Interval;

use crate::sources::arrivals::Arrivals;

/// When the next reading is due.
pub(super) enum Pace<'a> {
    /// As fast as it goes.
    AtOnce,
    /// With the next tick.
    Every(&'a mut Interval),
    /// When rows have come.
    AsTheyCome(Arrivals),
}

impl Pace<'_> {
    /// Resolves then.
    pub(super) async fn next(self) {
        match self {
            // Lets the connection and the confirmations have their turn.
            Self::AtOnce => tokio::task::yield_now().await,
            Self::Every(ticks) => {
                ticks.tick().await;
            }
            Self::AsTheyCome(arrivals) => arrivals.arrived().await,
        }
    }
}
