//! When a publisher reads its source.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

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

/// Ticks that are not made up for when they were missed.
pub(super) fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
