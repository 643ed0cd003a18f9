//! A publisher that falls and rises again and again is stated to be flapping once, and then left alone
//! until it is steady: the last word counts, not each one in between.
//!
//! Counted is only the step between well and not well: `late` and back is an ordinary day.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::{Monotonic, describe_duration};
use crate::verdict::Verdict;

/// When a publisher is flapping, and when it is no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlappingLimits {
    /// Most steps within the period that are told one by one; 0: all of them, always.
    pub changes_max: u32,
    /// How far back changes are counted.
    pub period: Duration,
    /// A verdict that has stood for so long ends the flapping.
    pub steady: Duration,
}

impl Default for FlappingLimits {
    fn default() -> Self {
        Self { changes_max: 6, period: Duration::from_secs(60), steady: Duration::from_secs(60) }
    }
}

/// The longest that a death is held back by flapping: one that stays is told.
pub const DEATH_HELD_MAX: Duration = Duration::from_secs(10);

/// What to do with a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Tell it.
    Tell,
    /// Tell it, and that the publisher flaps, in these words.
    Begin(String),
    /// Hold it back.
    Hold,
}

/// The last steps of one publisher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flapping {
    steps: VecDeque<Monotonic>,
    flaps: bool,
    last_change: Monotonic,
    held: u64,
}

impl Flapping {
    /// Of one that had flapped when the monitor ended. How often its verdict had changed is not known any more.
    #[must_use]
    pub fn remembered(now: Monotonic) -> Self {
        Self { flaps: true, last_change: now, ..Self::default() }
    }

    /// Its verdict changes.
    pub fn changed(&mut self, limits: FlappingLimits, from: Verdict, to: Verdict, now: Monotonic) -> Turn {
        self.last_change = now;
        if self.flaps {
            self.held += 1;
            return Turn::Hold;
        }
        if limits.changes_max == 0 || from.is_bad() == to.is_bad() {
            return Turn::Tell;
        }
        self.steps.push_back(now);
        while self.steps.front().is_some_and(|first| now.since(*first) >= limits.period) {
            self.steps.pop_front();
        }
        let count = self.steps.len();
        if count <= limits.changes_max as usize {
            return Turn::Tell;
        }
        let within = describe_duration(now.since(self.steps.pop_front().unwrap_or(now)));
        self.steps.clear();
        self.flaps = true;
        Turn::Begin(format!("flapping: {count} changes in {within}"))
    }

    /// Whether it flaps.
    #[must_use]
    pub const fn flaps(&self) -> bool {
        self.flaps
    }

    /// How many changes were held back so far.
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.held
    }

    /// Ends the flapping when the verdict has stood for long enough. Returns for how long, and how many
    /// changes were held back.
    pub fn settle(&mut self, limits: FlappingLimits, verdict: Verdict, now: Monotonic) -> Option<(Duration, u64)> {
        let steady = if verdict == Verdict::Dead { limits.steady.min(DEATH_HELD_MAX) } else { limits.steady };
        let stood = now.since(self.last_change);
        (self.flaps && stood >= steady).then(|| {
            self.flaps = false;
            (stood, std::mem::take(&mut self.held))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::START + Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_stated_once_and_ends_when_it_is_steady() {
        let limits = FlappingLimits::default();
        let mut flapping = Flapping::default();
        let turn = |second: u64, flapping: &mut Flapping| {
            let (from, to) = if second.is_multiple_of(2) {
                (Verdict::Alive, Verdict::Silent)
            } else {
                (Verdict::Silent, Verdict::Alive)
            };
            flapping.changed(limits, from, to, at(second))
        };
        for second in 0..6 {
            assert_eq!(turn(second, &mut flapping), Turn::Tell);
        }
        assert_eq!(turn(6, &mut flapping), Turn::Begin("flapping: 7 changes in 6 s".to_owned()));
        for second in 7..30 {
            assert_eq!(turn(second, &mut flapping), Turn::Hold);
        }
        assert_eq!(flapping.settle(limits, Verdict::Alive, at(88)), None);
        let mut dies = flapping.clone();
        assert_eq!(
            dies.settle(limits, Verdict::Dead, at(39)),
            Some((Duration::from_secs(10), 23)),
            "a death that stays"
        );
        assert_eq!(flapping.settle(limits, Verdict::Alive, at(89)), Some((Duration::from_secs(60), 23)));
        assert_eq!((flapping.flaps(), flapping.held()), (false, 0));
        assert_eq!(turn(90, &mut flapping), Turn::Tell, "it begins anew");
    }

    #[test]
    fn late_and_back_is_no_flapping_and_neither_is_anything_when_it_is_off() {
        let mut flapping = Flapping::default();
        for second in 0..50 {
            let (from, to) = (Verdict::Alive, Verdict::Late);
            assert_eq!(flapping.changed(FlappingLimits::default(), from, to, at(second)), Turn::Tell);
            let off = FlappingLimits { changes_max: 0, ..FlappingLimits::default() };
            assert_eq!(flapping.changed(off, Verdict::Alive, Verdict::Dead, at(second)), Turn::Tell);
        }
    }

    proptest! {
        /// However often it changes: of any period no more is told than the limit, its statement, and
        /// the end of one flapping; and what is held back is the difference.
        #[test]
        fn a_period_has_few_words(gaps in prop::collection::vec(1_u64..40_000, 1..300)) {
            let limits = FlappingLimits { steady: Duration::from_secs(30), ..FlappingLimits::default() };
            let mut flapping = Flapping::default();
            let (mut now, mut bad, mut told) = (0_u64, false, Vec::new());
            for gap in gaps {
                now += gap;
                let instant = Monotonic::START + Duration::from_millis(now);
                let verdict = |bad| if bad { Verdict::Silent } else { Verdict::Alive };
                if flapping.settle(limits, verdict(bad), instant).is_some() {
                    told.push(now);
                }
                if flapping.changed(limits, verdict(bad), verdict(!bad), instant) != Turn::Hold {
                    told.push(now);
                }
                bad = !bad;
            }
            for (index, first) in told.iter().enumerate() {
                let within = told[index..].iter().take_while(|time| **time < first + 60_000).count();
                // Two flappings may share a period: the steps before are forgotten when one begins.
                prop_assert!(within <= 2 * 7 + 2, "{} within a minute", within);
            }
        }
    }
}
