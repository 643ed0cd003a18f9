//! One thing that was true, and what the monitor said while it was.

use std::time::Duration;

use crate::domain::publisher::PublisherId;
use crate::domain::time::Timestamp;
use crate::domain::verdict::{Change, Trigger, Verdict};
use crate::roles::cli::FaultKind;

/// What was true of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truth {
    /// It works and can be heard.
    Alive,
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
    /// It works, and the monitor has no way to know: its own ears are closed.
    NotToBeKnown,
}

impl Truth {
    /// Every truth, in the order of the report.
    pub const ALL: [Self; 7] =
        [Self::Alive, Self::Silent, Self::Hung, Self::Stopped, Self::Dead, Self::Ended, Self::NotToBeKnown];

    /// The verdict that says it.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Alive => Verdict::Alive,
            Self::Silent => Verdict::Silent,
            Self::Hung => Verdict::Hung,
            Self::Stopped => Verdict::Stopped,
            Self::Dead => Verdict::Dead,
            Self::Ended => Verdict::Ended,
            Self::NotToBeKnown => Verdict::Unknown,
        }
    }

    /// Verdicts that are right on the way to it: `alive` and `late` before a deadline has passed (`late`
    /// says no more than that nothing came), and a doubt, which claims nothing, where the final verdict
    /// rests on silence.
    const fn on_the_way(self) -> &'static [Verdict] {
        match self {
            Self::Alive | Self::Dead | Self::Ended => &[Verdict::Late],
            Self::Silent | Self::Hung => &[Verdict::Alive, Verdict::Late, Verdict::Unknown],
            Self::Stopped | Self::NotToBeKnown => &[Verdict::Alive, Verdict::Late],
        }
    }

    /// In words, for the report.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Silent => "silent",
            Self::Hung => "hung",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
            Self::Ended => "ended",
            Self::NotToBeKnown => "not to be known",
        }
    }
}

/// What came out for one publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
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
    /// What the monitor said when it was wrong, or what else was.
    pub objection: Option<String>,
}

/// The time from one to the other, zero when it is not after it.
#[must_use]
pub fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(later.as_nanos().saturating_sub(earlier.as_nanos())).unwrap_or(0))
}

impl Finding {
    /// Judges what was said since the injection. `tolerated` are verdicts that this fault allows besides.
    #[must_use]
    pub fn of(
        fault: FaultKind,
        publisher: &PublisherId,
        truth: Truth,
        tolerated: &[Verdict],
        injected_at: Timestamp,
        standing: Option<Verdict>,
        said: &[Change],
    ) -> Self {
        let wanted = truth.verdict();
        let allowed = |verdict: Verdict| {
            verdict == wanted || truth.on_the_way().contains(&verdict) || tolerated.contains(&verdict)
        };
        let wrong = said.iter().find(|change| !allowed(change.to));
        let right = said.iter().find(|change| change.to == wanted);
        let stands = said.last().map(|change| change.to).or(standing).unwrap_or(Verdict::Unknown);
        let (verdict, objection) = match (wrong, right) {
            (Some(wrong), _) => (wrong.to, Some(wrong.summary.clone())),
            (None, Some(_)) => (wanted, None),
            (None, None) if stands == wanted => (wanted, None),
            (None, None) => (stands, Some(format!("no verdict of {wanted} came; {stands} stood"))),
        };
        let due = |change: &&Change| change.trigger == Trigger::Deadline;
        let deadlines = said.iter().filter(due).map(|change| between(change.at, change.decided_at)).collect();
        Self {
            fault,
            publisher: publisher.clone(),
            truth,
            verdict,
            latency: right.map(|change| between(injected_at, change.decided_at)),
            deadlines,
            objection,
        }
    }

    /// Whether the monitor was right.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.verdict == self.truth.verdict() && self.objection.is_none()
    }
}
