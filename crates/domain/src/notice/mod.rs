//! What a target is told, which of it, and how often: pure, every function takes `now` ([`Pace`]).
//!
//! A target gets at most so many messages a minute. The last one of them is a digest when more than
//! one notice waits, so a storm of changes costs a person one message more than an ordinary minute. What is
//! urgent has as many messages of its own: no storm of lesser news holds up a death.

mod pace;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::pace::{DIGEST_HOLD, MINUTE, Pace, Step};
use crate::deadline::IdPattern;
use crate::publisher::{HostName, PublisherId};
use crate::rule::Severity;
use crate::time::Timestamp;
use crate::verdict::{Change, Verdict};

/// Most notices that a digest lists one by one; the others are only counted.
pub const DIGEST_LISTED_MAX: usize = 20;

/// Changes to a verdict of this level or a higher one are urgent.
pub const URGENT_LEVEL_MIN: i64 = 3;

/// Something that a person or a program may want to be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Notice {
    /// A verdict changed.
    Change(Change),
    /// A child of ours ended too often: it is not started again.
    GaveUp(GaveUp),
    /// A rule's alarm is raised, or over.
    Alarm(RuleAlarm),
    /// Another target cannot be told any more, or again.
    Target(TargetNotice),
}

/// How it goes with telling a target; for the other targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetNotice {
    /// The target that this is about.
    pub target: String,
    /// Whether it is failing or well again.
    pub state: TargetState,
    /// The monitor that tells it.
    pub publisher: PublisherId,
    /// When the monitor knew.
    pub at: Timestamp,
    /// One line that a person understands.
    pub summary: String,
}

/// How a target stands, for whoever else is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetState {
    /// It does not take what it is told.
    Failing,
    /// It does again.
    Delivering,
}

impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Failing => "failing",
            Self::Delivering => "delivering",
        })
    }
}

/// What a rule (`[[rule]]`) has found about some readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleAlarm {
    /// The rule's name.
    pub rule: String,
    /// Whether it is raised or over.
    pub state: AlarmState,
    /// How bad it is.
    pub severity: Severity,
    /// Whose readings they are; the monitor's id where they name no publisher.
    pub publisher: PublisherId,
    /// Where it runs.
    pub host: HostName,
    /// The measurement whose readings raised it.
    pub measurement: String,
    /// The tags that tell this alarm from the rule's others.
    pub tags: BTreeMap<String, String>,
    /// Since when it has been raised.
    pub since: Timestamp,
    /// When the monitor knew of this.
    pub at: Timestamp,
    /// The number that was found; none without enough values.
    pub number: Option<f64>,
    /// One line that a person understands.
    pub summary: String,
    /// Where a person looks next; may be empty.
    #[serde(default)]
    pub link: String,
}

/// How a rule's alarm stands, for whoever is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmState {
    /// It is raised.
    Firing,
    /// It is over.
    Resolved,
}

impl fmt::Display for AlarmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        })
    }
}

/// The end of the restarts of a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaveUp {
    /// Whose program.
    pub publisher: PublisherId,
    /// Where it ran.
    pub host: HostName,
    /// When it was given up.
    pub at: Timestamp,
    /// One line that a person understands.
    pub summary: String,
}

impl Notice {
    /// Whom it is about.
    #[must_use]
    pub const fn publisher(&self) -> &PublisherId {
        match self {
            Self::Change(change) => &change.publisher,
            Self::GaveUp(gave_up) => &gave_up.publisher,
            Self::Alarm(alarm) => &alarm.publisher,
            Self::Target(target) => &target.publisher,
        }
    }

    /// When the monitor knew.
    #[must_use]
    pub const fn known_at(&self) -> Timestamp {
        match self {
            Self::Change(change) => change.decided_at,
            Self::GaveUp(gave_up) => gave_up.at,
            Self::Alarm(alarm) => alarm.at,
            Self::Target(target) => target.at,
        }
    }

    /// Whether it has a budget of messages of its own: somebody is badly off, or will not be told.
    #[must_use]
    pub const fn is_urgent(&self) -> bool {
        match self {
            Self::Change(change) => change.to.level() >= URGENT_LEVEL_MIN,
            Self::GaveUp(_) => true,
            Self::Alarm(alarm) => {
                matches!((alarm.severity, alarm.state), (Severity::Critical, AlarmState::Firing))
            }
            Self::Target(target) => matches!(target.state, TargetState::Failing),
        }
    }

    /// Whose course it is a part of: such notices about one publisher are told in their order.
    #[must_use]
    pub fn course_of(&self) -> Option<&PublisherId> {
        match self {
            Self::Change(change) => Some(&change.publisher),
            Self::GaveUp(gave_up) => Some(&gave_up.publisher),
            Self::Alarm(_) | Self::Target(_) => None,
        }
    }

    /// What is told in one message with the others that have the same: alarms of one rule, raised or over.
    #[must_use]
    pub fn told_with(&self) -> Option<String> {
        match self {
            Self::Alarm(alarm) => Some(format!("{} {}", alarm.state, alarm.rule)),
            Self::Change(_) | Self::GaveUp(_) | Self::Target(_) => None,
        }
    }

    /// Why, in one line.
    #[must_use]
    pub fn summary(&self) -> &str {
        match self {
            Self::Change(change) => &change.summary,
            Self::GaveUp(gave_up) => &gave_up.summary,
            Self::Alarm(alarm) => &alarm.summary,
            Self::Target(target) => &target.summary,
        }
    }
}

impl fmt::Display for Notice {
    /// A headline: `light-1: alive → dead`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(change) => write!(f, "{}: {} → {}", change.publisher, change.from, change.to),
            Self::GaveUp(gave_up) => write!(f, "{}: not started again", gave_up.publisher),
            Self::Alarm(alarm) => write!(f, "{}: {} {}", alarm.publisher, alarm.rule, alarm.state),
            Self::Target(target) => write!(f, "target {}: {}", target.target, target.state),
        }
    }
}

/// Which notices a target wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeFilter {
    /// About these publishers; empty: about all.
    pub publishers: Vec<IdPattern>,
    /// Changes to these verdicts; empty: to any.
    pub to: Vec<Verdict>,
    /// Changes to a verdict of at least this level (see [`Verdict::level`]).
    pub level_min: i64,
    /// Also when a publisher is well again after a verdict that was told, and when an alarm is over.
    pub recovery: bool,
    /// Alarms of rules as well, those that are as bad as `level_min` (see [`Severity::level`]).
    pub alarms: bool,
}

/// What a target is told where it says nothing about it: everything from `silent` up.
pub const LEVEL_MIN_DEFAULT: i64 = 2;

impl Default for NoticeFilter {
    fn default() -> Self {
        Self { publishers: Vec::new(), to: Vec::new(), level_min: LEVEL_MIN_DEFAULT, recovery: true, alarms: true }
    }
}

/// Someone who is told, whichever way it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetConfig {
    /// Its name in the configuration, the logs and the accounts; distinct.
    pub name: String,
    /// What it is told.
    pub filter: NoticeFilter,
    /// Most messages a minute, and as many with something urgent; the last of each is a digest when more waits.
    pub per_minute_max: usize,
    /// A notice that could not be delivered for so long is given up.
    pub age_max: Duration,
    /// Wait after the first failed attempt; doubles with each further one.
    pub backoff_min: Duration,
    /// Longest wait after a failed attempt.
    pub backoff_max: Duration,
}

impl TargetConfig {
    /// One of this name, told what is usual: ten messages a minute, for a day, tried again after 1 s to 5 min.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            filter: NoticeFilter::default(),
            per_minute_max: 10,
            age_max: Duration::from_secs(86_400),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
        }
    }
}

impl NoticeFilter {
    /// Whether the target wants this one.
    #[must_use]
    pub fn wants(&self, notice: &Notice) -> bool {
        // It is about being told at all: whoever is left must know, whatever else he wants to hear.
        if let Notice::Target(target) = notice {
            return self.recovery || target.state == TargetState::Failing;
        }
        let publisher = notice.publisher();
        if !self.publishers.is_empty() && !self.publishers.iter().any(|pattern| pattern.matches(publisher)) {
            return false;
        }
        match notice {
            Notice::Change(change) if !change.is_told() => false,
            // That it flaps, and that it is over, are worth a word whatever it is called at the moment.
            Notice::Change(change) if change.flapping.is_some() && self.recovery => {
                self.wants_verdict(change.from) || self.wants_verdict(change.to) || self.to.is_empty()
            }
            // Nothing more will be done about it: that is worth a word whatever the verdict becomes.
            Notice::GaveUp(_) | Notice::Target(_) => true,
            Notice::Alarm(alarm) => {
                let wanted = self.alarms && alarm.severity.level() >= self.level_min;
                wanted && (self.recovery || alarm.state == AlarmState::Firing)
            }
            Notice::Change(change) => {
                let well_again = self.recovery && change.to.level() == 0 && self.wants_verdict(change.from);
                well_again || self.wants_verdict(change.to)
            }
        }
    }

    fn wants_verdict(&self, verdict: Verdict) -> bool {
        (self.to.is_empty() || self.to.contains(&verdict)) && verdict.level() >= self.level_min
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Trigger;

    fn change(publisher: &str, from: Verdict, to: Verdict) -> Notice {
        Notice::Change(Change {
            epoch: 1,
            publisher: PublisherId::parse(publisher).unwrap(),
            host: HostName::parse("here").unwrap(),
            from,
            to,
            at: Timestamp::from_nanos(1_000_000),
            decided_at: Timestamp::from_nanos(2_000_000),
            trigger: Trigger::Deadline,
            summary: "because".to_owned(),
            evidence: Vec::new(),
            process: None,
            maintenance: false,
            flapping: None,
            because: None,
        })
    }

    #[test]
    fn a_filter_knows_who_and_how_bad_and_that_it_is_over() {
        use Verdict::{Alive, Dead, Late, Silent, Unknown};
        let all = NoticeFilter::default();
        assert!(all.wants(&change("a", Alive, Dead)) && all.wants(&change("a", Late, Silent)));
        assert!(all.wants(&change("a", Dead, Alive)), "it is well again");
        assert!(!all.wants(&change("a", Alive, Late)) && !all.wants(&change("a", Late, Alive)));
        assert!(!all.wants(&change("a", Alive, Unknown)));
        let light = NoticeFilter { publishers: vec![IdPattern::new("light-*")], ..NoticeFilter::default() };
        assert!(light.wants(&change("light-1", Alive, Dead)) && !light.wants(&change("a", Alive, Dead)));
        let dead = NoticeFilter { to: vec![Dead], recovery: false, ..NoticeFilter::default() };
        assert!(dead.wants(&change("a", Alive, Dead)) && !dead.wants(&change("a", Alive, Silent)));
        assert!(!dead.wants(&change("a", Dead, Alive)));
        let alarm = |state, severity| {
            Notice::Alarm(RuleAlarm {
                rule: "load".to_owned(),
                state,
                severity,
                publisher: PublisherId::parse("light-1").unwrap(),
                host: HostName::parse("here").unwrap(),
                measurement: "m".to_owned(),
                tags: BTreeMap::new(),
                since: Timestamp::from_nanos(1),
                at: Timestamp::from_nanos(2),
                number: Some(8.5),
                summary: "too high".to_owned(),
                link: String::new(),
            })
        };
        use AlarmState::{Firing, Resolved};
        let warning = alarm(Firing, Severity::Warning);
        assert!(all.wants(&warning) && all.wants(&alarm(Resolved, Severity::Warning)) && light.wants(&warning));
        assert_eq!(warning.to_string(), "light-1: load firing");
        let worst = NoticeFilter { level_min: 5, recovery: false, ..NoticeFilter::default() };
        assert!(!worst.wants(&warning) && worst.wants(&alarm(Firing, Severity::Critical)));
        assert!(!worst.wants(&alarm(Resolved, Severity::Critical)));
        assert!(!NoticeFilter { alarms: false, ..NoticeFilter::default() }.wants(&warning));
        let unknown = NoticeFilter { to: vec![Unknown], level_min: -1, ..NoticeFilter::default() };
        assert!(unknown.wants(&change("a", Alive, Unknown)));
    }

    #[test]
    fn what_is_urgent_is_from_hung_up_and_nothing_that_is_well_again() {
        use Verdict::{Alive, Dead, Hung, Silent, Stopped, Unreachable};
        for (verdict, is_urgent) in
            [(Silent, false), (Hung, true), (Stopped, true), (Unreachable, true), (Dead, true), (Alive, false)]
        {
            assert_eq!(change("a", Dead, verdict).is_urgent(), is_urgent, "{verdict}");
        }
    }

    #[test]
    fn whoever_is_left_is_told_that_another_target_fails_whatever_his_filter() {
        let about = |state| {
            Notice::Target(TargetNotice {
                target: "pager".to_owned(),
                state,
                publisher: PublisherId::parse("monitor").unwrap(),
                at: Timestamp::from_nanos(2),
                summary: "it answers 404".to_owned(),
            })
        };
        let narrow = NoticeFilter {
            publishers: vec![IdPattern::new("light-*")],
            to: vec![Verdict::Unknown],
            level_min: 5,
            recovery: false,
            alarms: false,
        };
        assert!(narrow.wants(&about(TargetState::Failing)) && !narrow.wants(&about(TargetState::Delivering)));
        assert!(NoticeFilter::default().wants(&about(TargetState::Delivering)));
        assert_eq!(about(TargetState::Failing).to_string(), "target pager: failing");
        let json = serde_json::to_value(about(TargetState::Failing)).unwrap();
        assert_eq!((json["kind"].as_str(), json["state"].as_str()), (Some("target"), Some("failing")));
    }

    #[test]
    fn a_notice_survives_its_json_and_reads_like_the_change() {
        let notice = change("a", Verdict::Alive, Verdict::Dead);
        let json = serde_json::to_value(&notice).unwrap();
        assert_eq!((json["kind"].as_str(), json["to"].as_str()), (Some("change"), Some("dead")));
        assert_eq!(serde_json::from_value::<Notice>(json).unwrap(), notice);
        assert_eq!(notice.to_string(), "a: alive → dead");
    }
}
