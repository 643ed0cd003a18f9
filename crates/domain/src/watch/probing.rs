//! Silence, and what is asked and told of the process meanwhile: here a publisher gets its bad verdicts.

use super::{Ending, Transition, Watch, WatchContext, WatchOutcome};
use crate::judge::{
    Case, CpuProgress, ProcessEvidence, judge_after_deadline, judge_goodbye, judge_process, judge_silence,
};
use crate::process::{AskedFor, ProbeAnswer, ProcessExit, ProcessIdentity, ProcessState};
use crate::time::{Monotonic, Timestamp};
use crate::verdict::{Trigger, Verdict};

impl Watch {
    /// Its time has come.
    pub fn look(&mut self, around: WatchContext<'_>, now: Monotonic) -> WatchOutcome {
        if self.ended {
            return WatchOutcome::default();
        }
        self.looked_at = Some(now);
        // Most looks find that it was heard since they were set: they need no words.
        if now < self.late_at(around.observer).min(self.deadline_at(around.observer)) {
            return WatchOutcome::default();
        }
        let left = self.trouble.as_ref().and_then(|trouble| trouble.ending).filter(|ending| ending.said_goodbye);
        if let Some(left) = left {
            // Whoever was to take its place has not come.
            self.ended = true;
            let change = Some(self.change(judge_goodbye(), left.at, Trigger::Goodbye));
            return WatchOutcome { change, ..WatchOutcome::default() };
        }
        if self.another_is_heard(now) {
            // Who it is that speaks here is not clear yet; that somebody does is.
            return WatchOutcome::default();
        }
        let case = self.case(around, None, now);
        let judgement = judge_silence(&case, now);
        let late_at = case.late_at;
        let here = self.process_to_ask(around).cloned();
        let Some(judgement) = judgement else {
            return match here {
                Some(process) => self.ask(AskedFor::Deadline, process, now),
                None => WatchOutcome { change: self.decide(around, None, now), ..WatchOutcome::default() },
            };
        };
        if judgement.verdict != Verdict::Late || self.last_heard.is_none() || !around.observer.hears() {
            return WatchOutcome::default();
        }
        let mut outcome = match here {
            // How much CPU time it has used by now tells at the deadline whether it hangs.
            Some(process) => self.ask(AskedFor::Lateness, process, now),
            _ => WatchOutcome::default(),
        };
        if self.verdict == Verdict::Alive {
            outcome.change = Some(self.change(judgement, late_at, Trigger::Deadline));
        }
        outcome
    }

    /// The probe has answered the question that [`WatchOutcome::ask`] asked. An answer about another process
    /// than [`Watch::process`] is not for it: whoever carries answers drops that one.
    pub fn answered(
        &mut self,
        around: WatchContext<'_>,
        answer: &ProbeAnswer,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        let (asked_for, asked_at) = self.trouble.as_mut()?.asked.take()?;
        if self.ended {
            return None;
        }
        let heard_since = self.last_heard.is_some_and(|(at, _)| at > asked_at);
        let ends = answer.has_ended();
        // Nobody dies while its own signs go on, whoever says so: the process may not be its own. The end of one that we saw
        // run comes by [`Watch::exited`]; any other is asked after again when it is late.
        if (heard_since && !ends) || (ends && !self.has_ceased(around, now)) {
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
            let heard_at = self.last_heard.map(|(at, _)| at);
            let cpu = &mut self.trouble().cpu;
            // While it is silent and uses none, the first of these looks tells for how long: the last may just have been.
            let stands_still = cpu.is_some_and(|(before, at)| before == cpu_time && Some(at) >= heard_at);
            if !stands_still {
                *cpu = Some((cpu_time, now));
            }
        }
        transition
    }

    /// Somebody had the process looked at, and it has ended. As an answer it counts only when its own signs have ceased.
    pub fn found_ended(
        &mut self,
        around: WatchContext<'_>,
        process: &ProcessIdentity,
        answer: &ProbeAnswer,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        if self.has_ceased(around, now) { self.exited(around, process, answer, now) } else { None }
    }

    /// The kernel reported the end of a process that we saw run, and the probe has looked at what is left of it.
    pub fn exited(
        &mut self,
        around: WatchContext<'_>,
        process: &ProcessIdentity,
        answer: &ProbeAnswer,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        if self.process.as_ref() != Some(process) {
            return None;
        }
        if self.ended {
            self.ended_for_certain(answer.has_ended());
            return None;
        }
        self.decide_by_process(around, AskedFor::Exit, answer, now)
    }

    /// Its parent tells how its process ended. After a signal no goodbye can come any more, so that
    /// decides at once; otherwise it is kept as evidence until [`Watch::exited`].
    pub fn parent_told(
        &mut self,
        around: WatchContext<'_>,
        exit: ProcessExit,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        let is_ours = self.process.as_ref().is_some_and(|process| process.pid == exit.pid);
        let answer =
            ProbeAnswer { state: ProcessState::Gone, cpu_time: None, looked_at: exit.at, host_pid: None, user: None };
        let by_signal = exit.signal.is_some();
        self.trouble().exit = Some(exit);
        if self.ended {
            self.ended_for_certain(is_ours);
        }
        if self.ended || !is_ours || !by_signal {
            return None;
        }
        self.decide_by_process(around, AskedFor::Exit, &answer, now)
    }

    /// The lease of its host's agent ended: a hint that makes us look at once, never a verdict by itself. An agent
    /// that was cut off from etcd has lost its lease, too.
    pub fn lease_ended(&mut self, around: WatchContext<'_>, now: Monotonic, wall: Timestamp) -> WatchOutcome {
        if self.ended {
            return WatchOutcome::default();
        }
        self.trouble().lease_ended = Some(wall);
        match self.process_to_ask(around).cloned() {
            Some(process) => self.ask(AskedFor::Lease, process, now),
            // Nobody can be asked: there is only its silence, which has its time.
            None => WatchOutcome::default(),
        }
    }

    /// The process of a life that said goodbye has ended: no sign of that life can refute the goodbye any more.
    fn ended_for_certain(&mut self, has_ended: bool) {
        if let Some(ending) = self.trouble.as_mut().and_then(|trouble| trouble.ending.as_mut()) {
            ending.is_certain |= has_ended;
        }
    }

    pub(super) fn ask(&mut self, asked_for: AskedFor, process: ProcessIdentity, now: Monotonic) -> WatchOutcome {
        // A question of less weight never takes the place of one that a verdict waits for.
        let trouble = self.trouble();
        if asked_for != AskedFor::Deadline && matches!(trouble.asked, Some((AskedFor::Deadline, _))) {
            return WatchOutcome::default();
        }
        trouble.asked = Some((asked_for, now));
        WatchOutcome { ask: Some(process), ..WatchOutcome::default() }
    }

    fn decide(
        &mut self,
        around: WatchContext<'_>,
        answer: Option<&ProbeAnswer>,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        let judgement = judge_after_deadline(&self.case(around, answer, now), now);
        if judgement.verdict == self.verdict {
            if let Some(trouble) = &mut self.trouble {
                trouble.resumed_at = None;
            }
            return None;
        }
        if self.has_just_resumed(judgement.verdict, now) {
            return None;
        }
        let case = self.case(around, answer, now);
        let first = matches!(self.verdict, Verdict::Alive | Verdict::Late | Verdict::Unknown);
        if judgement.verdict == Verdict::Unknown {
            // A doubt holds a verdict back; it does not take one back that all else still speaks for.
            let undoubted = Case { doubt: None, ..case.clone() };
            if judge_after_deadline(&undoubted, now).verdict == self.verdict {
                return None;
            }
        }
        let (at, trigger) = if first && judgement.verdict != Verdict::Unknown {
            ((case.silent_since + case.deadline).max(self.grace_until()).min(now), Trigger::Deadline)
        } else {
            (now, Trigger::Probe)
        };
        Some(self.change(judgement, at, trigger))
    }

    /// A process that was stopped and goes on has been silent because it was: it has a deadline from when it is first seen to go
    /// on. Until then it stays `stopped`, or is heard.
    fn has_just_resumed(&mut self, to: Verdict, now: Monotonic) -> bool {
        if self.verdict != Verdict::Stopped || !matches!(to, Verdict::Silent | Verdict::Hung) {
            return false;
        }
        let deadline = self.deadline();
        let resumed_at = *self.trouble().resumed_at.get_or_insert(now);
        now < resumed_at + deadline
    }

    /// What the process alone says, before any deadline.
    fn decide_by_process(
        &mut self,
        around: WatchContext<'_>,
        asked_for: AskedFor,
        answer: &ProbeAnswer,
        now: Monotonic,
    ) -> Option<Box<Transition>> {
        let case = self.case(around, Some(answer), now);
        let judgement = judge_process(&case, now)?;
        if judgement.verdict == self.verdict {
            return None;
        }
        if judgement.verdict == Verdict::Dead && self.another_speaks(now) {
            // The id passes to whoever speaks beside it, with their next sign of life; if none comes, it is asked after again.
            self.trouble().ending = Some(Ending::of(now));
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

    /// Its process, when somebody can be asked after it: we ourselves, or the agent there.
    pub(super) fn process_to_ask(&self, around: WatchContext<'_>) -> Option<&ProcessIdentity> {
        let named = self.process.as_ref().filter(|_| self.not_its_own(around.home).is_none());
        self.process_here(around.home).or_else(|| around.agent.and(named))
    }

    fn case<'a>(&'a self, around: WatchContext<'a>, answer: Option<&'a ProbeAnswer>, now: Monotonic) -> Case<'a> {
        let testimony = match answer {
            Some(answer) => ProcessEvidence::Probe(answer),
            None if let Some(what) = self.not_its_own(around.home) => ProcessEvidence::NotItsOwn(what),
            None => match (&self.process, &around.home.boot_id) {
                // It will be asked after: nothing can be said yet.
                (Some(_), _) if self.process_to_ask(around).is_some() => ProcessEvidence::NoProcessNamed,
                (Some(process), Some(ours)) if process.boot_id.is_same_boot(ours) => ProcessEvidence::OtherContainer,
                (Some(_), _) => ProcessEvidence::OtherHost,
                (None, _) => ProcessEvidence::NoProcessNamed,
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
            late_after: self.late_after().get(),
            deadline: self.deadline(),
            late_at: self.late_at(around.observer),
            deadline_at: self.deadline_at(around.observer),
            basis: self.deadline_basis(),
            doubt: if around.observer.hears() { around.doubt } else { Some(around.observer.reason()) },
            process: self.process.as_ref(),
            testimony,
            agent: around.agent.filter(|_| self.process_here(around.home).is_none()),
            other_agent: around.other_agent,
            exit: trouble.and_then(|trouble| trouble.exit.as_ref()),
            cpu,
            last_will: trouble.and_then(|trouble| trouble.last_will),
            lease_ended: trouble.and_then(|trouble| trouble.lease_ended),
            outbox_stalled: self.outbox_stalled_for(now),
        }
    }
}
