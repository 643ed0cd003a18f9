//! What the monitor knows of its own ears. Silence that it may have caused itself is no evidence.
//!
//! After the local-pause guard of Cassandra's failure detector (`FailureDetector.java`,
//! `MAX_LOCAL_PAUSE_IN_NANOS`) and Lifeguard's local health (arXiv 1707.00788): a monitor that did
//! not run, or was not connected, counts silence only from when it could hear again. While its own disk holds up what it
//! hears, nothing is lost by that: such times are left out of the count, which does not begin anew (see `hold_ups`).

use std::time::Duration;

use self::hold_ups::HoldUps;
use crate::time::Monotonic;

mod hold_ups;
mod ways;
pub use self::ways::{HeardOn, SelfChecks};

/// Whether what is sent reaches the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// It does.
    Open,
    /// Its own disk takes nothing: what is sent waits at the broker, and is heard afterwards.
    HeldUp,
    /// There is no connection: what is sent may be lost.
    Lost,
}

/// Whether the monitor hears, and since when without a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfCheck {
    reception: Reception,
    since: Monotonic,
    hold_ups: HoldUps,
    reason: String,
    pause_max: Duration,
    last_tick: Monotonic,
    settled_at: Monotonic,
}

/// A gap between two ticks from which on signs of life may wait unread: twice the time between ticks.
const HITCH: Duration = Duration::from_millis(500);
/// How long after such a gap we only listen: what waits is read within that time.
const SETTLING: Duration = Duration::from_millis(250);

impl SelfCheck {
    /// A monitor that is not connected yet. A gap between two ticks longer than `pause_max` means
    /// that the monitor itself stood still.
    #[must_use]
    pub fn new(pause_max: Duration, now: Monotonic) -> Self {
        Self {
            reception: Reception::Lost,
            since: now,
            hold_ups: HoldUps::default(),
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

    /// The connection came or went, or our own disk began or ceased to hold up what comes over it.
    pub fn receives(&mut self, reception: Reception, reason: &str, now: Monotonic) {
        let before = std::mem::replace(&mut self.reception, reception);
        let reason = if reception == Reception::Open { "" } else { reason };
        reason.clone_into(&mut self.reason);
        if (before, reception) == (Reception::HeldUp, Reception::Open) {
            self.since = self.since.max(self.hold_ups.end(now));
            self.settled_at = self.settled_at.max(now + SETTLING);
            return;
        }
        if reception != Reception::HeldUp || before == Reception::Lost {
            self.hold_ups.end(now);
            self.since = self.since.max(now);
        }
        if reception == Reception::HeldUp {
            self.hold_ups.begin(now);
        }
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
        matches!(self.reception, Reception::Open)
    }

    /// From when on the silence of somebody who was last heard at `heard` counts: later by the times at which it could not be
    /// heard. For the same `heard` it only ever moves on.
    #[must_use]
    pub fn counts_from(&self, heard: Monotonic) -> Monotonic {
        self.hold_ups.counts_from(heard.max(self.since))
    }

    /// Whether it has heard without a break since then.
    #[must_use]
    pub fn has_heard_since(&self, then: Monotonic) -> bool {
        then >= self.since && self.hold_ups.none_since(then)
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
        let mut observer = SelfCheck::new(Duration::from_secs(2), at(0));
        observer.receives(Reception::Open, "", at(1));
        assert_eq!(observer.tick(at(2)), None);
        assert_eq!(observer.counts_from(at(0)), at(1));
        assert_eq!(observer.tick(at(30)), Some(Duration::from_secs(28)));
        assert_eq!(observer.counts_from(at(0)), at(30));
        assert!(observer.has_heard_since(at(30)) && !observer.has_heard_since(at(29)));
        assert!(observer.hears());
    }

    #[test]
    fn after_a_short_gap_it_listens_before_it_judges() {
        let mut observer = SelfCheck::new(Duration::from_secs(2), at(0));
        observer.receives(Reception::Open, "", at(0));
        assert_eq!(observer.tick(at(0) + Duration::from_millis(400)), None);
        assert_eq!(observer.settled_at(), at(0));
        assert_eq!(observer.tick(at(2)), None);
        assert_eq!((observer.counts_from(at(0)), observer.settled_at()), (at(0), at(2) + SETTLING));
    }

    #[test]
    fn without_a_connection_nothing_is_heard() {
        let mut observer = SelfCheck::new(Duration::from_secs(2), at(0));
        assert!(!observer.hears());
        observer.receives(Reception::Open, "", at(1));
        observer.receives(Reception::Lost, "connection refused", at(5));
        assert!(!observer.hears());
        assert_eq!(observer.reason(), "connection refused");
        observer.receives(Reception::Open, "", at(9));
        assert_eq!((observer.hears(), observer.counts_from(at(0))), (true, at(9)));
    }

    #[test]
    fn while_its_disk_holds_it_up_it_does_not_hear_and_afterwards_it_counts_on() {
        let mut observer = SelfCheck::new(Duration::from_secs(2), at(0));
        observer.receives(Reception::Open, "", at(1));
        observer.receives(Reception::HeldUp, "its own disk", at(11));
        assert_eq!((observer.hears(), observer.reason()), (false, "its own disk"));
        observer.receives(Reception::Open, "", at(12));
        assert_eq!((observer.hears(), observer.reason()), (true, ""));
        assert_eq!(observer.counts_from(at(1)), at(6), "a second, and four to hear what has waited");
        assert_eq!(observer.settled_at(), at(12) + SETTLING);

        observer.receives(Reception::HeldUp, "its own disk", at(20));
        observer.receives(Reception::Lost, "connection refused", at(21));
        observer.receives(Reception::Open, "", at(22));
        assert_eq!(observer.counts_from(at(1)), at(22), "what was sent meanwhile may be lost");
    }
}
