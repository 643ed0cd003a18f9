//! Which deadline a publisher has, and how much lateness is still ordinary.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::arrivals::{Arrivals, Phi};
use crate::publisher::PublisherId;
use crate::time::{Monotonic, Span, describe_duration};

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 256;

/// How many of the intervals that a publisher promises its deadline has at least: a shorter one would be over between two of
/// its signs of life.
pub const PROMISES_MIN: u32 = 2;
/// The longest interval that counts as a promise: whoever promises less often than once a day is judged as if by the day.
pub const PROMISE_MAX: Duration = Duration::from_hours(24);
/// How often within its deadline a publisher sends a heartbeat at least, once the monitor has told it.
pub const BEATS_PER_DEADLINE: u32 = 5;

/// The shortest deadline that somebody with this promise can have.
#[must_use]
pub fn promise_floor(interval: Option<Duration>) -> Duration {
    interval.map_or(Duration::ZERO, |interval| interval.min(PROMISE_MAX) * PROMISES_MIN)
}

/// The product's default deadline.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(50);

/// A pattern of publisher ids in which `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdPattern(String);

impl From<IdPattern> for String {
    fn from(pattern: IdPattern) -> Self {
        pattern.0
    }
}

impl TryFrom<String> for IdPattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl std::str::FromStr for IdPattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl IdPattern {
    /// A pattern from outside, which some id can match.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'*');
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX || !text.bytes().all(allowed) {
            let text: String = text.chars().take(PATTERN_BYTES_MAX).collect();
            return Err(format!(
                "'{text}' matches no publisher id: write one, or part of one with '*', like 'light-*'"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether it is meant for hosts (`host:NAME`).
    #[must_use]
    pub fn is_of_hosts(&self) -> bool {
        self.0.starts_with("host:")
    }

    /// A pattern; any text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it matches the whole id.
    #[must_use]
    pub fn matches(&self, id: &PublisherId) -> bool {
        super::pattern::matches(&self.0, id.as_str())
    }
}

/// How a publisher's deadline is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadlineKind {
    /// Always the same.
    Fixed(Duration),
    /// So many of the intervals that the publisher promises in its heartbeats.
    Intervals {
        /// How many.
        count: u32,
        /// Never shorter than this.
        floor: Duration,
        /// Never longer than this.
        ceiling: Duration,
        /// Before it has promised an interval.
        unpromised: Duration,
    },
    /// Learned from its arrivals: see [`crate::arrivals`]. The ceiling before enough was learned.
    Adaptive {
        /// How surprising a silence must be.
        phi: Phi,
        /// Never shorter than this, nor than what its promise makes usual ([`late_after`]).
        floor: Duration,
        /// Never longer than this.
        ceiling: Duration,
    },
}

impl DeadlineKind {
    /// Its name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fixed(_) => "fixed",
            Self::Intervals { .. } => "intervals",
            Self::Adaptive { .. } => "adaptive",
        }
    }

    /// What counts before anything was heard.
    #[must_use]
    pub const fn initial(self) -> Duration {
        match self {
            Self::Fixed(deadline) => deadline,
            Self::Intervals { unpromised, .. } => unpromised,
            Self::Adaptive { ceiling, .. } => ceiling,
        }
    }

    /// The shortest that it can become.
    #[must_use]
    pub const fn shortest(self) -> Duration {
        match self {
            Self::Fixed(deadline) => deadline,
            Self::Intervals { floor, .. } | Self::Adaptive { floor, .. } => floor,
        }
    }

    /// The longest that it can become.
    #[must_use]
    pub const fn longest(self) -> Duration {
        match self {
            Self::Fixed(deadline) => deadline,
            Self::Intervals { ceiling, .. } | Self::Adaptive { ceiling, .. } => ceiling,
        }
    }

    /// How long the source of a publisher may stand still. An adaptive deadline has learned from
    /// heartbeats, which say nothing about how often its source moves.
    #[must_use]
    pub const fn stuck_after(self, deadline: Duration) -> Duration {
        match self {
            Self::Fixed(_) | Self::Intervals { .. } => deadline,
            Self::Adaptive { ceiling, .. } => ceiling,
        }
    }

    /// Its present value for a publisher with this promise and these arrivals; never less than [`promise_floor`].
    #[must_use]
    pub fn now(self, interval: Option<Duration>, arrivals: Arrivals) -> Duration {
        self.configured(interval, arrivals).max(promise_floor(interval))
    }

    fn configured(self, interval: Option<Duration>, arrivals: Arrivals) -> Duration {
        match self {
            Self::Fixed(deadline) => deadline,
            Self::Intervals { count, floor, ceiling, unpromised } => {
                interval.map_or(unpromised, |interval| interval.saturating_mul(count).max(floor).min(ceiling))
            }
            Self::Adaptive { phi, floor, ceiling } => {
                let usual =
                    interval.map_or(Duration::ZERO, |interval| late_after(Some(interval.into()), ceiling.into()).get());
                arrivals.deadline(phi).map_or(ceiling, |deadline| deadline.max(usual).max(floor).min(ceiling))
            }
        }
    }

    /// In words for the configuration's check: `50 s`, `4 promised intervals (1 s to 50 s)`.
    #[must_use]
    pub fn describe(self) -> String {
        let bounds = |floor, ceiling| format!("({} to {})", describe_duration(floor), describe_duration(ceiling));
        match self {
            Self::Fixed(deadline) => describe_duration(deadline),
            Self::Intervals { count, floor, ceiling, .. } => {
                format!("{count} promised intervals {}", bounds(floor, ceiling))
            }
            Self::Adaptive { phi, floor, ceiling } => format!("adaptive, φ {phi} {}", bounds(floor, ceiling)),
        }
    }
}

/// How one publisher is judged in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadlineRule {
    /// Its deadline.
    pub kind: DeadlineKind,
    /// How long after it is first expected, and after each start of its own, no silence is judged.
    pub grace: Duration,
}

impl From<Duration> for DeadlineRule {
    /// A fixed deadline without grace.
    fn from(deadline: Duration) -> Self {
        Self { kind: DeadlineKind::Fixed(deadline), grace: Duration::ZERO }
    }
}

/// What differs for the publishers of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadlineOverride {
    /// For whom.
    pub publishers: IdPattern,
    /// Another deadline.
    pub kind: Option<DeadlineKind>,
    /// Another grace.
    pub grace: Option<Duration>,
}

/// The deadline of every publisher: the first pattern that matches and says something, or the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadlineRules {
    /// Where no pattern matches.
    pub default: Duration,
    /// The grace where no pattern says another.
    pub grace: Duration,
    /// In the order of the configuration; the first match counts, for the deadline and the grace apart.
    pub overrides: Vec<DeadlineOverride>,
}

impl Default for DeadlineRules {
    fn default() -> Self {
        Self { default: DEADLINE_DEFAULT, grace: Duration::ZERO, overrides: Vec::new() }
    }
}

impl DeadlineRules {
    /// How this publisher is judged in time.
    #[must_use]
    pub fn of(&self, id: &PublisherId) -> DeadlineRule {
        let mut matching = self.overrides.iter().filter(|entry| entry.publishers.matches(id));
        let (mut kind, mut grace) = (None, None);
        while kind.is_none() || grace.is_none() {
            let Some(entry) = matching.next() else { break };
            (kind, grace) = (kind.or(entry.kind), grace.or(entry.grace));
        }
        DeadlineRule { kind: kind.unwrap_or(DeadlineKind::Fixed(self.default)), grace: grace.unwrap_or(self.grace) }
    }

    /// The shortest of them.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        self.overrides.iter().filter_map(|entry| Some(entry.kind?.shortest())).fold(self.default, Duration::min)
    }
}

/// What only a publisher has whose deadline is not fixed, or that has a grace: the others pay a pointer.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    rule: DeadlineRule,
    arrivals: Arrivals,
    grace_until: Monotonic,
}

impl Fit {
    /// What a rule needs to remember from `now` on; none for a fixed deadline without grace, unless it is shorter than what
    /// this promise allows.
    #[must_use]
    pub fn of(rule: DeadlineRule, interval: Option<Duration>, now: Monotonic) -> Option<Box<Self>> {
        let simple = match rule.kind {
            DeadlineKind::Fixed(deadline) => rule.grace.is_zero() && promise_floor(interval) <= deadline,
            DeadlineKind::Intervals { .. } | DeadlineKind::Adaptive { .. } => false,
        };
        (!simple).then(|| Box::new(Self { rule, arrivals: Arrivals::default(), grace_until: now + rule.grace }))
    }

    /// The same publisher under another rule: what was learned is kept.
    #[must_use]
    pub fn under(
        before: Option<&Self>,
        rule: DeadlineRule,
        interval: Option<Duration>,
        since: Monotonic,
    ) -> Option<Box<Self>> {
        let mut fit = Self::of(rule, interval, since)?;
        fit.arrivals = before.map_or_else(Arrivals::default, |before| before.arrivals);
        Some(fit)
    }

    #[must_use]
    /// What the deadline is computed by.
    pub const fn rule(&self) -> DeadlineRule {
        self.rule
    }

    /// Until when silence is not judged.
    #[must_use]
    pub const fn grace_until(&self) -> Monotonic {
        self.grace_until
    }

    /// It was heard; `after` its last sign of life where that interval says how regular it is.
    /// Returns the deadline from now on.
    pub fn heard(&mut self, after: Option<Duration>, interval: Option<Duration>) -> Duration {
        if let (Some(after), DeadlineKind::Adaptive { ceiling, .. }) = (after, self.rule.kind) {
            self.arrivals.heard_after(after.min(ceiling));
        }
        self.rule.kind.now(interval, self.arrivals)
    }

    /// A new life of it has begun.
    pub fn started(&mut self, now: Monotonic) {
        self.grace_until = now + self.rule.grace;
    }

    /// What its present deadline rests on, in words; none when it is fixed.
    #[must_use]
    pub fn basis(&self, interval: Option<Duration>) -> Option<String> {
        let configured = self.rule.kind.configured(interval, self.arrivals);
        if let Some(interval) = interval.filter(|interval| promise_floor(Some(*interval)) > configured) {
            let (promised, configured) = (describe_duration(interval.min(PROMISE_MAX)), describe_duration(configured));
            return Some(format!(
                "{PROMISES_MIN} × the promised {promised}: the configured {configured} would be over between two signs of life"
            ));
        }
        match self.rule.kind {
            DeadlineKind::Fixed(_) => None,
            DeadlineKind::Intervals { count, .. } => Some(match interval {
                Some(interval) => format!("{count} × the promised {}", describe_duration(interval)),
                None => "it has promised no interval yet".to_owned(),
            }),
            DeadlineKind::Adaptive { phi, .. } => Some(match self.arrivals.deadline(phi) {
                Some(_) => format!("adaptive, φ {phi}: heard {}", self.arrivals.describe()),
                None => format!("its ceiling: only {} arrivals learned so far", self.arrivals.count()),
            }),
        }
    }
}

/// The least that a network's jitter is allowed.
const JITTER_LEAST: Span = Span::from_millis(250);

/// How long after its last sign of life a publisher becomes `late`: its promised interval and half
/// of it again (at least 250 ms) for the jitter of a healthy network, and never past its deadline.
/// Without a promise the deadline itself.
#[must_use]
pub fn late_after(interval: Option<Span>, deadline: Span) -> Span {
    let Some(interval) = interval else { return deadline };
    (interval + interval.half().max(JITTER_LEAST)).min(deadline)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_whole_ids() {
        let id = PublisherId::parse("light-1.kitchen").unwrap();
        for yes in ["light-1.kitchen", "*", "light-*", "*kitchen", "l*-1*kit*n", "light-1.kitchen*"] {
            assert!(IdPattern::new(yes).matches(&id), "{yes}");
        }
        for no in ["light", "kitchen", "*x*", "light-1.kitchen.x", "", "l*q"] {
            assert!(!IdPattern::new(no).matches(&id), "{no}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts_for_the_deadline_and_the_grace_apart() {
        let seconds = Duration::from_secs;
        let entry = |pattern, kind, grace| DeadlineOverride { publishers: IdPattern::new(pattern), kind, grace };
        let fixed = DeadlineKind::Fixed;
        let rules = DeadlineRules {
            default: seconds(50),
            grace: seconds(1),
            overrides: vec![
                entry("slow-*", Some(fixed(seconds(600))), None),
                entry("*-b", None, Some(seconds(30))),
                entry("fast*", Some(fixed(seconds(9))), None),
            ],
        };
        let of = |id| rules.of(&PublisherId::parse(id).unwrap());
        assert_eq!(of("slow-b"), DeadlineRule { kind: fixed(seconds(600)), grace: seconds(30) });
        assert_eq!(of("fast"), DeadlineRule { kind: fixed(seconds(9)), grace: seconds(1) });
        assert_eq!(of("other-b"), DeadlineRule { kind: fixed(seconds(50)), grace: seconds(30) });
    }

    #[test]
    fn a_deadline_of_intervals_follows_the_promise_within_its_bounds() {
        let seconds = Duration::from_secs;
        let kind =
            DeadlineKind::Intervals { count: 4, floor: seconds(2), ceiling: seconds(60), unpromised: seconds(50) };
        let now = |interval| kind.now(interval, Arrivals::default());
        assert_eq!((now(None), kind.initial()), (seconds(50), seconds(50)), "nothing promised yet");
        assert_eq!(now(Some(seconds(5))), seconds(20));
        assert_eq!(now(Some(Duration::from_millis(100))), seconds(2));
        assert_eq!(now(Some(seconds(30))), seconds(60));
        assert_eq!(now(Some(seconds(600))), seconds(1_200), "two promised intervals at least, whatever the ceiling");
        assert_eq!(kind.describe(), "4 promised intervals (2 s to 1 min)");
    }

    #[test]
    fn a_fixed_deadline_without_grace_remembers_nothing() {
        let of = |promised| Fit::of(Duration::from_secs(5).into(), promised, Monotonic::START);
        assert_eq!((of(None), of(Some(Duration::from_millis(2_500)))), (None, None));
        assert!(of(Some(Duration::from_millis(2_501))).is_some());
        assert!(size_of::<Option<Box<Fit>>>() <= 8 && size_of::<Fit>() <= 96);
    }

    proptest! {
        /// An adaptive deadline stays within its bounds whatever came, and never below what the
        /// publisher's own promise makes usual.
        #[test]
        fn an_adaptive_deadline_stays_within_its_bounds(
            millis in prop::collection::vec(0_u64..200_000, 0..300),
            promised in prop::option::of(1_u64..20_000),
            floor in 1_u64..10_000,
            more in 0_u64..100_000,
        ) {
            let (floor, ceiling) = (Duration::from_millis(floor), Duration::from_millis(floor + more));
            let interval = promised.map(Duration::from_millis);
            let kind = DeadlineKind::Adaptive { phi: Phi::default(), floor, ceiling };
            let rule = DeadlineRule { kind, grace: Duration::ZERO };
            let mut fit = Fit::of(rule, None, Monotonic::START).unwrap();
            for gap in millis {
                let deadline = fit.heard(Some(Duration::from_millis(gap)), interval);
                let ceiling = ceiling.max(promise_floor(interval));
                prop_assert!((floor..=ceiling).contains(&deadline), "{:?}", deadline);
                prop_assert!(deadline >= promise_floor(interval));
                let usual = late_after(interval.map(Span::from), ceiling.into()).get();
                prop_assert!(deadline >= usual.min(ceiling) || interval.is_none());
            }
            prop_assert!(fit.basis(interval).is_some());
        }
    }

    #[test]
    fn lateness_never_passes_the_deadline() {
        let seconds = Duration::from_secs;
        let late_after = |interval: Option<Duration>, deadline: Duration| {
            late_after(interval.map(Span::from), deadline.into()).get()
        };
        assert_eq!(late_after(Some(seconds(2)), seconds(50)), seconds(3));
        assert_eq!(late_after(Some(Duration::from_millis(100)), seconds(5)), Duration::from_millis(350));
        assert_eq!(late_after(Some(seconds(9)), seconds(5)), seconds(5));
        assert_eq!(late_after(None, seconds(5)), seconds(5));
        assert_eq!(late_after(Some(Duration::MAX), Duration::MAX), Span::from(Duration::MAX).get(), "no overflow");
    }
}
