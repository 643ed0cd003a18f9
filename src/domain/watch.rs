//! What the watchdog knows of one publisher, as a state machine without a clock.
//!
//! The watchdog actor calls [`Watch::hear`] for every sign of life, [`Watch::look`] when the time that
//! [`Watch::look_again_at`] named has come, and [`Watch::answered`] with what the probe said. A sign of
//! life only moves `last_heard`; the timer notices lazily that it has to run on.
//!
//! Invariants:
//! - a publisher that was heard within its deadline, on a monitor that hears, is never `dead`;
//! - the probe is asked only when a deadline has passed;
//! - the answer to a question older than the last sign of life decides nothing.

use std::time::Duration;

use crate::domain::beat::{Beat, BeatKind};
use crate::domain::deadline::late_after;
use crate::domain::judge::{
    Case, Judgement, Testimony, judge_after_deadline, judge_goodbye, judge_heard, judge_silence,
};
use crate::domain::observer::Observer;
use crate::domain::process::{ProbeAnswer, ProcessIdentity};
use crate::domain::publisher::{HostName, Incarnation};
use crate::domain::time::{Monotonic, Timestamp};
use crate::domain::verdict::{Trigger, Verdict};

/// The host and boot that the monitor itself runs on: only processes there can be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Our host's name.
    pub host: HostName,
    /// Our boot; none where the system does not tell.
    pub boot_id: Option<String>,
}

/// A verdict that is to change, and what made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The verdict before.
    pub from: Verdict,
    /// The verdict from now on, with its reasons.
    pub judgement: Judgement,
    /// When it became true.
    pub at: Monotonic,
    /// What made us decide.
    pub trigger: Trigger,
}

/// What a look at a publisher whose time has come leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing has changed.
    Nothing,
    /// The verdict changes.
    Change(Box<Transition>),
    /// Its deadline has passed: ask the probe about this process, then call [`Watch::answered`].
    AskProbe(ProcessIdentity),
}

/// What the watchdog knows of one publisher.
#[derive(Debug, Clone)]
pub struct Watch {
    host: HostName,
    deadline: Duration,
    interval: Option<Duration>,
    watched_since: Monotonic,
    last_heard: Option<(Monotonic, Timestamp)>,
    incarnation: Option<Incarnation>,
    ended: bool,
    process: Option<Box<ProcessIdentity>>,
    verdict: Verdict,
    looked_at: Option<Monotonic>,
    asked_at: Option<Monotonic>,
}

impl Watch {
    /// A publisher that is expected, or known from before, and has not been heard by this monitor.
    #[must_use]
    pub fn expected(host: HostName, deadline: Duration, now: Monotonic) -> Self {
        Self {
            host,
            deadline,
            interval: None,
            watched_since: now,
            last_heard: None,
            incarnation: None,
            ended: false,
            process: None,
            verdict: Verdict::Unknown,
            looked_at: None,
            asked_at: None,
        }
    }

    /// A publisher whose last verdict and process an earlier run of the monitor has recorded.
    #[must_use]
    pub fn remembered(
        host: HostName,
        deadline: Duration,
        verdict: Verdict,
        process: Option<ProcessIdentity>,
        now: Monotonic,
    ) -> Self {
        let ended = verdict == Verdict::Ended;
        Self { verdict, ended, process: process.map(Box::new), ..Self::expected(host, deadline, now) }
    }

    /// Its verdict as it stands.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Its host.
    #[must_use]
    pub const fn host(&self) -> &HostName {
        &self.host
    }

    /// Its process, where it has named one.
    #[must_use]
    pub fn process(&self) -> Option<&ProcessIdentity> {
        self.process.as_deref()
    }

    /// Its deadline.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The interval that it promises, once it has.
    #[must_use]
    pub const fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// When it was last heard.
    #[must_use]
    pub const fn last_heard(&self) -> Option<(Monotonic, Timestamp)> {
        self.last_heard
    }

    /// The configuration has changed.
    pub const fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// A sign of life came. Returns the change of verdict that it makes, if any.
    pub fn hear(&mut self, beat: &Beat) -> Option<Box<Transition>> {
        match &beat.kind {
            BeatKind::Goodbye { incarnation } => return self.hear_goodbye(beat, *incarnation),
            BeatKind::LastWill { .. } => return None,
            BeatKind::Readings { incarnation } => {
                if self.is_from_a_past_life(*incarnation) {
                    return None;
                }
                self.incarnation = incarnation.or(self.incarnation);
            }
            BeatKind::Heartbeat(heartbeat) => {
                if self.is_from_a_past_life(Some(heartbeat.incarnation)) {
                    return None;
                }
                self.incarnation = Some(heartbeat.incarnation);
                self.interval = Some(heartbeat.interval);
                if heartbeat.process.as_ref() != self.process.as_deref() {
                    self.process = heartbeat.process.clone().map(Box::new);
                }
            }
        }
        if self.host != beat.host {
            self.host = beat.host.clone();
        }
        let silent_before = self.last_heard.map(|(at, _)| beat.at.since(at));
        self.last_heard = Some((self.last_heard.map_or(beat.at, |(at, _)| at.max(beat.at)), beat.wall));
        self.ended = false;
        if self.verdict == Verdict::Alive {
            return None;
        }
        Some(self.change(judge_heard(silent_before), beat.at, Trigger::Heartbeat))
    }

    /// When to [`Watch::look`] again; `None` while there is nothing to wait for.
    #[must_use]
    pub fn look_again_at(&self, observer: &Observer) -> Option<Monotonic> {
        if self.ended {
            return None;
        }
        let silent_since = self.silent_since(observer);
        let late_at = silent_since + late_after(self.interval, self.deadline);
        let deadline_at = silent_since + self.deadline;
        match self.looked_at {
            None => Some(late_at),
            Some(looked_at) if looked_at < late_at => Some(late_at),
            Some(looked_at) if looked_at < deadline_at => Some(deadline_at),
            Some(looked_at) => Some(looked_at + self.deadline),
        }
    }

    /// Its time has come.
    pub fn look(&mut self, home: &Home, observer: &Observer, now: Monotonic) -> Look {
        if self.ended {
            return Look::Nothing;
        }
        self.looked_at = Some(now);
        let case = self.case(home, observer, None);
        if let Some(judgement) = judge_silence(&case, now) {
            let sooner = self.last_heard.is_none() || judgement.verdict == Verdict::Alive;
            if sooner || judgement.verdict == self.verdict || self.verdict != Verdict::Alive {
                return Look::Nothing;
            }
            let at = case.silent_since + case.late_after;
            return Look::Change(self.change(judgement, at, Trigger::Deadline));
        }
        if let (Testimony::NoProcessNamed, Some(process)) = (&case.testimony, &self.process) {
            self.asked_at = Some(now);
            return Look::AskProbe(process.as_ref().clone());
        }
        self.decide(home, observer, None, now).map_or(Look::Nothing, Look::Change)
    }

    /// The probe has answered the question of [`Look::AskProbe`].
    pub fn answered(
        &mut self,
        home: &Home,
        observer: &Observer,
        answer: &ProbeAnswer,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        let asked_at = self.asked_at.take()?;
        if self.ended || self.last_heard.is_some_and(|(at, _)| at > asked_at) {
            return None;
        }
        self.decide(home, observer, Some(answer), now)
    }

    fn decide(
        &mut self,
        home: &Home,
        observer: &Observer,
        answer: Option<&ProbeAnswer>,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        let case = self.case(home, observer, answer);
        let judgement = judge_after_deadline(&case, now);
        if judgement.verdict == self.verdict {
            return None;
        }
        let first = matches!(self.verdict, Verdict::Alive | Verdict::Late | Verdict::Unknown);
        let (at, trigger) = if first && judgement.verdict != Verdict::Unknown {
            ((case.silent_since + case.deadline).min(now), Trigger::Deadline)
        } else {
            (now, Trigger::Probe)
        };
        Some(self.change(judgement, at, trigger))
    }

    fn hear_goodbye(&mut self, beat: &Beat, incarnation: Incarnation) -> Option<Box<Transition>> {
        if self.incarnation.is_some_and(|known| incarnation < known) {
            return None;
        }
        self.incarnation = Some(incarnation);
        self.last_heard = Some((beat.at, beat.wall));
        self.ended = true;
        self.asked_at = None;
        (self.verdict != Verdict::Ended).then(|| self.change(judge_goodbye(), beat.at, Trigger::Goodbye))
    }

    /// Readings and heartbeats of an earlier life (a replayed backlog), or of the life that has
    /// already said goodbye (overtaken by it), are no signs of life.
    fn is_from_a_past_life(&self, incarnation: Option<Incarnation>) -> bool {
        match (incarnation, self.incarnation) {
            (Some(speaks), Some(known)) => speaks < known || (self.ended && speaks == known),
            _ => false,
        }
    }

    fn silent_since(&self, observer: &Observer) -> Monotonic {
        self.last_heard.map_or(self.watched_since, |(at, _)| at).max(observer.hears_since())
    }

    fn case<'a>(&'a self, home: &Home, observer: &'a Observer, answer: Option<&'a ProbeAnswer>) -> Case<'a> {
        let ours = self.host == home.host
            || self.process.as_ref().is_some_and(|process| Some(&process.boot_id) == home.boot_id.as_ref());
        let testimony = match answer {
            Some(answer) => Testimony::Probe(answer),
            None if self.process.is_some() && !ours => Testimony::OtherHost,
            None => Testimony::NoProcessNamed,
        };
        Case {
            host: &self.host,
            last_heard: self.last_heard,
            silent_since: self.silent_since(observer),
            late_after: late_after(self.interval, self.deadline),
            deadline: self.deadline,
            deaf: (!observer.hears()).then(|| observer.reason()),
            process: self.process.as_deref(),
            testimony,
        }
    }

    fn change(&mut self, judgement: Judgement, at: Monotonic, trigger: Trigger) -> Box<Transition> {
        let from = std::mem::replace(&mut self.verdict, judgement.verdict);
        Box::new(Transition { from, judgement, at, trigger })
    }
}

#[cfg(test)]
mod tests;
