//! What the watchdog knows of one publisher, as a state machine without a clock.
//!
//! The watchdog actor calls [`Watch::hear`] for every sign of life, [`Watch::look`] when the time that
//! [`Watch::look_again_at`] named has come, and [`Watch::answered`] with what the probe said. A sign of
//! life only moves `last_heard`; the timer notices lazily that it has to run on.
//!
//! Invariants:
//! - a publisher whose process is there, heard within its deadline by a monitor that hears, is never
//!   `dead`; only direct evidence about its process can say so earlier;
//! - an answer older than the last sign of life decides nothing, unless it says that the process is
//!   gone: that cannot be taken back;
//! - what a dead process had still sent does not revive it.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::beat::{Beat, BeatKind, Heartbeat};
use crate::domain::boot::BootId;
use crate::domain::deadline::{DeadlineKind, DeadlineRule, Fit, late_after};
use crate::domain::judge::{
    Case, CpuProgress, Judgement, Testimony, judge_after_deadline, judge_goodbye, judge_heard, judge_moving,
    judge_process, judge_silence, judge_stuck,
};
use crate::domain::observer::Observer;
use crate::domain::process::{AskedFor, ProbeAnswer, ProcessExit, ProcessIdentity, ProcessState};
use crate::domain::publisher::{HostName, Incarnation, PublisherId};
use crate::domain::time::{Monotonic, Span, Timestamp};
use crate::domain::verdict::{Trigger, Verdict};

/// The host and boot that the monitor itself runs on: only processes there can be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Our host's name.
    pub host: HostName,
    /// Our boot; none where the system does not tell.
    pub boot_id: Option<BootId>,
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

/// What is to be done about a publisher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Its verdict changes.
    pub change: Option<Box<Transition>>,
    /// The probe is to be asked about this process; then call [`Watch::answered`].
    pub ask: Option<ProcessIdentity>,
    /// Where it was until now, when it has just named another host or process.
    pub was: Option<Box<Whereabouts>>,
}

/// Where a publisher runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its host.
    pub host: Arc<HostName>,
    /// Its process, where it had named one.
    pub process: Option<ProcessIdentity>,
}

/// What is behind a judgement besides the publisher itself.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Our host and boot.
    pub home: &'a Home,
    /// What the monitor knows of its own ears.
    pub observer: &'a Observer,
    /// Why silence of many at once is rather our fault; none when it is not.
    pub doubt: Option<&'a str>,
    /// The agent of the publisher's own boot, where there is one that can be asked.
    pub agent: Option<&'a PublisherId>,
}

/// The source's position, and since when it has been there without being idle.
#[derive(Debug, Clone, Copy)]
struct Position {
    sequence: u64,
    cursor: u64,
    since: Monotonic,
}

/// A process that was found to have ended.
#[derive(Debug, Clone, Copy)]
struct Death {
    incarnation: Option<Incarnation>,
    at: Monotonic,
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
    verdict: Verdict,
    process: Option<ProcessIdentity>,
    looked_at: Option<Monotonic>,
    position: Option<Position>,
    trouble: Option<Box<Trouble>>,
}

/// What only a publisher has of whom there was something to ask or to be told.
#[derive(Debug, Clone, Default)]
struct Trouble {
    asked: Option<(AskedFor, Monotonic)>,
    cpu: Option<(Duration, Monotonic)>,
    exit: Option<ProcessExit>,
    death: Option<Death>,
    last_will: Option<Timestamp>,
    lease_ended: Option<Timestamp>,
}

impl Watch {
    /// A publisher that is expected, or known from before, and has not been heard by this monitor.
    #[must_use]
    pub fn expected(host: impl Into<Arc<HostName>>, rule: impl Into<DeadlineRule>, now: Monotonic) -> Self {
        let rule = rule.into();
        Self {
            host: host.into(),
            deadline: rule.kind.initial().into(),
            fit: Fit::of(rule, now),
            interval: None,
            watched_since: now,
            last_heard: None,
            incarnation: Incarnation(0),
            has_incarnation: false,
            heard_before: false,
            ended: false,
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

    /// Its verdict as it stands.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Its host.
    #[must_use]
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

    fn trouble(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    /// Its process, where it has named one.
    #[must_use]
    pub fn process(&self) -> Option<&ProcessIdentity> {
        self.process.as_ref()
    }

    /// Its process, when it runs on our host and in our PID namespace, so that it can be asked after.
    #[must_use]
    pub fn process_here(&self, home: &Home) -> Option<&ProcessIdentity> {
        self.process.as_ref().filter(|process| match &home.boot_id {
            Some(ours) if process.boot_id.is_same_boot(ours) => process.boot_id == *ours,
            _ => *self.host == home.host,
        })
    }

    /// The boot that its process belongs to, where it has named one.
    #[must_use]
    pub const fn boot(&self) -> Option<&BootId> {
        match &self.process {
            Some(process) => Some(&process.boot_id),
            None => None,
        }
    }

    /// Its process, when somebody can be asked after it: we ourselves, or the agent there.
    fn process_to_ask(&self, around: Surroundings<'_>) -> Option<&ProcessIdentity> {
        self.process_here(around.home).or_else(|| around.agent.and(self.process.as_ref()))
    }

    /// Has the processor fetch all that a sign of life needs, from every line of its cache that holds some of it.
    pub fn touch(&self) {
        let (process, position) = (self.process.is_some(), self.position.is_some());
        std::hint::black_box((process, position, self.last_heard, self.incarnation, self.deadline, self.verdict));
    }

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

    /// The configuration has changed. What was learned of its arrivals stays.
    pub fn set_deadline(&mut self, rule: impl Into<DeadlineRule>) {
        let rule = rule.into();
        self.fit = Fit::under(self.fit.as_deref(), rule, self.watched_since);
        let interval = self.interval();
        self.deadline = match &mut self.fit {
            Some(fit) => fit.heard(None, interval),
            None => rule.kind.initial(),
        }
        .into();
    }

    /// Whether it has been silent for longer than is usual.
    #[must_use]
    pub fn is_late(&self, observer: &Observer, now: Monotonic) -> bool {
        !self.ended && now >= self.late_at(observer)
    }

    /// A sign of life came.
    pub fn hear(&mut self, beat: &Beat, around: Surroundings<'_>) -> Outcome {
        let life_before = self.incarnation();
        let mut was = None;
        match &beat.kind {
            BeatKind::Goodbye { incarnation } => return self.hear_goodbye(beat, *incarnation),
            BeatKind::LastWill { incarnation } => return self.hear_last_will(beat, *incarnation, around),
            BeatKind::Readings { incarnation } => {
                if self.is_from_a_past_life(*incarnation, beat.at) {
                    return Outcome::default();
                }
                if incarnation.is_some() && *incarnation > life_before {
                    // Which process this life is in, only a heartbeat tells: the known one is of another.
                    was = self.process.is_some().then(|| Box::new(self.whereabouts()));
                    (self.process, self.position) = (None, None);
                    if let Some(trouble) = &mut self.trouble {
                        trouble.cpu = None;
                    }
                }
                if let Some(incarnation) = incarnation {
                    self.set_incarnation(*incarnation);
                }
            }
            BeatKind::Heartbeat(heartbeat) => {
                if self.is_from_a_past_life(Some(heartbeat.incarnation), beat.at) {
                    return Outcome::default();
                }
                was = self.hear_heartbeat(heartbeat, beat.at);
            }
        }
        if *self.host != beat.host {
            was.get_or_insert_with(|| Box::new(self.whereabouts()));
            self.host = Arc::new(beat.host.clone());
        }
        let silent_before = self.last_heard.map(|(at, _)| beat.at.since(at));
        self.fit_deadline(beat.at, life_before, around.observer);
        self.last_heard = Some((self.last_heard.map_or(beat.at, |(at, _)| at.max(beat.at)), beat.wall));
        self.ended = false;
        if let Some(trouble) = &mut self.trouble {
            (trouble.death, trouble.last_will, trouble.lease_ended) = (None, None, None);
        }
        let change = self.judge_position(beat, silent_before);
        Outcome { change, ask: None, was }
    }

    /// When to [`Watch::look`] again; `None` while there is nothing to wait for.
    #[must_use]
    pub fn look_again_at(&self, observer: &Observer) -> Option<Monotonic> {
        if self.ended {
            return None;
        }
        let (late_at, deadline_at) = (self.late_at(observer), self.deadline_at(observer));
        match self.looked_at {
            None => Some(late_at),
            Some(looked_at) if looked_at < late_at => Some(late_at),
            Some(looked_at) if looked_at < deadline_at => Some(deadline_at),
            // Doubt is looked at again soon: it ends when the others are heard.
            Some(looked_at) if self.verdict == Verdict::Unknown => Some(looked_at + self.deadline().min(DOUBT_AGAIN)),
            Some(looked_at) => Some(looked_at + self.deadline()),
        }
    }

    /// Its time has come.
    pub fn look(&mut self, around: Surroundings<'_>, now: Monotonic) -> Outcome {
        if self.ended {
            return Outcome::default();
        }
        self.looked_at = Some(now);
        // Most looks find that it was heard since they were set: they need no words.
        if now < self.late_at(around.observer).min(self.deadline_at(around.observer)) {
            return Outcome::default();
        }
        let case = self.case(around, None, now);
        let judgement = judge_silence(&case, now);
        let late_at = case.late_at;
        let here = self.process_to_ask(around).cloned();
        let Some(judgement) = judgement else {
            return match here {
                Some(process) => self.ask(AskedFor::Deadline, process, now),
                None => Outcome { change: self.decide(around, None, now), ..Outcome::default() },
            };
        };
        if judgement.verdict != Verdict::Late || self.last_heard.is_none() {
            return Outcome::default();
        }
        let mut outcome = match here {
            // How much CPU time it has used by now tells at the deadline whether it hangs.
            Some(process) => self.ask(AskedFor::Lateness, process, now),
            _ => Outcome::default(),
        };
        if self.verdict == Verdict::Alive {
            outcome.change = Some(self.change(judgement, late_at, Trigger::Deadline));
        }
        outcome
    }

    /// The probe has answered the question that [`Outcome::ask`] asked. An answer about another process
    /// than [`Watch::process`] is not for it: whoever carries answers drops that one.
    pub fn answered(
        &mut self,
        around: Surroundings<'_>,
        answer: &ProbeAnswer,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        let (asked_for, asked_at) = self.trouble.as_mut()?.asked.take()?;
        if self.ended {
            return None;
        }
        let heard_since = self.last_heard.is_some_and(|(at, _)| at > asked_at);
        let ends = matches!(answer.state, ProcessState::Gone | ProcessState::Zombie | ProcessState::Replaced { .. });
        if heard_since && !ends {
            return None;
        }
        let transition = match asked_for {
            // The deadline may have moved since the question: the monitor stood still, or was deaf.
            AskedFor::Deadline if !heard_since && now >= self.deadline_at(around.observer) => {
                self.decide(around, Some(answer), now)
            }
            _ => self.decide_by_process(around, asked_for, answer, now),
        };
        if let Some(cpu_time) = answer.cpu_time {
            self.trouble().cpu = Some((cpu_time, now));
        }
        transition
    }

    /// The kernel reported the end of a process, and the probe has looked at what is left of it.
    pub fn exited(
        &mut self,
        around: Surroundings<'_>,
        process: &ProcessIdentity,
        answer: &ProbeAnswer,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        if self.ended || self.process.as_ref() != Some(process) {
            return None;
        }
        self.decide_by_process(around, AskedFor::Exit, answer, now)
    }

    /// Its parent tells how its process ended. After a signal no goodbye can come any more, so that
    /// decides at once; otherwise it is kept as evidence until [`Watch::exited`].
    pub fn parent_told(
        &mut self,
        around: Surroundings<'_>,
        exit: ProcessExit,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        let is_ours = self.process.as_ref().is_some_and(|process| process.pid == exit.pid);
        let answer = ProbeAnswer { state: ProcessState::Gone, cpu_time: None, looked_at: exit.at };
        let by_signal = exit.signal.is_some();
        self.trouble().exit = Some(exit);
        if self.ended || !is_ours || !by_signal {
            return None;
        }
        self.decide_by_process(around, AskedFor::Exit, &answer, now)
    }

    fn hear_heartbeat(&mut self, heartbeat: &Heartbeat, at: Monotonic) -> Option<Box<Whereabouts>> {
        self.set_incarnation(heartbeat.incarnation);
        self.interval = Some(heartbeat.interval.into());
        let mut was = None;
        if heartbeat.process != self.process {
            was = Some(Box::new(self.whereabouts()));
            self.process.clone_from(&heartbeat.process);
            self.position = None;
            if let Some(trouble) = &mut self.trouble {
                // An answer on its way is about the process before.
                (trouble.cpu, trouble.asked) = (None, None);
            }
        }
        let Heartbeat { sequence, cursor, idle, .. } = *heartbeat;
        // What it did while nothing was heard of it is not known: the count starts again.
        let unheard = self.last_heard.is_some_and(|(heard, _)| at.since(heard) >= self.late_after());
        let moved = self.position.is_none_or(|before| (before.sequence, before.cursor) != (sequence, cursor));
        let since = match self.position {
            Some(before) if !moved && !idle && !unheard => before.since,
            _ => at,
        };
        self.position = Some(Position { sequence, cursor, since });
        was
    }

    /// Alive, or beating without advancing.
    fn judge_position(&mut self, beat: &Beat, silent_before: Option<Duration>) -> Option<Box<Transition>> {
        let beats = matches!(beat.kind, BeatKind::Heartbeat(_));
        if let Some(position) = self.position.filter(|_| beats) {
            let still_for = beat.at.since(position.since);
            let stuck_after = self.deadline_kind().stuck_after(self.deadline());
            let stuck_at = (position.since + stuck_after).max(self.grace_until());
            if beat.at >= stuck_at {
                if self.verdict == Verdict::Hung {
                    return None;
                }
                let judgement = judge_stuck(position.cursor, still_for, stuck_after);
                return Some(self.change(judgement, stuck_at, Trigger::Heartbeat));
            }
            let was_stuck = self.verdict == Verdict::Hung && silent_before.is_some_and(|gap| gap < self.deadline());
            if was_stuck {
                let judgement = judge_moving(still_for.max(self.deadline()));
                return Some(self.change(judgement, beat.at, Trigger::Heartbeat));
            }
        }
        if self.verdict == Verdict::Alive {
            return None;
        }
        Some(self.change(judge_heard(silent_before), beat.at, Trigger::Heartbeat))
    }

    fn hear_goodbye(&mut self, beat: &Beat, incarnation: Incarnation) -> Outcome {
        if self.incarnation().is_some_and(|known| incarnation < known) {
            return Outcome::default();
        }
        self.set_incarnation(incarnation);
        self.last_heard = Some((beat.at, beat.wall));
        self.ended = true;
        if let Some(trouble) = &mut self.trouble {
            trouble.asked = None;
        }
        let change = (self.verdict != Verdict::Ended).then(|| self.change(judge_goodbye(), beat.at, Trigger::Goodbye));
        Outcome { change, ..Outcome::default() }
    }

    /// A hint that makes us look at once, never a verdict by itself: last wills can be stale or late.
    fn hear_last_will(&mut self, beat: &Beat, incarnation: Incarnation, around: Surroundings<'_>) -> Outcome {
        if self.ended || self.incarnation().is_some_and(|known| incarnation != known) {
            return Outcome::default();
        }
        self.trouble().last_will = Some(beat.wall);
        match self.process_to_ask(around).cloned() {
            Some(process) => self.ask(AskedFor::LastWill, process, beat.at),
            None => Outcome::default(),
        }
    }

    /// The lease of its host's agent ended: a hint that makes us look at once, never a verdict by itself. An agent
    /// that was cut off from etcd has lost its lease, too.
    pub fn lease_ended(&mut self, around: Surroundings<'_>, now: Monotonic, wall: Timestamp) -> Outcome {
        if self.ended {
            return Outcome::default();
        }
        self.trouble().lease_ended = Some(wall);
        match self.process_to_ask(around).cloned() {
            Some(process) => self.ask(AskedFor::Lease, process, now),
            // Nobody can be asked: there is only its silence, which has its time.
            None => Outcome::default(),
        }
    }

    fn ask(&mut self, asked_for: AskedFor, process: ProcessIdentity, now: Monotonic) -> Outcome {
        // A question of less weight never takes the place of one that a verdict waits for.
        let trouble = self.trouble();
        if asked_for != AskedFor::Deadline && matches!(trouble.asked, Some((AskedFor::Deadline, _))) {
            return Outcome::default();
        }
        trouble.asked = Some((asked_for, now));
        Outcome { ask: Some(process), ..Outcome::default() }
    }

    fn decide(
        &mut self,
        around: Surroundings<'_>,
        answer: Option<&ProbeAnswer>,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        let case = self.case(around, answer, now);
        let judgement = judge_after_deadline(&case, now);
        if judgement.verdict == self.verdict {
            return None;
        }
        let first = matches!(self.verdict, Verdict::Alive | Verdict::Late | Verdict::Unknown);
        let (at, trigger) = if first && judgement.verdict != Verdict::Unknown {
            ((case.silent_since + case.deadline).max(self.grace_until()).min(now), Trigger::Deadline)
        } else {
            (now, Trigger::Probe)
        };
        Some(self.change(judgement, at, trigger))
    }

    /// What the process alone says, before any deadline.
    fn decide_by_process(
        &mut self,
        around: Surroundings<'_>,
        asked_for: AskedFor,
        answer: &ProbeAnswer,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        let case = self.case(around, Some(answer), now);
        let judgement = judge_process(&case, now)?;
        if judgement.verdict == self.verdict {
            return None;
        }
        let trigger = match asked_for {
            AskedFor::Exit => Trigger::ProcessExit,
            AskedFor::LastWill => Trigger::LastWill,
            AskedFor::Lease => Trigger::Lease,
            AskedFor::Lateness | AskedFor::Deadline => Trigger::Probe,
        };
        Some(self.change(judgement, now, trigger))
    }

    /// What is no sign of life: readings and heartbeats of an earlier life (a replayed backlog), of the
    /// life that has said goodbye (overtaken by it), or of a process that was just found to have ended
    /// (still on their way). If the latter go on coming, it was another process that ended: believe them.
    fn is_from_a_past_life(&self, incarnation: Option<Incarnation>, at: Monotonic) -> bool {
        let (Some(speaks), Some(known)) = (incarnation, self.incarnation()) else { return false };
        let death = self.trouble.as_ref().and_then(|trouble| trouble.death);
        let on_its_way =
            death.is_some_and(|death| death.incarnation == Some(speaks) && at.since(death.at) < self.late_after());
        speaks < known || (speaks == known && (self.ended || on_its_way))
    }

    /// The deadline learns from a sign of life, when the silence before it was the publisher's own: not
    /// ours, not that of a process that was stopped or had ended, not the gap between two lives.
    fn fit_deadline(&mut self, at: Monotonic, life_before: Option<Incarnation>, observer: &Observer) {
        let (incarnation, interval) = (self.incarnation(), self.interval());
        let Some(fit) = &mut self.fit else { return };
        let is_new_life = incarnation != life_before || self.last_heard.is_none();
        if is_new_life {
            fit.started(at);
        }
        let tells = matches!(self.verdict, Verdict::Alive | Verdict::Late | Verdict::Silent);
        let after = self
            .last_heard
            .filter(|(heard, _)| tells && !is_new_life && *heard >= observer.hears_since())
            .map(|(heard, _)| at.since(heard));
        self.deadline = fit.heard(after, interval).into();
    }

    fn grace_until(&self) -> Monotonic {
        self.fit.as_ref().map_or(Monotonic::START, |fit| fit.grace_until())
    }

    /// From when on its silence is longer than is usual, unless it is heard before.
    #[must_use]
    pub fn late_at(&self, observer: &Observer) -> Monotonic {
        (self.silent_since(observer) + self.late_after()).max(self.grace_until())
    }

    /// How much silence makes it late.
    fn late_after(&self) -> Duration {
        late_after(self.interval(), self.deadline())
    }

    fn deadline_at(&self, observer: &Observer) -> Monotonic {
        (self.silent_since(observer) + self.deadline()).max(self.grace_until()).max(observer.settled_at())
    }

    fn silent_since(&self, observer: &Observer) -> Monotonic {
        self.last_heard.map_or(self.watched_since, |(at, _)| at).max(observer.hears_since())
    }

    fn case<'a>(&'a self, around: Surroundings<'a>, answer: Option<&'a ProbeAnswer>, now: Monotonic) -> Case<'a> {
        let testimony = match answer {
            Some(answer) => Testimony::Probe(answer),
            None => match (&self.process, &around.home.boot_id) {
                // It will be asked after: nothing can be said yet.
                (Some(_), _) if self.process_to_ask(around).is_some() => Testimony::NoProcessNamed,
                (Some(process), Some(ours)) if process.boot_id.is_same_boot(ours) => Testimony::OtherContainer,
                (Some(_), _) => Testimony::OtherHost,
                (None, _) => Testimony::NoProcessNamed,
            },
        };
        let cpu_time = answer.and_then(|answer| answer.cpu_time);
        let trouble = self.trouble.as_deref();
        let cpu = cpu_time.zip(trouble.and_then(|trouble| trouble.cpu)).map(|(cpu_time, (before, at))| CpuProgress {
            used: cpu_time.saturating_sub(before),
            within: now.since(at),
        });
        Case {
            host: &self.host,
            last_heard: self.last_heard,
            heard_before: self.heard_before,
            silent_since: self.silent_since(around.observer),
            late_after: self.late_after(),
            deadline: self.deadline(),
            late_at: self.late_at(around.observer),
            deadline_at: self.deadline_at(around.observer),
            basis: self.deadline_basis(),
            doubt: if around.observer.hears() { around.doubt } else { Some(around.observer.reason()) },
            process: self.process.as_ref(),
            testimony,
            agent: around.agent.filter(|_| self.process_here(around.home).is_none()),
            exit: trouble.and_then(|trouble| trouble.exit.as_ref()),
            cpu,
            last_will: trouble.and_then(|trouble| trouble.last_will),
            lease_ended: trouble.and_then(|trouble| trouble.lease_ended),
        }
    }

    fn change(&mut self, judgement: Judgement, at: Monotonic, trigger: Trigger) -> Box<Transition> {
        if judgement.verdict == Verdict::Dead {
            let incarnation = self.incarnation();
            self.trouble().death = Some(Death { incarnation, at });
        }
        let from = std::mem::replace(&mut self.verdict, judgement.verdict);
        Box::new(Transition { from, judgement, at, trigger })
    }
}

/// How soon a doubt is looked at again, at the latest.
const DOUBT_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
