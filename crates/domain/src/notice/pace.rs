//! How many messages a target gets, and when.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Monotonic;

/// The window in which messages are counted.
pub const MINUTE: Duration = Duration::from_secs(60);
/// How long the last message of a window is held back, so that it covers the whole storm.
pub const DIGEST_HOLD: Duration = Duration::from_secs(2);
/// What to do for a target now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing waits.
    Idle,
    /// Look again then.
    WaitUntil(Monotonic),
    /// Send the oldest notice alone.
    One,
    /// Send all that waits as one digest.
    Digest,
}

/// How many messages a target gets, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    per_minute_max: usize,
    sent: VecDeque<Monotonic>,
    held_since: Option<Monotonic>,
}

impl Pace {
    /// At most `per_minute_max` messages (at least one) in any minute. `sent` are the times of those
    /// that were sent before, oldest first.
    #[must_use]
    pub fn new(per_minute_max: usize, sent: impl IntoIterator<Item = Monotonic>) -> Self {
        Self { per_minute_max: per_minute_max.max(1), sent: sent.into_iter().collect(), held_since: None }
    }

    /// What to do when `waiting` notices wait.
    pub fn next(&mut self, waiting: usize, now: Monotonic) -> Step {
        while self.sent.front().is_some_and(|sent| now.since(*sent) >= MINUTE) {
            self.sent.pop_front();
        }
        if waiting == 0 {
            self.held_since = None;
            return Step::Idle;
        }
        if let Some(oldest) = self.sent.front().filter(|_| self.sent.len() >= self.per_minute_max) {
            return Step::WaitUntil(*oldest + MINUTE);
        }
        if self.sent.len() + 1 < self.per_minute_max {
            return Step::One;
        }
        let held_until = *self.held_since.get_or_insert(now) + DIGEST_HOLD;
        match (now < held_until, waiting) {
            (true, _) => Step::WaitUntil(held_until),
            (false, 1) => Step::One,
            (false, _) => Step::Digest,
        }
    }

    /// A message was sent.
    pub fn sent(&mut self, now: Monotonic) {
        self.held_since = None;
        self.sent.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_storm_is_nine_messages_and_one_digest() {
        let mut pace = Pace::new(10, []);
        let start = Monotonic::START;
        let mut waiting = 46;
        for _ in 0..9 {
            assert_eq!(pace.next(waiting, start), Step::One);
            pace.sent(start);
            waiting -= 1;
        }
        let held = start + DIGEST_HOLD;
        assert_eq!(pace.next(waiting, start), Step::WaitUntil(held));
        assert_eq!(pace.next(waiting, held), Step::Digest, "… and {waiting} more changes");
        pace.sent(held);
        assert_eq!(pace.next(3, held), Step::WaitUntil(start + MINUTE));
        assert_eq!(pace.next(3, start + MINUTE), Step::One);
        assert_eq!(pace.next(0, start + MINUTE), Step::Idle);
    }

    #[test]
    fn what_was_sent_before_a_restart_counts() {
        let before = [Monotonic::START, Monotonic::START];
        let mut pace = Pace::new(2, before);
        assert_eq!(pace.next(1, Monotonic::START + DIGEST_HOLD), Step::WaitUntil(Monotonic::START + MINUTE));
    }

    proptest! {
        /// However notices come, no minute has more messages than allowed, none waits for ever, and
        /// a wait is always for a later time.
        #[test]
        fn no_minute_has_more_than_allowed(
            per_minute_max in 1_usize..6,
            pauses in prop::collection::vec(0_u64..30_000, 1..200),
        ) {
            let mut pace = Pace::new(per_minute_max, []);
            let (mut now, mut waiting, mut sent) = (Monotonic::START, 0_usize, Vec::new());
            let mut coming = pauses.into_iter();
            loop {
                match pace.next(waiting, now) {
                    Step::Idle => match coming.next() {
                        Some(pause) => { now = now + Duration::from_millis(pause); waiting += 1; }
                        None => break,
                    },
                    Step::WaitUntil(at) => {
                        prop_assert!(at > now);
                        prop_assert!(at.since(now) <= MINUTE);
                        now = at;
                        waiting += usize::from(coming.next().is_some());
                    }
                    step => {
                        waiting -= if step == Step::One { 1 } else { waiting };
                        pace.sent(now);
                        sent.push(now);
                        let recent = sent.iter().filter(|at| now.since(**at) < MINUTE).count();
                        prop_assert!(recent <= per_minute_max);
                    }
                }
            }
        }
    }
}
