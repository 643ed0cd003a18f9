//! The times of one publisher: from when on it is late, until when it may be silent, when to look again.

use std::time::Duration;

use super::Watch;
use crate::deadline::{DeadlineKind, DeadlineRule, Fit, late_after};
use crate::publisher::Incarnation;
use crate::self_check::SelfCheck;
use crate::time::{Monotonic, Span};
use crate::verdict::Verdict;

/// How soon a doubt is looked at again, at the latest.
const DOUBT_AGAIN: Duration = Duration::from_secs(1);

impl Watch {
    /// Its deadline as it stands.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline.get()
    }

    /// How its deadline is found.
    #[must_use]
    pub fn deadline_kind(&self) -> DeadlineKind {
        self.fit.as_ref().map_or(DeadlineKind::Fixed(self.deadline()), |fit| fit.rule().kind)
    }

    /// What its present deadline rests on, in words; none when it is fixed.
    #[must_use]
    pub fn deadline_basis(&self) -> Option<String> {
        self.fit.as_ref().and_then(|fit| fit.basis(self.interval()))
    }

    /// The interval that it promises, once it has.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.interval.map(Span::get)
    }

    /// The configuration has changed. What was learned of its arrivals stays.
    pub fn set_deadline(&mut self, rule: impl Into<DeadlineRule>) {
        let rule = rule.into();
        let interval = self.interval();
        self.fit = Fit::under(self.fit.as_deref(), rule, interval, self.watched_since);
        self.deadline = match &mut self.fit {
            Some(fit) => fit.heard(None, interval),
            None => rule.kind.initial(),
        }
        .into();
    }

    /// It promises a sign of life at least so often.
    pub(super) fn promises(&mut self, interval: Span) {
        self.interval = Some(interval);
        let interval = self.interval();
        if self.fit.is_none() {
            self.fit = Fit::of(self.deadline().into(), interval, self.watched_since);
        }
        if let Some(fit) = &mut self.fit {
            self.deadline = fit.heard(None, interval).into();
        }
    }

    /// Something else than itself says how often it is heard: a lease that it keeps, its configuration. What it promises
    /// itself, in heartbeats, goes before that.
    pub fn promised_elsewhere(&mut self, interval: Duration) {
        if self.position.is_none() {
            self.promises(interval.into());
        }
    }

    /// Whether it has been silent for longer than is usual, as far as a monitor can tell that hears.
    #[must_use]
    pub fn is_late(&self, observer: &SelfCheck, now: Monotonic) -> bool {
        !self.ended && observer.hears() && now >= self.late_at(observer)
    }

    /// From when on its silence is longer than is usual, unless it is heard before.
    #[must_use]
    pub fn late_at(&self, observer: &SelfCheck) -> Monotonic {
        (self.silent_since(observer) + self.late_after()).max(self.grace_until())
    }

    /// When to [`Watch::look`] again; `None` while there is nothing to wait for.
    #[must_use]
    pub fn look_again_at(&self, observer: &SelfCheck) -> Option<Monotonic> {
        if self.ended {
            return None;
        }
        let late_at = self.late_at(observer);
        let Some(looked_at) = self.looked_at.filter(|looked_at| *looked_at >= late_at) else { return Some(late_at) };
        let deadline_at = self.deadline_at(observer);
        Some(match self.verdict {
            _ if looked_at < deadline_at => deadline_at,
            // Doubt is looked at again soon: it ends when the others are heard.
            Verdict::Unknown => looked_at + self.deadline().min(DOUBT_AGAIN),
            _ => looked_at + self.deadline,
        })
    }

    /// How long its source may stand still.
    pub(super) fn stuck_after(&self) -> Span {
        self.fit.as_ref().map_or(self.deadline, |fit| fit.rule().kind.stuck_after(self.deadline()).into())
    }

    /// How much silence makes it late.
    pub(super) fn late_after(&self) -> Span {
        late_after(self.interval, self.deadline)
    }

    pub(super) fn deadline_at(&self, observer: &SelfCheck) -> Monotonic {
        (self.silent_since(observer) + self.deadline).max(self.grace_until()).max(observer.settled_at())
    }

    pub(super) fn silent_since(&self, observer: &SelfCheck) -> Monotonic {
        observer.counts_from(self.last_heard.map_or(self.watched_since, |(at, _)| at))
    }

    pub(super) fn grace_until(&self) -> Monotonic {
        self.fit.as_ref().map_or(Monotonic::START, |fit| fit.grace_until())
    }

    /// The deadline learns from a sign of life, when the silence before it was the publisher's own: not
    /// ours, not that of a process that was stopped or had ended, not the gap between two lives.
    pub(super) fn fit_deadline(&mut self, at: Monotonic, life_before: Option<Incarnation>, observer: &SelfCheck) {
        let (incarnation, interval) = (self.incarnation(), self.interval());
        let Some(fit) = &mut self.fit else { return };
        let is_new_life = incarnation != life_before || self.last_heard.is_none();
        if is_new_life {
            fit.started(at);
        }
        let tells = matches!(self.verdict, Verdict::Alive | Verdict::Late | Verdict::Silent);
        let after = self
            .last_heard
            .filter(|(heard, _)| tells && !is_new_life && observer.has_heard_since(*heard))
            .map(|(heard, _)| at.since(heard));
        self.deadline = fit.heard(after, interval).into();
    }
}
