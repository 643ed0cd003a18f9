//! How regularly a publisher is heard, and how long a silence would be surprising.
//!
//! The φ accrual failure detector (Hayashibara, Défago, Yared, Katayama 2004) keeps a window of
//! arrival intervals, takes them for normally distributed, and says of a silence of length t how
//! surprising it is: φ(t) = −log₁₀ P(an interval is longer than t). A threshold for φ is a deadline,
//! so this module turns the formula round: mean + z·deviation, where z belongs to the threshold.
//!
//! In place of the window there are an exponentially weighted mean and variance (Finch 2009,
//! "Incremental calculation of weighted mean and variance", section 9): twelve bytes a publisher, so
//! that a million of them may learn.

use std::time::Duration;

use crate::time::describe_duration;

/// Intervals before which nothing is concluded.
const ARRIVALS_MIN: u32 = 16;
/// How many of the last intervals weigh, about.
const WINDOW: f32 = 128.0;
/// A deviation smaller than this part of the mean is taken for luck.
const DEVIATION_MIN_PART: f32 = 0.1;
/// A deviation smaller than this is taken for luck: what a busy machine's scheduler does to a timer.
const DEVIATION_MIN: Duration = Duration::from_millis(20);

/// A threshold for φ, with the deviations from the mean that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phi {
    thousandths: u32,
    deviations_millionths: u32,
}

impl Default for Phi {
    /// 8: one false alarm in 10⁸ intervals, were they normally distributed.
    fn default() -> Self {
        Self::of(8.0)
    }
}

impl Phi {
    /// The smallest threshold that makes sense: one false alarm in ten intervals.
    pub const MIN: f64 = 1.0;
    /// The largest one: beyond it only the deviation's error grows.
    pub const MAX: f64 = 30.0;

    /// A threshold between [`Phi::MIN`] and [`Phi::MAX`]; none outside.
    #[must_use]
    pub fn new(phi: f64) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&phi).then(|| Self::of(phi))
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 30, scaled")]
    fn of(phi: f64) -> Self {
        Self {
            thousandths: (phi * 1e3).round() as u32,
            deviations_millionths: (deviations_of(phi) * 1e6).round() as u32,
        }
    }

    /// The threshold.
    #[must_use]
    pub fn value(self) -> f64 {
        f64::from(self.thousandths) / 1e3
    }

    /// How many standard deviations above the mean it is reached.
    #[must_use]
    pub fn deviations(self) -> f64 {
        f64::from(self.deviations_millionths) / 1e6
    }
}

impl std::fmt::Display for Phi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value().fmt(f)
    }
}

/// The z with −log₁₀ Q(z) = φ, where Q is the upper tail of the standard normal distribution.
fn deviations_of(phi: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 16.0_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if phi_of(middle) < phi { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// −log₁₀ Q(z) by Laplace's continued fraction for Mills' ratio
/// (Abramowitz and Stegun 26.2.14); exact to many digits from z = 1 up.
fn phi_of(z: f64) -> f64 {
    let mut fraction = z;
    for level in (1..200_u32).rev() {
        fraction = z + f64::from(level) / fraction.max(f64::MIN_POSITIVE);
    }
    let log_density = -0.5 * z * z - 0.5 * (2.0 * std::f64::consts::PI).ln();
    (fraction.max(f64::MIN_POSITIVE).ln() - log_density) / std::f64::consts::LN_10
}

/// What was learned from the arrivals of one publisher.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Arrivals {
    mean_seconds: f32,
    variance: f32,
    count: u32,
}

impl Arrivals {
    /// It was heard this long after the time before.
    pub fn heard_after(&mut self, interval: Duration) {
        self.count = self.count.saturating_add(1);
        let weight = (1.0 / self.count as f32).max(1.0 / WINDOW);
        let difference = interval.as_secs_f32() - self.mean_seconds;
        let step = weight * difference;
        self.mean_seconds += step;
        self.variance = (1.0 - weight) * (self.variance + difference * step);
    }

    /// How many intervals were learned.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The mean interval.
    #[must_use]
    pub fn mean(self) -> Duration {
        Duration::try_from_secs_f32(self.mean_seconds).unwrap_or_default()
    }

    /// The standard deviation that is reckoned with: what was seen, but never less than luck allows.
    #[must_use]
    pub fn deviation(self) -> Duration {
        let least = (self.mean_seconds * DEVIATION_MIN_PART).max(DEVIATION_MIN.as_secs_f32());
        Duration::try_from_secs_f32(self.variance.max(0.0).sqrt().max(least)).unwrap_or_default()
    }

    /// The silence at which φ reaches the threshold; none before enough is known.
    #[must_use]
    pub fn deadline(self, threshold: Phi) -> Option<Duration> {
        (self.count >= ARRIVALS_MIN).then(|| {
            let deviations = self.deviation().as_secs_f64() * threshold.deviations();
            self.mean() + Duration::try_from_secs_f64(deviations).unwrap_or(Duration::MAX / 2)
        })
    }

    /// In words: `every 1 s ± 120 ms (340 learned)`.
    #[must_use]
    pub fn describe(self) -> String {
        let (mean, deviation) = (describe_duration(self.mean()), describe_duration(self.deviation()));
        format!("every {mean} ± {deviation} ({} learned)", self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_threshold_has_the_deviations_of_the_tables() {
        // Upper tail of the standard normal distribution, from printed tables.
        for (phi, deviations) in [(1.0, 1.281_55), (2.0, 2.326_35), (3.0, 3.090_23), (8.0, 5.612_00), (12.0, 7.034_48)]
        {
            let found = Phi::new(phi).unwrap().deviations();
            assert!((found - deviations).abs() < 1e-4, "φ {phi}: {found} instead of {deviations}");
        }
        for wrong in [0.9, 31.0, f64::NAN, -1.0] {
            assert_eq!(Phi::new(wrong), None, "{wrong}");
        }
        assert_eq!(size_of::<Arrivals>(), 12);
    }

    #[test]
    fn nothing_is_concluded_from_little() {
        let mut arrivals = Arrivals::default();
        for _ in 0..ARRIVALS_MIN {
            assert_eq!(arrivals.deadline(Phi::default()), None);
            arrivals.heard_after(Duration::from_secs(1));
        }
        let deadline = arrivals.deadline(Phi::default()).unwrap();
        assert!((1.5..1.6).contains(&deadline.as_secs_f64()), "1 s and 5.6 times a tenth of it: {deadline:?}");
        assert_eq!(arrivals.describe(), "every 1 s ± 100 ms (16 learned)");
    }

    #[test]
    fn it_follows_a_publisher_that_slows_down() {
        let mut arrivals = Arrivals::default();
        for _ in 0..1_000 {
            arrivals.heard_after(Duration::from_secs(1));
        }
        for _ in 0..1_000 {
            arrivals.heard_after(Duration::from_secs(10));
        }
        let mean = arrivals.mean().as_secs_f64();
        assert!((9.9..10.1).contains(&mean), "{mean}");
    }

    proptest! {
        /// Before the window is full it is the plain mean and variance; and a higher threshold never
        /// gives a shorter deadline.
        #[test]
        fn the_moments_are_those_of_the_sample(seconds in prop::collection::vec(0.05_f64..20.0, 16..100)) {
            let mut arrivals = Arrivals::default();
            for interval in &seconds {
                arrivals.heard_after(Duration::from_secs_f64(*interval));
            }
            let count = seconds.len() as f64;
            let mean = seconds.iter().sum::<f64>() / count;
            let variance = seconds.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            prop_assert!((arrivals.mean().as_secs_f64() - mean).abs() < 1e-3);
            let deviation = variance.sqrt().max(mean * 0.1).max(0.02);
            prop_assert!((arrivals.deviation().as_secs_f64() - deviation).abs() < 1e-2);
            let deadline = |phi| arrivals.deadline(Phi::new(phi).unwrap()).unwrap();
            prop_assert!(deadline(4.0) < deadline(8.0) && deadline(8.0) < deadline(12.0));
            prop_assert!(deadline(1.0) > arrivals.mean());
        }
    }
}
