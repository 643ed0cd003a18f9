//! When to start again what has ended, how long to wait first, and when to give up: shared by the
//! supervisor of our own actors and the one of child programs.
//!
//! The model is OTP's supervisor (at most N restarts in a period,
//! <https://www.erlang.org/doc/system/sup_princ.html#maximum-restart-intensity>) with a backoff that
//! doubles. The period counts the time that the thing *ran*, not the time that we waited to start it
//! again: so something that ends at once is always given up, however long the backoff has grown.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Monotonic;

/// Which ends ask for a new start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// None: it ran once.
    Never,
    /// Those that were not a success.
    #[default]
    OnFailure,
    /// All of them.
    Always,
}

impl RestartPolicy {
    /// Whether an end asks for a new start.
    #[must_use]
    pub const fn asks_for_restart(self, ended_well: bool) -> bool {
        match self {
            Self::Never => false,
            Self::OnFailure => !ended_well,
            Self::Always => true,
        }
    }
}

/// How often, and after which wait, to start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartLimits {
    /// Most restarts within `period`; one more end gives up.
    pub restarts_max: usize,
    /// A running time; ends that lie longer back are forgiven, and the backoff starts again from the least.
    pub period: Duration,
    /// Wait before the first restart; doubles with each further one.
    pub backoff_min: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
}

impl Default for RestartLimits {
    /// At most 10 restarts in a minute of running, waits of 100 ms to 10 s.
    fn default() -> Self {
        Self {
            restarts_max: 10,
            period: Duration::from_secs(60),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
        }
    }
}

/// What to do after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start it again after this wait.
    After(Duration),
    /// It ended too often: leave it, and say so.
    GiveUp,
}

/// The account of one thing's ends.
#[derive(Debug, Clone)]
pub struct RestartIntensity {
    limits: RestartLimits,
    /// Ends that count, as running time in all at each; at most `restarts_max`.
    ends: VecDeque<Duration>,
    /// Running time in all, over every life.
    ran: Duration,
    /// When the present life started; none before the first end.
    started: Option<Monotonic>,
}

impl RestartIntensity {
    /// An account without any end yet.
    #[must_use]
    pub const fn new(limits: RestartLimits) -> Self {
        Self { limits, ends: VecDeque::new(), ran: Duration::ZERO, started: None }
    }

    /// The limits that it keeps to.
    #[must_use]
    pub const fn limits(&self) -> RestartLimits {
        self.limits
    }

    /// It ended at `now`. The answer assumes that it will be started when the wait is over.
    pub fn ended(&mut self, now: Monotonic) -> RestartDecision {
        // Before the first end there is nothing to forgive, so how long the first life was is of no matter.
        if let Some(started) = self.started {
            self.ran += now.since(started);
        }
        while self.ends.front().is_some_and(|end| self.ran.saturating_sub(*end) >= self.limits.period) {
            self.ends.pop_front();
        }
        if self.ends.len() >= self.limits.restarts_max {
            return RestartDecision::GiveUp;
        }
        let doublings = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        let wait = self.limits.backoff_min.saturating_mul(factor).min(self.limits.backoff_max);
        self.ends.push_back(self.ran);
        self.started = Some(now + wait);
        RestartDecision::After(wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> RestartLimits {
        RestartLimits {
            restarts_max: 4,
            period: Duration::from_secs(60),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(5),
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_policy_says_which_ends_count() {
        assert!(!RestartPolicy::Never.asks_for_restart(false));
        assert!(RestartPolicy::OnFailure.asks_for_restart(false) && !RestartPolicy::OnFailure.asks_for_restart(true));
        assert!(RestartPolicy::Always.asks_for_restart(true));
    }

    #[test]
    fn what_ends_at_once_is_given_up_after_waits_that_double() {
        let mut intensity = RestartIntensity::new(limits());
        let mut now = Monotonic::START;
        for wait in [1, 2, 4, 5] {
            assert_eq!(intensity.ended(now), RestartDecision::After(seconds(wait)));
            now = now + seconds(wait);
        }
        assert_eq!(intensity.ended(now), RestartDecision::GiveUp);
    }

    #[test]
    fn a_long_life_forgives_earlier_ends() {
        let mut intensity = RestartIntensity::new(limits());
        let mut now = Monotonic::START;
        for _ in 0..50 {
            let RestartDecision::After(wait) = intensity.ended(now) else { panic!("gave up on a long life") };
            assert_eq!(wait, seconds(1));
            now = now + wait + seconds(60);
        }
    }

    #[test]
    fn time_spent_waiting_forgives_nothing() {
        let slow = RestartLimits { period: seconds(2), backoff_max: seconds(600), ..limits() };
        let mut intensity = RestartIntensity::new(slow);
        let mut now = Monotonic::START;
        let mut restarts = 0;
        while let RestartDecision::After(wait) = intensity.ended(now) {
            now = now + wait;
            restarts += 1;
            assert!(restarts <= 4);
        }
        assert_eq!(restarts, 4);
    }

    proptest! {
        /// However long its lives are, nothing restarts more often than allowed within any period
        /// of running, and no wait leaves its bounds.
        #[test]
        fn the_intensity_holds(lives in prop::collection::vec(0_u64..40_000, 1..200)) {
            let mut intensity = RestartIntensity::new(limits());
            let (mut now, mut ran, mut restarts) = (Monotonic::START, Duration::ZERO, Vec::new());
            for life in lives {
                match intensity.ended(now) {
                    RestartDecision::GiveUp => break,
                    RestartDecision::After(wait) => {
                        prop_assert!(wait >= seconds(1) && wait <= seconds(5));
                        restarts.push(ran);
                        let recent = restarts.iter().filter(|at| ran - **at < seconds(60)).count();
                        prop_assert!(recent <= 4);
                        now = now + wait + Duration::from_millis(life);
                        ran += Duration::from_millis(life);
                    }
                }
            }
        }
    }
}
