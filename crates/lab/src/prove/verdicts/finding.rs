//! One thing that was true, and what the monitor said while it was.

use std::time::Duration;

use crate::args::FaultKind;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::{Change, Trigger, Verdict};

/// What was true of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Truth {
    /// It works and can be heard.
    Alive,
    /// It works, and the monitor was stopped, overloaded or could not write: it may doubt itself.
    Disturbed,
    /// It works, and nothing of it arrives.
    Silent,
    /// It makes no progress.
    Hung,
    /// It is stopped.
    Stopped,
    /// Its process is gone.
    Dead,
    /// It left in order.
    Ended,
    /// It works, and somebody else speaks in its name.
    Conflict,
    /// It works, and the monitor has no way to know: its own ears are closed.
    NotToBeKnown,
}

impl Truth {
    /// Every truth, in the order of the report.
    pub(super) const ALL: [Self; 9] = [
        Self::Alive,
        Self::Disturbed,
        Self::Silent,
        Self::Hung,
        Self::Stopped,
        Self::Dead,
        Self::Ended,
        Self::Conflict,
        Self::NotToBeKnown,
    ];

    /// The verdict that says it.
    #[must_use]
    pub(super) const fn verdict(self) -> Verdict {
        match self {
            Self::Alive | Self::Disturbed => Verdict::Alive,
            Self::Silent => Verdict::Silent,
            Self::Hung => Verdict::Hung,
            Self::Stopped => Verdict::Stopped,
            Self::Dead => Verdict::Dead,
            Self::Ended => Verdict::Ended,
            Self::Conflict => Verdict::Conflict,
            Self::NotToBeKnown => Verdict::Unknown,
        }
    }

    /// Whether the publisher is well and can be heard.
    #[must_use]
    pub(super) const fn is_well(self) -> bool {
        matches!(self, Self::Alive | Self::Disturbed)
    }

    /// Whether this verdict is no lie before the right one has come: `alive`, `late`, which says no more
    /// than that nothing came yet, and a doubt, which claims nothing.
    const fn may_come_before(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Alive | Verdict::Late | Verdict::Unknown)
    }

    /// Whether this verdict is no lie after the right one has come.
    fn may_follow(self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Late => self.is_well(),
            Verdict::Unknown => !matches!(self, Self::Dead | Self::Ended | Self::Stopped),
            _ => verdict == self.verdict(),
        }
    }

    /// In words, for the report.
    #[must_use]
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Disturbed => "alive, monitor disturbed",
            Self::Silent => "silent",
            Self::Hung => "hung",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
            Self::Ended => "ended",
            Self::Conflict => "two under one id",
            Self::NotToBeKnown => "not to be known",
        }
    }
}

/// What came out for one publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was done.
    pub fault: FaultKind,
    /// To whom.
    pub publisher: PublisherId,
    /// What was true then.
    pub truth: Truth,
    /// What the monitor made of it: the first verdict that was wrong, or the one that was right, or the
    /// one that stood when the time was up.
    pub verdict: Verdict,
    /// From the injection to the right verdict, where one had to change.
    pub latency: Option<Duration>,
    /// From each deadline that passed meanwhile to the verdict that was due.
    pub deadlines: Vec<Duration>,
    /// The same, where the monitor had doubted itself at the deadline and said so.
    pub held: Vec<Duration>,
    /// What the monitor said when it was wrong, or what else was.
    pub objection: Option<String>,
}

/// The time from one to the other, zero when it is not after it.
#[must_use]
pub(super) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(later.as_nanos().saturating_sub(earlier.as_nanos())).unwrap_or(0))
}

impl Finding {
    /// Judges what was said since the injection.
    #[must_use]
    pub(super) fn of(
        fault: FaultKind,
        publisher: &PublisherId,
        truth: Truth,
        injected_at: Timestamp,
        standing: Option<Verdict>,
        said: &[Change],
    ) -> Self {
        let wanted = truth.verdict();
        let is_right = |verdict: Verdict| verdict == wanted;
        let right = said.iter().position(|change| is_right(change.to));
        let stood = right.is_some() || standing.is_some_and(is_right);
        // What was true before the injection may still be said until the right verdict has come.
        let starts_right = truth.is_well() && standing == Some(Verdict::Alive);
        let (before, after) = said.split_at(if starts_right { 0 } else { right.unwrap_or(said.len()) });
        let before = before.iter().filter(|change| !Truth::may_come_before(change.to));
        let after = after.iter().filter(|change| !truth.may_follow(change.to));
        let wrong = before.chain(after).next();
        let doubt = said.iter().any(|change| change.to == Verdict::Unknown);
        let stands = said.last().map(|change| change.to).or(standing).unwrap_or(Verdict::Unknown);
        let (verdict, objection) = match wrong {
            Some(wrong) => (wrong.to, Some(wrong.summary.clone())),
            None if starts_right && doubt => (Verdict::Unknown, None),
            None if stood && stands != wanted && stands != Verdict::Late => {
                (stands, Some(format!("{wanted} was said, and {stands} stood in the end")))
            }
            None if stood => (wanted, None),
            None => (stands, Some(format!("no verdict of {wanted} came; {stands} stood"))),
        };
        let (held, deadlines): (Vec<_>, Vec<_>) = said
            .iter()
            .filter(|change| change.trigger == Trigger::Deadline)
            .partition(|change| change.from == Verdict::Unknown);
        let times = |due: Vec<&Change>| due.iter().map(|change| between(change.at, change.decided_at)).collect();
        let (held, deadlines) = (times(held), times(deadlines));
        let latency = right.and_then(|right| said.get(right)).map(|change| between(injected_at, change.decided_at));
        Self { fault, publisher: publisher.clone(), truth, verdict, latency, deadlines, held, objection }
    }

    /// Whether the monitor said something that was not so, or missed what was. A doubt about a publisher
    /// that is well is neither, and shows in the matrix.
    #[must_use]
    pub(super) const fn is_wrong(&self) -> bool {
        self.objection.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::publisher::HostName;

    fn said(verdicts: &[Verdict]) -> Vec<Change> {
        let change = |(index, to): (usize, &Verdict)| Change {
            epoch: index as u64,
            publisher: PublisherId::parse("p").unwrap(),
            host: HostName::parse("h").unwrap(),
            from: Verdict::Alive,
            to: *to,
            at: Timestamp::from_nanos(1_000),
            decided_at: Timestamp::from_nanos(5_000),
            trigger: Trigger::Deadline,
            summary: to.to_string(),
            evidence: Vec::new(),
            process: None,
            maintenance: false,
            flapping: None,
            because: None,
        };
        verdicts.iter().enumerate().map(change).collect()
    }

    fn judged(truth: Truth, standing: Verdict, verdicts: &[Verdict]) -> (Verdict, bool) {
        let publisher = PublisherId::parse("p").unwrap();
        let at = Timestamp::from_nanos(2_000);
        let finding = Finding::of(FaultKind::Kill, &publisher, truth, at, Some(standing), &said(verdicts));
        (finding.verdict, finding.is_wrong())
    }

    #[test]
    fn the_right_verdict_once_and_nothing_after_it() {
        use Verdict::{Alive, Dead, Ended, Hung, Late, Silent, Unknown};
        assert_eq!(judged(Truth::Dead, Alive, &[Dead]), (Dead, false));
        assert_eq!(judged(Truth::Dead, Alive, &[Late, Unknown, Dead]), (Dead, false));
        assert_eq!(judged(Truth::Dead, Alive, &[Dead, Alive]), (Alive, true), "it cannot live again");
        assert_eq!(judged(Truth::Dead, Alive, &[Silent, Dead]), (Silent, true));
        assert_eq!(judged(Truth::Dead, Alive, &[Late]), (Late, true), "missed");
        assert_eq!(judged(Truth::Dead, Alive, &[]), (Alive, true), "missed");
        assert_eq!(judged(Truth::Ended, Alive, &[Dead, Ended]), (Dead, true));
        assert_eq!(judged(Truth::Silent, Alive, &[Late, Silent, Hung]), (Hung, true));
        assert_eq!(judged(Truth::NotToBeKnown, Alive, &[Late, Unknown]), (Unknown, false));
    }

    #[test]
    fn one_that_is_well_may_be_late_and_doubted_and_nothing_else() {
        use Verdict::{Alive, Dead, Late, Silent, Unknown};
        assert_eq!(judged(Truth::Alive, Alive, &[]), (Alive, false));
        assert_eq!(judged(Truth::Alive, Alive, &[Late]), (Alive, false));
        assert_eq!(judged(Truth::Alive, Alive, &[Late, Unknown, Alive]), (Unknown, false));
        assert_eq!(judged(Truth::Alive, Alive, &[Silent, Alive]), (Silent, true));
        assert_eq!(judged(Truth::Alive, Dead, &[Alive, Late]), (Alive, false), "a recovery");
        assert_eq!(judged(Truth::Alive, Dead, &[Alive, Dead, Alive]), (Dead, true));
        assert_eq!(judged(Truth::Alive, Dead, &[]), (Dead, true), "not noticed");
        assert_eq!(judged(Truth::Alive, Alive, &[Unknown]), (Unknown, false));
        assert_eq!(judged(Truth::Disturbed, Alive, &[Late, Unknown, Alive]), (Unknown, false));
        assert_eq!(judged(Truth::Disturbed, Alive, &[Unknown, Dead, Alive]), (Dead, true));
    }
}
