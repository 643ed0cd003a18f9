//! Which deadline a publisher has, and how much lateness is still ordinary.

use std::time::Duration;

use crate::domain::publisher::PublisherId;

/// The product's default deadline.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(50);

/// A pattern of publisher ids in which `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPattern(String);

impl IdPattern {
    /// A pattern; any text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it matches the whole id.
    #[must_use]
    pub fn matches(&self, id: &PublisherId) -> bool {
        let mut rest = id.as_str();
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(after_first) = rest.strip_prefix(first) else { return false };
        rest = after_first;
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.find(part) {
                Some(found) => rest = &rest[found + part.len()..],
                None => return false,
            }
        }
        true
    }
}

/// The deadline of every publisher: the first pattern that matches, or the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadlineRules {
    /// Where no pattern matches.
    pub default: Duration,
    /// In the order of the configuration; the first match counts.
    pub overrides: Vec<(IdPattern, Duration)>,
}

impl Default for DeadlineRules {
    fn default() -> Self {
        Self { default: DEADLINE_DEFAULT, overrides: Vec::new() }
    }
}

impl DeadlineRules {
    /// The deadline of this publisher.
    #[must_use]
    pub fn of(&self, id: &PublisherId) -> Duration {
        self.overrides.iter().find(|(pattern, _)| pattern.matches(id)).map_or(self.default, |(_, deadline)| *deadline)
    }

    /// The shortest of them.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        self.overrides.iter().map(|(_, deadline)| *deadline).fold(self.default, Duration::min)
    }
}

/// How long after its last sign of life a publisher becomes `late`: its promised interval and half
/// of it again (at least 250 ms) for the jitter of a healthy network, and never past its deadline.
/// Without a promise the deadline itself.
#[must_use]
pub fn late_after(interval: Option<Duration>, deadline: Duration) -> Duration {
    let Some(interval) = interval else { return deadline };
    let grace = (interval / 2).max(Duration::from_millis(250));
    interval.saturating_add(grace).min(deadline)
}

#[cfg(test)]
mod tests {
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
    fn the_first_rule_that_matches_counts() {
        let rules = DeadlineRules {
            default: Duration::from_secs(50),
            overrides: vec![
                (IdPattern::new("slow-*"), Duration::from_secs(600)),
                (IdPattern::new("*"), Duration::from_secs(9)),
            ],
        };
        assert_eq!(rules.of(&PublisherId::parse("slow-1").unwrap()), Duration::from_secs(600));
        assert_eq!(rules.of(&PublisherId::parse("fast").unwrap()), Duration::from_secs(9));
    }

    #[test]
    fn lateness_never_passes_the_deadline() {
        let seconds = Duration::from_secs;
        assert_eq!(late_after(Some(seconds(2)), seconds(50)), seconds(3));
        assert_eq!(late_after(Some(Duration::from_millis(100)), seconds(5)), Duration::from_millis(350));
        assert_eq!(late_after(Some(seconds(9)), seconds(5)), seconds(5));
        assert_eq!(late_after(None, seconds(5)), seconds(5));
    }
}
