//! The values of the last while, by their own time, and the one number that is made of them.
//!
//! A row that comes twice is one value, and rows that come out of order are put in order: the numbers are
//! those that a query of the database over the same span gives.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::time::Timestamp;

/// The number that a window of values is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// The newest value.
    Last,
    /// The arithmetic mean.
    Mean,
    /// The lowest value.
    Min,
    /// The highest value.
    Max,
    /// All of them added.
    Sum,
    /// How many values there are; 0 without any.
    Count,
    /// The highest less the lowest.
    Spread,
    /// The standard deviation of a sample, as `stddev` of InfluxQL; it needs two values.
    Stddev,
    /// The third-highest value: a limit above it is broken by three values at least.
    ThirdHighest,
    /// How many values are there again: the count less the count of distinct ones.
    Repeats,
    /// The mean of the steps from each value to the next that do not go down; it needs one such step.
    MeanStep,
    /// The largest step down from a value to the next; 0 without any. It needs two values.
    Decrease,
}

impl Reduction {
    /// All of them by their names in the configuration.
    pub const NAMES: [(&'static str, Self); 12] = [
        ("last", Self::Last),
        ("mean", Self::Mean),
        ("min", Self::Min),
        ("max", Self::Max),
        ("sum", Self::Sum),
        ("count", Self::Count),
        ("spread", Self::Spread),
        ("stddev", Self::Stddev),
        ("third-highest", Self::ThirdHighest),
        ("repeats", Self::Repeats),
        ("mean-step", Self::MeanStep),
        ("decrease", Self::Decrease),
    ];
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, reduction)| reduction == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowChange {
    /// It is in the window, and was not before.
    New,
    /// Its place was taken by the same row before: the value is the later one.
    Again,
    /// It is older than the window is long, further ahead than that, or no number.
    Outside,
    /// It is in the window, and the oldest value had to go for it.
    InsteadOfOldest,
}

/// The values of the last while. A value is known by its time and its series (any number that tells the series
/// of one window apart).
#[derive(Debug, Clone)]
pub struct Window {
    length: Duration,
    values_max: usize,
    values: BTreeMap<(i64, u64), f64>,
}

impl Window {
    /// An empty window over `length`, with at most so many values: the oldest are given up first.
    #[must_use]
    pub const fn new(length: Duration, values_max: usize) -> Self {
        Self { length, values_max, values: BTreeMap::new() }
    }

    /// Takes a value. A clock may be ahead of ours: a value that is not of the past yet counts when it is.
    pub fn take(&mut self, at: Timestamp, series: u64, value: f64, now: Timestamp) -> WindowChange {
        let (from, ahead) = (now.earlier_by(self.length), now + self.length);
        if !value.is_finite() || at <= from || at > ahead {
            return WindowChange::Outside;
        }
        let full = self.values.len() >= self.values_max.max(1);
        match self.values.insert((at.as_nanos(), series), value) {
            Some(_) => WindowChange::Again,
            None if full => {
                self.values.pop_first();
                WindowChange::InsteadOfOldest
            }
            None => WindowChange::New,
        }
    }

    /// Forgets what is too old. Returns how many values that were.
    pub fn forget(&mut self, now: Timestamp) -> usize {
        let from = now.earlier_by(self.length).as_nanos();
        let young = self.values.split_off(&(from.saturating_add(1), 0));
        std::mem::replace(&mut self.values, young).len()
    }

    /// How many values it holds, those ahead of the clock among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The number of the values that are not older than the window is long; none of fewer than `samples_min`.
    #[must_use]
    pub fn number(&self, reduction: Reduction, samples_min: usize, now: Timestamp) -> Option<f64> {
        let from = now.earlier_by(self.length).as_nanos().saturating_add(1);
        let to = now.as_nanos();
        if from > to {
            return None;
        }
        let values: Vec<f64> = self.values.range((from, 0)..=(to, u64::MAX)).map(|(_, value)| *value).collect();
        if values.len() < samples_min {
            return None;
        }
        reduce(reduction, &values)
    }
}

fn reduce(reduction: Reduction, values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let lowest = || values.iter().copied().reduce(f64::min);
    let highest = || values.iter().copied().reduce(f64::max);
    let sum = || values.iter().sum::<f64>();
    let steps = || values.iter().zip(values.iter().skip(1)).map(|(before, after)| after - before);
    let sorted = || {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted
    };
    match reduction {
        Reduction::Count => Some(count),
        Reduction::Last => values.last().copied(),
        Reduction::Min => lowest(),
        Reduction::Max => highest(),
        Reduction::Spread => Some(highest()? - lowest()?),
        Reduction::Sum => (!values.is_empty()).then(sum),
        Reduction::Mean => (!values.is_empty()).then(|| sum() / count),
        Reduction::Stddev => (values.len() > 1).then(|| {
            let mean = sum() / count;
            (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
        }),
        Reduction::ThirdHighest => sorted().iter().rev().nth(2).copied(),
        Reduction::Repeats => (!values.is_empty()).then(|| {
            let mut distinct = sorted();
            distinct.dedup();
            count - distinct.len() as f64
        }),
        Reduction::MeanStep => {
            let up: Vec<f64> = steps().filter(|step| *step >= 0.0).collect();
            (!up.is_empty()).then(|| up.iter().sum::<f64>() / up.len() as f64)
        }
        Reduction::Decrease => steps().map(|step| (-step).max(0.0)).reduce(f64::max),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn number(reduction: Reduction, values: &[f64]) -> Option<f64> {
        let mut window = Window::new(Duration::from_secs(60), 1_000);
        for (second, value) in (1..).zip(values) {
            assert_eq!(window.take(at(second), 7, *value, at(50)), WindowChange::New);
        }
        window.number(reduction, 0, at(50))
    }

    #[test]
    fn every_reduction_has_its_number() {
        let values = [4.0, 9.0, 1.0, 4.0, 6.0, 4.0];
        let expected = [
            ("last", 4.0),
            ("mean", 28.0 / 6.0),
            ("min", 1.0),
            ("max", 9.0),
            ("sum", 28.0),
            ("count", 6.0),
            ("spread", 8.0),
            ("third-highest", 4.0),
            ("repeats", 2.0),
            ("mean-step", (5.0 + 3.0 + 2.0) / 3.0),
            ("decrease", 8.0),
        ];
        for (name, expected) in expected {
            let (_, reduction) = Reduction::NAMES.iter().find(|(known, _)| *known == name).unwrap();
            assert_eq!(number(*reduction, &values), Some(expected), "{name}");
            assert_eq!(reduction.to_string(), name);
        }
        let deviation = number(Reduction::Stddev, &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert!((deviation - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12, "{deviation}");
        assert_eq!(number(Reduction::Decrease, &[1.0, 2.0, 2.0]), Some(0.0));
        assert_eq!(number(Reduction::ThirdHighest, &[1.0, 2.0]), None);
        assert_eq!(number(Reduction::MeanStep, &[2.0, 1.0]), None);
        for (name, reduction) in Reduction::NAMES {
            assert_eq!(number(reduction, &[]).is_some(), name == "count", "{name}");
        }
    }

    #[test]
    fn values_are_in_the_order_of_their_times_and_one_row_is_one_value() {
        let mut window = Window::new(Duration::from_secs(60), 1_000);
        let mut take = |second, series, value| window.take(at(second), series, value, at(50));
        assert_eq!([take(3, 1, 3.0), take(1, 1, 1.0), take(2, 1, 2.0)], [WindowChange::New; 3]);
        assert_eq!((take(3, 1, 4.0), take(3, 2, 5.0)), (WindowChange::Again, WindowChange::New));
        assert_eq!([take(-10, 1, 0.0), take(111, 1, 0.0), take(9, 1, f64::NAN)], [WindowChange::Outside; 3]);
        assert_eq!(take(100, 1, 100.0), WindowChange::New, "of a clock that is ahead");
        assert_eq!(window.number(Reduction::Decrease, 0, at(50)), Some(0.0));
        assert_eq!(window.number(Reduction::Max, 0, at(50)), Some(5.0));
        assert_eq!(window.number(Reduction::Max, 0, at(101)), Some(100.0));
        assert_eq!((window.forget(at(101)), window.len()), (4, 1));
        assert_eq!((window.number(Reduction::Last, 2, at(101)), window.is_empty()), (None, false));
    }

    proptest! {
        /// The window's numbers are those of the values that are young enough, and of no others.
        #[test]
        fn a_window_knows_the_young_values_and_no_others(
            steps in prop::collection::vec((0_i64..20, -100.0_f64..100.0), 1..60),
            length in 1_i64..60,
            wait in 0_i64..80,
        ) {
            let mut window = Window::new(Duration::from_secs(length.unsigned_abs()), 1_000);
            let (mut second, mut all) = (0, Vec::new());
            for (number, (step, value)) in (0_u64..).zip(steps) {
                second += step;
                prop_assert_eq!(window.take(at(second), number, value, at(second)), WindowChange::New);
                prop_assert_eq!(window.take(at(second), number, f64::NAN, at(second)), WindowChange::Outside);
                all.push((second, value));
            }
            let now = second + wait;
            let young: Vec<f64> = all.iter().filter(|(at, _)| now - at < length).map(|(_, value)| *value).collect();
            for forgotten in [false, true] {
                if forgotten {
                    prop_assert_eq!(window.forget(at(now)), all.len() - young.len());
                }
                let number = |reduction| window.number(reduction, 0, at(now));
                prop_assert_eq!(number(Reduction::Count), Some(young.len() as f64));
                prop_assert_eq!(number(Reduction::Last), young.last().copied());
                prop_assert_eq!(number(Reduction::Min), young.iter().copied().reduce(f64::min));
                prop_assert_eq!(number(Reduction::Max), young.iter().copied().reduce(f64::max));
                prop_assert_eq!(number(Reduction::Mean).is_some(), !young.is_empty());
                prop_assert_eq!(window.number(Reduction::Mean, young.len() + 1, at(now)), None);
                if let (Some(spread), Some(deviation)) = (number(Reduction::Spread), number(Reduction::Stddev)) {
                    prop_assert!(deviation <= spread + 1e-9, "{} {}", deviation, spread);
                }
            }
        }

        /// It never holds more than it may, and keeps the newest.
        #[test]
        fn a_window_has_its_limit(values in 1_i64..50, values_max in 1_usize..20) {
            let mut window = Window::new(Duration::from_secs(60), values_max);
            let taken: Vec<_> = (0..values).map(|value| window.take(at(value), 0, value as f64, at(values))).collect();
            let given_up = taken.iter().filter(|taken| **taken == WindowChange::InsteadOfOldest).count();
            prop_assert!(window.len() <= values_max);
            prop_assert_eq!(window.len() + given_up, usize::try_from(values).unwrap());
            prop_assert_eq!(window.number(Reduction::Last, 0, at(values)), Some((values - 1) as f64));
        }
    }
}
