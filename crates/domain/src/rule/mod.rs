//! An alarm on readings that heartwatch raises itself, without a Grafana: which values, a window of them made
//! into one number, a limit for it, and how long it must be breached. Pure: every function takes `now`.
//!
//! An alarm is raised when its limit was breached at every look for as long as `lasting`, and cleared when the
//! number is back beyond the limit by `hysteresis`: a number that trembles around the limit raises it once.

mod window;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::window::{Reduction, Window, WindowChange};
use crate::time::{Monotonic, describe_duration};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Somebody should look at it.
    Warning,
    /// Somebody must look at it now.
    Critical,
}

impl Severity {
    /// Its name in the configuration and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The level of a verdict (see `Verdict::level`) that is as bad, for targets that want only bad news.
    #[must_use]
    pub const fn level(self) -> i64 {
        match self {
            Self::Warning => 2,
            Self::Critical => 5,
        }
    }
}

/// What must not be so of the number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Larger than this.
    Above(f64),
    /// Smaller than this.
    Below(f64),
    /// Smaller than the first or larger than the second.
    Outside(f64, f64),
    /// Neither smaller than the first nor larger than the second.
    Within(f64, f64),
}

impl Limit {
    /// Whether the number breaches it.
    #[must_use]
    pub fn is_breached_by(self, number: f64) -> bool {
        self.is_breached_within(number, 0.0)
    }

    /// Whether the number breaches it, or is within `hysteresis` of doing so.
    fn is_breached_within(self, number: f64, hysteresis: f64) -> bool {
        match self {
            Self::Above(limit) => number > limit - hysteresis,
            Self::Below(limit) => number < limit + hysteresis,
            Self::Outside(low, high) => number < low + hysteresis || number > high - hysteresis,
            Self::Within(low, high) => number >= low - hysteresis && number <= high + hysteresis,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Above(limit) => write!(f, "above {limit}"),
            Self::Below(limit) => write!(f, "below {limit}"),
            Self::Outside(low, high) => write!(f, "outside {low} to {high}"),
            Self::Within(low, high) if low == high => write!(f, "at {low}"),
            Self::Within(low, high) => write!(f, "within {low} to {high}"),
        }
    }
}

/// What a look without a number does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutData {
    /// It is as if the limit were kept: the silence of a publisher is its verdict's business.
    Quiet,
    /// Everything stays as it is.
    Keep,
    /// It is as if the limit were breached.
    Alarm,
}

impl WithoutData {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "ok",
            Self::Keep => "keep",
            Self::Alarm => "alarm",
        }
    }
}

/// When an alarm is raised and cleared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    /// What must not be so; none: only the absence of data counts.
    pub limit: Option<Limit>,
    /// How far back beyond the limit the number must be for the alarm to be cleared; 0 or more.
    pub hysteresis: f64,
    /// How long the limit must be breached without a look between that finds it kept.
    pub lasting: Duration,
    /// What a look without a number does.
    pub without_data: WithoutData,
}

/// A text in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TextPattern(String);

impl TextPattern {
    /// Any text is one.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches the whole text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        super::pattern::matches(&self.0, text)
    }
}

/// What must be so of a tag; a tag that a row does not have is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagCondition {
    /// The tag's name.
    pub name: String,
    /// What its value must be like.
    pub value: TextPattern,
    /// Whether it must match; otherwise it must not.
    pub is: bool,
}

impl TagCondition {
    /// Reads `name=value` or `name!=value`; the value may have `*`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = match text.split_once("!=") {
            Some((name, value)) => Some((name, value, false)),
            None => text.split_once('=').map(|(name, value)| (name, value, true)),
        };
        match parts {
            Some((name, value, is)) if !name.trim().is_empty() => {
                Ok(Self { name: name.trim().to_owned(), value: TextPattern::new(value.trim()), is })
            }
            _ => Err(format!("'{text}' is no condition: write 'tag=value' or 'tag!=value', like 'publisher=sensor-*'")),
        }
    }

    /// Whether the tag's value is as wanted.
    #[must_use]
    pub fn holds(&self, value: &str) -> bool {
        self.value.matches(value) == self.is
    }
}

impl fmt::Display for TagCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.name, if self.is { "=" } else { "!=" }, self.value.as_str())
    }
}

/// An alarm on readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, distinct.
    pub name: String,
    /// Of which measurements.
    pub measurement: TextPattern,
    /// Which field.
    pub field: String,
    /// Of which rows.
    pub tags: Vec<TagCondition>,
    /// Rows that are equal in these tags, and in the measurement, make an alarm of their own.
    pub by: Vec<String>,
    /// How far back the values are taken.
    pub window: Duration,
    /// How they are made into a number.
    pub reduction: Reduction,
    /// With fewer values there is no number.
    pub samples_min: usize,
    /// When it is raised and cleared.
    pub condition: Condition,
    /// How bad it is.
    pub severity: Severity,
    /// What a person is told, above the number.
    pub summary: String,
    /// Where a person looks next, like a panel of a dashboard; may be empty.
    pub link: String,
}

impl Rule {
    /// Whether a row's tags are as wanted.
    #[must_use]
    pub fn wants<'a>(&self, tag: impl Fn(&str) -> &'a str) -> bool {
        self.tags.iter().all(|condition| condition.holds(tag(&condition.name)))
    }

    /// What it looks at and when it is raised, in words: `mean of sensor.cpu_load value over 1 min above 7 for 30 s`.
    #[must_use]
    pub fn describe(&self) -> String {
        let (window, condition) = (describe_duration(self.window), &self.condition);
        let limit = condition.limit.map_or_else(|| "without data".to_owned(), |limit| limit.to_string());
        let mut text =
            format!("{} of {} {} over {window} {limit}", self.reduction, self.measurement.as_str(), self.field);
        if !condition.lasting.is_zero() {
            text.push_str(&format!(" for {}", describe_duration(condition.lasting)));
        }
        if condition.limit.is_some() && condition.without_data == WithoutData::Alarm {
            text.push_str(" or without data");
        }
        text
    }

    /// What a look found, in words: `mean of the last 1 min is 8.2, above 7`.
    #[must_use]
    pub fn finding(&self, number: Option<f64>) -> String {
        let window = describe_duration(self.window);
        match (number, self.condition.limit) {
            (Some(number), Some(limit)) => {
                let how = if limit.is_breached_by(number) { "" } else { "no longer " };
                format!("{} of the last {window} is {}, {how}{limit}", self.reduction, rounded(number))
            }
            (Some(_), None) => format!("there are values in the last {window}"),
            (None, _) => format!("not enough values in the last {window}"),
        }
    }
}

/// A number as a person reads it.
fn rounded(number: f64) -> String {
    if number.abs() >= 1_000.0 || number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// How an alarm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alarm {
    /// The limit is kept.
    #[default]
    Quiet,
    /// It is breached, not yet for long enough.
    Pending {
        /// The first look that found it so.
        since: Monotonic,
    },
    /// Raised.
    Raised,
}

/// What has become of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is raised.
    Raised {
        /// The limit has been breached for so long.
        after: Duration,
    },
    /// It is over.
    Cleared,
}

impl Alarm {
    /// Looks at the number of this moment; none when there are not enough values.
    pub fn look(&mut self, condition: &Condition, number: Option<f64>, now: Monotonic) -> Option<Turn> {
        let hysteresis = if *self == Self::Raised { condition.hysteresis } else { 0.0 };
        let is_breached = match (number, condition.without_data) {
            (Some(number), _) => condition.limit.is_some_and(|limit| limit.is_breached_within(number, hysteresis)),
            (None, WithoutData::Keep) => return None,
            (None, WithoutData::Quiet) => false,
            (None, WithoutData::Alarm) => true,
        };
        match (*self, is_breached) {
            (Self::Quiet, false) | (Self::Raised, true) => None,
            (Self::Pending { .. }, false) => {
                *self = Self::Quiet;
                None
            }
            (Self::Raised, false) => {
                *self = Self::Quiet;
                Some(Turn::Cleared)
            }
            (Self::Quiet, true) => self.breached(condition, now, now),
            (Self::Pending { since }, true) => self.breached(condition, since, now),
        }
    }

    fn breached(&mut self, condition: &Condition, since: Monotonic, now: Monotonic) -> Option<Turn> {
        let after = now.since(since);
        if after < condition.lasting {
            *self = Self::Pending { since };
            return None;
        }
        *self = Self::Raised;
        Some(Turn::Raised { after })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LASTING: Duration = Duration::from_secs(30);
    const CONDITION: Condition = Condition {
        limit: Some(Limit::Above(7.0)),
        hysteresis: 1.0,
        lasting: LASTING,
        without_data: WithoutData::Quiet,
    };

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_nanos(seconds * 1_000_000_000)
    }

    /// The turns of looks a second apart, with their second.
    fn turns(condition: &Condition, numbers: &[Option<f64>]) -> Vec<(u64, Turn)> {
        let mut alarm = Alarm::default();
        let looks = (0..).zip(numbers);
        looks.filter_map(|(second, number)| Some((second, alarm.look(condition, *number, at(second))?))).collect()
    }

    #[test]
    fn it_is_raised_after_it_has_lasted_and_cleared_beyond_the_hysteresis() {
        let mut numbers = vec![Some(6.0); 10];
        numbers.extend([Some(8.0); 40]); // raised at 40
        numbers.extend([Some(6.5); 40]); // below the limit, within the hysteresis
        numbers.push(Some(6.0)); // 90: on its edge
        let raised = (40, Turn::Raised { after: LASTING });
        assert_eq!(turns(&CONDITION, &numbers), [raised, (90, Turn::Cleared)]);
        let interrupted: Vec<_> = (0..200).map(|second| Some(if second % 30 == 0 { 6.9 } else { 8.0 })).collect();
        assert_eq!(turns(&CONDITION, &interrupted), []);
        let at_once = Condition { lasting: Duration::ZERO, ..CONDITION };
        assert_eq!(turns(&at_once, &[Some(7.0), Some(7.1)]), [(1, Turn::Raised { after: Duration::ZERO })]);
    }

    #[test]
    fn without_data_it_does_what_was_said() {
        let mut numbers = vec![Some(8.0); 31];
        numbers.extend([None; 5]);
        let raised = (30, Turn::Raised { after: LASTING });
        assert_eq!(turns(&CONDITION, &numbers), [raised, (31, Turn::Cleared)]);
        let keep = Condition { without_data: WithoutData::Keep, ..CONDITION };
        assert_eq!(turns(&keep, &numbers), [raised]);
        let alarm = Condition { without_data: WithoutData::Alarm, ..CONDITION };
        assert_eq!(turns(&alarm, &[None; 40]), [raised]);
        let only_silence = Condition { limit: None, ..alarm };
        let mut back = vec![None; 31];
        back.push(Some(99.0));
        assert_eq!(turns(&only_silence, &back), [raised, (31, Turn::Cleared)]);
    }

    #[test]
    fn limits_have_their_edges_on_the_good_side() {
        let outside = Limit::Outside(1.0, 3.0);
        assert!(!outside.is_breached_by(1.0) && !outside.is_breached_by(3.0));
        assert!(outside.is_breached_by(0.9) && outside.is_breached_by(3.1));
        assert!(!Limit::Above(7.0).is_breached_by(7.0) && !Limit::Below(5.0).is_breached_by(5.0));
        let at = Limit::Within(6.0, 6.0);
        assert!(at.is_breached_by(6.0) && !at.is_breached_by(5.0) && !at.is_breached_by(7.0));
        assert!(Severity::Critical > Severity::Warning);
    }

    #[test]
    fn tags_and_measurements_match_by_pattern() {
        let errors = TextPattern::new("sensor.error.*");
        assert!(errors.matches("sensor.error.load") && !errors.matches("sensor.load"));
        assert!(TextPattern::new("*").matches("") && TextPattern::new("a*b*c").matches("a-b-c"));
        assert!(!TextPattern::new("a*b*c").matches("a-c") && !TextPattern::new("a").matches("ab"));
        let valid = TagCondition::parse("is_valid_preprocess != False").unwrap();
        assert!(valid.holds("True") && valid.holds("") && !valid.holds("False"));
        assert!(TagCondition::parse("publisher=sensor-*").unwrap().holds("sensor-1"));
        assert!(TagCondition::parse("publisher").is_err() && TagCondition::parse("=x").is_err());
    }

    fn conditions() -> impl Strategy<Value = Condition> {
        let limits = prop_oneof![
            (0.0_f64..10.0).prop_map(Limit::Above),
            (0.0_f64..10.0).prop_map(Limit::Below),
            (0.0_f64..4.0, 6.0_f64..10.0).prop_map(|(low, high)| Limit::Outside(low, high)),
            (3.0_f64..5.0, 5.0_f64..7.0).prop_map(|(low, high)| Limit::Within(low, high)),
        ];
        let without = prop_oneof![Just(WithoutData::Quiet), Just(WithoutData::Keep), Just(WithoutData::Alarm)];
        (limits, 0.0_f64..1.0, 0_u64..10, without).prop_map(|(limit, hysteresis, seconds, without_data)| Condition {
            limit: Some(limit),
            hysteresis,
            lasting: Duration::from_secs(seconds),
            without_data,
        })
    }

    proptest! {
        /// Raised and cleared take turns; it is raised only after a breach at every look for long enough,
        /// and cleared only by a number beyond the hysteresis, or by the absence of one where that says so.
        #[test]
        fn every_turn_has_its_reason(
            condition in conditions(),
            numbers in prop::collection::vec(prop::option::weighted(0.9, 0.0_f64..10.0), 0..120),
        ) {
            let mut raised = false;
            for (second, turn) in turns(&condition, &numbers) {
                let number = numbers[usize::try_from(second).unwrap()];
                match turn {
                    Turn::Raised { after } => {
                        prop_assert!(!raised && after >= condition.lasting);
                        let first = usize::try_from(second - after.as_secs()).unwrap();
                        for look in &numbers[first..=usize::try_from(second).unwrap()] {
                            let breached = look.map_or(condition.without_data != WithoutData::Quiet, |number| {
                                condition.limit.unwrap().is_breached_by(number)
                            });
                            prop_assert!(breached, "{look:?}");
                        }
                    }
                    Turn::Cleared => {
                        prop_assert!(raised);
                        let back = number.map_or(condition.without_data == WithoutData::Quiet, |number| {
                            !condition.limit.unwrap().is_breached_within(number, condition.hysteresis)
                        });
                        prop_assert!(back, "{number:?}");
                    }
                }
                raised = matches!(turn, Turn::Raised { .. });
            }
        }

        /// Numbers that stay within the hysteresis of the limit turn an alarm once at most.
        #[test]
        fn trembling_around_the_limit_is_told_once(offsets in prop::collection::vec(-0.99_f64..5.0, 0..200)) {
            let numbers: Vec<_> = offsets.iter().map(|offset| Some(7.0 + offset)).collect();
            prop_assert!(turns(&CONDITION, &numbers).len() <= 1);
        }
    }
}
