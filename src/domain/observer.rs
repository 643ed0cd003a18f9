//! What the monitor knows of its own ears. Silence that it may have caused itself is no evidence.
//!
//! After the local-pause guard of Cassandra's failure detector (`FailureDetector.java`,
//! `MAX_LOCAL_PAUSE_IN_NANOS`) and Lifeguard's local health (arXiv 1707.00788): a monitor that did
//! not run, or was not connected, counts silence only from when it could hear again.

use std::time::Duration;

use crate::domain::time::Monotonic;

/// Whether the monitor hears, and since when without a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observer {
    hears: bool,
    since: Monotonic,
    reason: String,
    pause_max: Duration,
    last_tick: Monotonic,
    settled_at: Monotonic,
}

/// A gap between two ticks from which on signs of life may wait unread: twice the time between ticks.
const HITCH: Duration = Duration::from_millis(500);
/// How long after such a gap we only listen: what waits is read within that time.
const SETTLING: Duration = Duration::from_millis(250);

impl Observer {
    /// A monitor that is not connected yet. A gap between two ticks longer than `pause_max` means
    /// that the monitor itself stood still.
    #[must_use]
    pub fn new(pause_max: Duration, now: Monotonic) -> Self {
        Self {
            hears: false,
            since: now,
            reason: "not connected to the broker yet".to_owned(),
            pause_max,
            last_tick: now,
            settled_at: now,
        }
    }

    /// Another longest gap between two ticks that is no standstill.
    pub const fn set_pause_max(&mut self, pause_max: Duration) {
        self.pause_max = pause_max;
    }

    /// The connection came or went.
    pub fn connection(&mut self, connected: bool, reason: &str, now: Monotonic) {
        self.hears = connected;
        self.since = self.since.max(now);
        if connected { self.reason.clear() } else { reason.clone_into(&mut self.reason) }
    }

    /// Called regularly, and before any decision. Returns how long the monitor stood still, when it did.
    pub fn tick(&mut self, now: Monotonic) -> Option<Duration> {
        let gap = now.since(self.last_tick);
        self.last_tick = self.last_tick.max(now);
        if gap > HITCH {
            self.settled_at = self.settled_at.max(now + SETTLING);
        }
        if gap <= self.pause_max {
            return None;
        }
        self.since = self.since.max(now);
        Some(gap)
    }

    /// Whether silence is evidence at all.
    #[must_use]
    pub const fn hears(&self) -> bool {
        self.hears
    }

    /// Since when it hears without a break: silence counts from here at the earliest.
    #[must_use]
    pub const fn hears_since(&self) -> Monotonic {
        self.since
    }

    /// Before this no deadline is judged: signs of life that came in time may still wait to be read
    /// after a gap in our own running that was too short to restart the count of silence.
    #[must_use]
    pub const fn settled_at(&self) -> Monotonic {
        self.settled_at
    }

    /// Why it does not hear; empty when it does.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::START + Duration::from_secs(seconds)
    }

    #[test]
    fn a_pause_of_our_own_restarts_the_count_of_silence() {
        let mut observer = Observer::new(Duration::from_secs(2), at(0));
        observer.connection(true, "", at(1));
        assert_eq!(observer.tick(at(2)), None);
        assert_eq!(observer.hears_since(), at(1));
        assert_eq!(observer.tick(at(30)), Some(Duration::from_secs(28)));
        assert_eq!(observer.hears_since(), at(30));
        assert!(observer.hears());
    }

    #[test]
    fn after_a_short_gap_it_listens_before_it_judges() {
        let mut observer = Observer::new(Duration::from_secs(2), at(0));
        observer.connection(true, "", at(0));
        assert_eq!(observer.tick(at(0) + Duration::from_millis(400)), None);
        assert_eq!(observer.settled_at(), at(0));
        assert_eq!(observer.tick(at(2)), None);
        assert_eq!((observer.hears_since(), observer.settled_at()), (at(0), at(2) + SETTLING));
    }

    #[test]
    fn without_a_connection_nothing_is_heard() {
        let mut observer = Observer::new(Duration::from_secs(2), at(0));
        assert!(!observer.hears());
        observer.connection(true, "", at(1));
        observer.connection(false, "connection refused", at(5));
        assert!(!observer.hears());
        assert_eq!(observer.reason(), "connection refused");
        observer.connection(true, "", at(9));
        assert_eq!((observer.hears(), observer.hears_since()), (true, at(9)));
    }
}
