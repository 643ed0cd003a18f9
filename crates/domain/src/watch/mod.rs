//! What the watchdog knows of one publisher, as a state machine without a clock.
//!
//! The watchdog actor calls [`Watch::hear`] for every sign of life, [`Watch::look`] when the time that
//! [`Watch::look_again_at`] named has come, and [`Watch::answered`] with what the probe said. A sign of
//! life only moves `last_heard`; the timer notices lazily that it has to run on. Here is what is known; what
//! signs of life make of it is in `hearing`, what silence and answers do in `inquiry`, its times in `schedule`.
//!
//! Invariants:
//! - a publisher whose process is there, heard within its deadline by a monitor that hears, is never
//!   `dead`; only direct evidence about its process can say so earlier;
//! - an answer older than the last sign of life decides nothing, unless it says that the process is
//!   gone: that cannot be taken back;
//! - what a dead process had still sent does not revive it, however long it was on its way, nor what somebody had sent
//!   before a goodbye; signs of its life that go on refute both, because anybody can be mistaken about an end.

use std::sync::Arc;
use std::time::Duration;

use crate::beat::Way;
use crate::boot::BootId;
use crate::deadline::{DeadlineRule, Fit};
use crate::judge::Judgement;
use crate::process::{AskedFor, ProcessExit, ProcessIdentity};
use crate::publisher::{HostName, Incarnation};
use crate::self_check::HeardOn;
use crate::time::{Monotonic, Span, Timestamp};
use crate::verdict::{Trigger, Verdict};

mod context;
mod outcome;
mod probing;
mod rival;
mod schedule;
mod signals;
pub use self::context::{LocalHost, WatchContext};
pub use self::outcome::{Transition, WatchOutcome, Whereabouts};

/// The source's position, and since when it has been there without being idle.
#[derive(Debug, Clone, Copy)]
struct Position {
    sequence: u64,
    cursor: u64,
    since: Monotonic,
}

/// The end of a life: its process was found to have ended, or it said goodbye.
#[derive(Debug, Clone, Copy)]
struct Ending {
    at: Monotonic,
    /// The first and the last sign of that life which came too late to have just been on its way.
    heard: Option<(Monotonic, Monotonic)>,
    /// After its goodbye its process ended, too: nothing that still comes can be from it.
    is_certain: bool,
    said_goodbye: bool,
}

impl Ending {
    const fn of(at: Monotonic) -> Self {
        Self { at, heard: None, is_certain: false, said_goodbye: false }
    }

    /// Takes in a sign of the life that has ended; whether they go on. What has waited somewhere, at a broker or in a network that
    /// was cut, comes in one burst, however late; so one sign is not believed, nor many at once. Those that come `apart`
    /// from each other, at most, belong together.
    fn goes_on(&mut self, at: Monotonic, late_after: Duration, apart: Duration) -> bool {
        if self.is_certain || at.since(self.at) < late_after {
            return false;
        }
        let first = self.heard.filter(|(_, last)| at.since(*last) <= apart).map_or(at, |(first, _)| first);
        self.heard = Some((first, at));
        at.since(first) >= late_after
    }
}

/// What the watchdog knows of one publisher. There may be a million: what a beat needs is in here and small,
/// what only few have is behind a pointer.
#[derive(Debug, Clone)]
pub struct Watch {
    host: Arc<HostName>,
    deadline: Span,
    fit: Option<Box<Fit>>,
    interval: Option<Span>,
    watched_since: Monotonic,
    last_heard: Option<(Monotonic, Timestamp)>,
    /// See [`Watch::incarnation`].
    incarnation: Incarnation,
    has_incarnation: bool,
    heard_before: bool,
    ended: bool,
    /// Whether it runs in the monitor's own process.
    is_inside: bool,
    /// On which way it was heard last.
    way: Way,
    verdict: Verdict,
    process: Option<ProcessIdentity>,
    looked_at: Option<Monotonic>,
    position: Option<Position>,
    trouble: Option<Box<ProbeState>>,
}

/// What only a publisher has of whom there was something to ask or to be told.
#[derive(Debug, Clone, Default)]
struct ProbeState {
    asked: Option<(AskedFor, Monotonic)>,
    cpu: Option<(Duration, Monotonic)>,
    exit: Option<ProcessExit>,
    ending: Option<Ending>,
    rival: Option<Box<rival::Rival>>,
    /// The number of the user that its process runs as.
    user: Option<u32>,
    /// Another way on which it was heard, and when it was last.
    other_way: Option<(Way, Monotonic)>,
    last_will: Option<Timestamp>,
    lease_ended: Option<Timestamp>,
    /// When its process was first seen to go on after it had been stopped.
    resumed_at: Option<Monotonic>,
    /// For how long its outbox had stood, and when it said so, where its last heartbeat did.
    outbox_stalled: Option<(Duration, Monotonic)>,
}

impl Watch {
    /// A publisher that is expected, or known from before, and has not been heard by this monitor.
    #[must_use]
    pub fn expected(host: impl Into<Arc<HostName>>, rule: impl Into<DeadlineRule>, now: Monotonic) -> Self {
        let rule = rule.into();
        Self {
            host: host.into(),
            deadline: rule.kind.initial().into(),
            fit: Fit::of(rule, None, now),
            interval: None,
            watched_since: now,
            last_heard: None,
            incarnation: Incarnation(0),
            has_incarnation: false,
            heard_before: false,
            ended: false,
            is_inside: false,
            way: Way::Mqtt,
            verdict: Verdict::Unknown,
            process: None,
            looked_at: None,
            position: None,
            trouble: None,
        }
    }

    /// A publisher whose last verdict and process an earlier run of the monitor has recorded.
    #[must_use]
    pub fn remembered(
        host: impl Into<Arc<HostName>>,
        rule: impl Into<DeadlineRule>,
        verdict: Verdict,
        process: Option<ProcessIdentity>,
        now: Monotonic,
    ) -> Self {
        let ended = verdict == Verdict::Ended;
        let heard_before = verdict != Verdict::NeverStarted;
        Self { verdict, ended, heard_before, process, ..Self::expected(host, rule, now) }
    }

    /// Whether it runs in the monitor's own process: only then is that its process.
    pub const fn set_inside(&mut self, is_inside: bool) {
        self.is_inside = is_inside;
    }

    /// Its verdict as it stands.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    #[must_use]
    /// Where the publisher was last heard from.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// Its host and its process, to be kept beside it.
    #[must_use]
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts { host: Arc::clone(&self.host), process: self.process.clone() }
    }

    /// The life of it that was heard last, where it has told. In two fields, which are smaller than an `Option`.
    fn incarnation(&self) -> Option<Incarnation> {
        self.has_incarnation.then_some(self.incarnation)
    }

    fn set_incarnation(&mut self, incarnation: Incarnation) {
        (self.incarnation, self.has_incarnation) = (incarnation, true);
    }

    fn trouble(&mut self) -> &mut ProbeState {
        self.trouble.get_or_insert_default()
    }

    /// Its process, where it has named one.
    #[must_use]
    pub fn process(&self) -> Option<&ProcessIdentity> {
        self.process.as_ref()
    }

    /// Its process, when it runs on our host, in our PID namespace or in one that we see into, and can be its own, so that it can
    /// be asked after.
    #[must_use]
    pub fn process_here(&self, home: &LocalHost) -> Option<&ProcessIdentity> {
        let process = self.process.as_ref().filter(|process| self.is_here(process, home))?;
        self.not_its_own(home).is_none().then_some(process)
    }

    fn is_here(&self, process: &ProcessIdentity, home: &LocalHost) -> bool {
        match &home.boot_id {
            Some(ours) if process.boot_id.is_same_boot(ours) => {
                process.boot_id == *ours || process.boot_id.namespace_below(ours).is_some()
            }
            _ => *self.host == home.host,
        }
    }

    /// What the process is that it names, when that says nothing about the publisher: the first one of our PID namespace, which
    /// starts the others, and the monitor's own, unless the publisher runs inside it.
    #[must_use]
    pub fn not_its_own(&self, home: &LocalHost) -> Option<&'static str> {
        let process = self.process.as_ref().filter(|_| !self.is_inside)?;
        let is_ours = match &home.boot_id {
            Some(ours) => process.boot_id == *ours,
            None => *self.host == home.host,
        };
        match process.pid {
            _ if !is_ours => None,
            pid if Some(pid) == home.pid => Some("the monitor's own process"),
            1 => Some("the first process of the monitor's PID namespace"),
            _ => None,
        }
    }

    /// The boot that its process belongs to, where it has named one.
    #[must_use]
    pub const fn boot(&self) -> Option<&BootId> {
        match &self.process {
            Some(process) => Some(&process.boot_id),
            None => None,
        }
    }

    /// Has the processor fetch all that a sign of life needs, from every line of its cache that holds some of it.
    pub fn prefetch(&self) {
        let (process, position) = (self.process.is_some(), self.position.is_some());
        std::hint::black_box((process, position, self.last_heard, self.incarnation, self.deadline, self.verdict));
    }

    /// On which ways it was heard last; none before the first.
    #[must_use]
    pub fn heard_on(&self) -> Option<HeardOn> {
        let (heard, _) = self.last_heard?;
        let other = self.trouble.as_ref().and_then(|trouble| trouble.other_way);
        let other = other.filter(|(way, at)| *way != self.way && heard.since(*at) <= self.deadline());
        Some((self.way, other.map(|(way, _)| way)))
    }

    /// Notes on which way it is heard, before that counts as its last sign of life.
    fn heard_over(&mut self, way: Way) {
        let before = std::mem::replace(&mut self.way, way);
        if let (true, Some((at, _))) = (before != way, self.last_heard) {
            self.trouble().other_way = Some((before, at));
        }
    }

    /// When it was last heard.
    #[must_use]
    pub const fn last_heard(&self) -> Option<(Monotonic, Timestamp)> {
        self.last_heard
    }

    /// Whether it said goodbye.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    fn change(&mut self, judgement: Judgement, at: Monotonic, trigger: Trigger) -> Box<Transition> {
        if judgement.verdict == Verdict::Dead {
            self.trouble().ending = Some(Ending::of(at));
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.resumed_at = None;
        }
        let from = std::mem::replace(&mut self.verdict, judgement.verdict);
        Box::new(Transition { from, judgement, at, trigger })
    }
}

#[cfg(test)]
mod tests;
