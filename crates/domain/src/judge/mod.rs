//! The decision itself: from what was heard, what the probe said and the time, to a verdict with its
//! reasons. A pure function; whoever wants to know why a verdict came out finds all of it here.
//!
//! Direct evidence outweighs doubt: a process that is gone is `dead` whatever the monitor thinks of
//! its own ears. Doubt holds back only the verdicts that rest on silence.

use std::time::Duration;

use crate::evidence::{Evidence, EvidenceKind};
use crate::process::{ProbeAnswer, ProcessExit, ProcessIdentity, ProcessState};
use crate::publisher::{HostName, PublisherId};
use crate::time::{Monotonic, Timestamp, describe_duration};
use crate::verdict::{Change, Verdict};

/// All that a decision about one publisher rests on.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// The host that it runs on.
    pub host: &'a HostName,
    /// The last sign of life.
    pub last_heard: Option<(Monotonic, Timestamp)>,
    /// Whether an earlier run of the monitor has heard it.
    pub heard_before: bool,
    /// From when silence counts: the last sign of life, or later when the monitor could not hear.
    pub silent_since: Monotonic,
    /// How much silence makes it late.
    pub late_after: Duration,
    /// How much silence makes it a case for the probe.
    pub deadline: Duration,
    /// When it is late: after that silence, and after its grace.
    pub late_at: Monotonic,
    /// When it is a case for the probe: after that silence, its grace, and a stall of our own.
    pub deadline_at: Monotonic,
    /// What its deadline rests on, in words; none when it is fixed.
    pub basis: Option<String>,
    /// Whether the monitor doubts its own ears, and why.
    pub doubt: Option<&'a str>,
    /// Its process, where it has named one.
    pub process: Option<&'a ProcessIdentity>,
    /// What is known of the process.
    pub testimony: ProcessEvidence<'a>,
    /// The agent that looked at it; none when we looked ourselves.
    pub agent: Option<&'a PublisherId>,
    /// Another agent that speaks for the same boot.
    pub other_agent: Option<&'a PublisherId>,
    /// How its process ended, where its parent has told.
    pub exit: Option<&'a ProcessExit>,
    /// CPU time that it used since it was last asked after, and how long ago that was.
    pub cpu: Option<CpuProgress>,
    /// When the broker published its last will, where it did since it was last heard.
    pub last_will: Option<Timestamp>,
    /// When the lease of its host's agent ended, where it did since it was last heard.
    pub lease_ended: Option<Timestamp>,
    /// For how long its outbox has stood, where its last heartbeat said that it does.
    pub outbox_stalled: Option<Duration>,
}

/// CPU time between two looks at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuProgress {
    /// CPU time used between the looks.
    pub used: Duration,
    /// Time between the looks.
    pub within: Duration,
}

impl CpuProgress {
    /// Less time between two looks says nothing: a program that waits uses no CPU for a while.
    pub const TELLING: Duration = Duration::from_millis(500);

    /// Whether it stood still for long enough to tell.
    #[must_use]
    pub fn stands_still(self) -> bool {
        self.used.is_zero() && self.within >= Self::TELLING
    }
}

/// What can be said about the publisher's process.
#[derive(Debug, Clone)]
pub enum ProcessEvidence<'a> {
    /// The probe has looked.
    Probe(&'a ProbeAnswer),
    /// It has never said which process it is.
    NoProcessNamed,
    /// The process that it names cannot be its own: what that is.
    NotItsOwn(&'static str),
    /// It runs on another host, which this monitor cannot ask.
    OtherHost,
    /// It runs on this machine, but it or the monitor is in a container, where PIDs have another meaning.
    OtherContainer,
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What is true of the publisher, as far as the evidence goes.
    pub verdict: Verdict,
    /// One line that a person understands.
    pub summary: String,
    /// The facts, the deciding one first, and what they rule out last.
    pub evidence: Vec<Evidence>,
}

/// The verdict that silence alone gives, before anyone has asked the probe: `None` means that the
/// deadline has passed and the probe must be asked.
#[must_use]
pub fn judge_silence(case: &Case<'_>, now: Monotonic) -> Option<Judgement> {
    let silence = now.since(case.silent_since);
    if now >= case.deadline_at {
        return None;
    }
    let heard = heard_evidence(case, now);
    if case.last_heard.is_some() && now >= case.late_at {
        return Some(Judgement {
            verdict: Verdict::Late,
            summary: format!(
                "late: nothing for {}, expected within {} (deadline {})",
                describe_duration(silence),
                describe_duration(case.late_after),
                describe_duration(case.deadline)
            ),
            evidence: [Some(heard), basis_evidence(case)].into_iter().flatten().collect(),
        });
    }
    Some(Judgement { verdict: Verdict::Alive, summary: "alive: heard in time".to_owned(), evidence: vec![heard] })
}

/// The verdict that the process alone gives, whatever was heard: `None` when it exists and may work.
#[must_use]
pub fn judge_process(case: &Case<'_>, now: Monotonic) -> Option<Judgement> {
    let ProcessEvidence::Probe(answer) = case.testimony else { return None };
    let (verdict, what) = testimony(case);
    if !matches!(verdict, Verdict::Dead | Verdict::Stopped) {
        return None;
    }
    let mut summary = format!("{verdict}: {what}");
    if let Some((at, _)) = case.last_heard {
        summary.push_str(&format!("; last heard {} before", describe_duration(now.since(at))));
    }
    let mut evidence = vec![Evidence::new(EvidenceKind::Process, what)];
    evidence.extend(exit_evidence(case, answer));
    evidence.extend(will_evidence(case));
    evidence.extend(lease_evidence(case));
    evidence.push(heard_evidence(case, now));
    Some(Judgement { verdict, summary, evidence })
}

/// The verdict once the deadline has passed and the process has been asked after.
#[must_use]
pub fn judge_after_deadline(case: &Case<'_>, now: Monotonic) -> Judgement {
    let heard = heard_evidence(case, now);
    if case.last_heard.is_none() && case.process.is_none() && !case.heard_before {
        return match case.doubt {
            Some(reason) => doubted(reason, vec![heard]),
            None => Judgement {
                verdict: Verdict::NeverStarted,
                summary: format!("never started: expected, and not heard for {}", said_silence(case, now)),
                evidence: vec![Evidence::new(EvidenceKind::Expected, "the configuration expects it"), heard],
            },
        };
    }
    let (verdict, what) = testimony(case);
    let kind = match verdict {
        Verdict::Unreachable => EvidenceKind::Host,
        Verdict::Hung => EvidenceKind::Progress,
        _ => EvidenceKind::Process,
    };
    let mut evidence = vec![Evidence::new(kind, what.clone())];
    if let ProcessEvidence::Probe(answer) = case.testimony {
        evidence.extend(exit_evidence(case, answer));
    }
    evidence.extend(will_evidence(case));
    evidence.extend(lease_evidence(case));
    evidence.extend(case.outbox_stalled.map(|stalled| Evidence::new(EvidenceKind::Progress, said_stalled(stalled))));
    evidence.push(heard);
    evidence.extend(basis_evidence(case));
    let rests_on_silence = !matches!(verdict, Verdict::Dead | Verdict::Stopped);
    if let (true, Some(reason)) = (rests_on_silence, case.doubt) {
        return doubted(reason, evidence);
    }
    evidence.extend(ruled_out(case, verdict));
    Judgement {
        verdict,
        summary: format!(
            "{verdict}: silent {} (deadline {}); {what}",
            said_silence(case, now),
            describe_duration(case.deadline)
        ),
        evidence,
    }
}

/// How the summary of a publisher begins that is heard again; its silence follows.
pub const HEARD_AGAIN_AFTER: &str = "alive: heard again after ";

/// The verdict on a publisher that was just heard.
#[must_use]
pub fn judge_heard(silent_before: Option<Duration>) -> Judgement {
    judge_heard_after(silent_before.map(describe_duration).as_deref())
}

/// The verdict on a publisher that an earlier run of the monitor has heard, and this one hears for the first time.
#[must_use]
pub fn judge_heard_after_restart() -> Judgement {
    judge_heard_after(Some("a restart of the monitor"))
}

/// The same with the silence in words: most verdicts are this one, so whoever keeps them keeps those words only.
#[must_use]
pub fn judge_heard_after(silence: Option<&str>) -> Judgement {
    let summary = match silence {
        None => "alive: heard for the first time".to_owned(),
        Some(silence) => format!("{HEARD_AGAIN_AFTER}{silence}"),
    };
    let evidence = vec![Evidence::new(EvidenceKind::Silence, summary.trim_start_matches("alive: ").to_owned())];
    Judgement { verdict: Verdict::Alive, summary, evidence }
}

/// The verdict on a publisher whose heartbeats come while its source stands still.
#[must_use]
pub fn judge_stuck(
    cursor: u64,
    still_for: Duration,
    deadline: Duration,
    outbox_stalled: Option<Duration>,
) -> Judgement {
    let stood = format!("its source has stood at {cursor} for {}", describe_duration(still_for));
    let what = outbox_stalled.map_or_else(|| stood.clone(), said_stalled);
    let stood = outbox_stalled.map(|_| Evidence::new(EvidenceKind::Progress, stood));
    let mut judgement = Judgement {
        verdict: Verdict::Hung,
        summary: format!("hung: it beats, but {what} (deadline {})", describe_duration(deadline)),
        evidence: vec![
            Evidence::new(EvidenceKind::Progress, what),
            Evidence::new(EvidenceKind::RuledOut, "not idle: it says that there is something to read"),
            Evidence::new(EvidenceKind::RuledOut, "not silent: its heartbeats come in time"),
        ],
    };
    if let Some(stood) = stood {
        judgement.evidence.insert(1, stood);
    }
    judgement
}

fn said_stalled(stalled: Duration) -> String {
    format!("its disk has taken nothing for {}", describe_duration(stalled))
}

/// The verdict on a publisher whose source moves again.
#[must_use]
pub fn judge_moving(still_for: Duration) -> Judgement {
    let what = format!("its source moves again after {}", describe_duration(still_for));
    Judgement {
        verdict: Verdict::Alive,
        summary: format!("alive: {what}"),
        evidence: vec![Evidence::new(EvidenceKind::Progress, what)],
    }
}

/// The verdict on an id under which two speak; of each, in words, who and where it is.
#[must_use]
pub fn judge_conflict(first: &str, second: &str) -> Judgement {
    Judgement {
        verdict: Verdict::Conflict,
        summary: format!("conflict: two speak under this id: {first}; and {second}"),
        evidence: vec![
            Evidence::new(EvidenceKind::Speaker, first),
            Evidence::new(EvidenceKind::Speaker, second),
            Evidence::new(
                EvidenceKind::RuledOut,
                "not one after the other: each has gone on since the other one began",
            ),
        ],
    }
}

/// The verdict on a life in which a process of another user goes on to speak; in words, who they are.
#[must_use]
pub fn judge_other_user(first: &str, second: &str) -> Judgement {
    Judgement {
        verdict: Verdict::Conflict,
        summary: format!("conflict: a process of another user speaks in this life: {first}; and {second}"),
        evidence: vec![
            Evidence::new(EvidenceKind::Speaker, first),
            Evidence::new(EvidenceKind::Speaker, second),
            Evidence::new(
                EvidenceKind::RuledOut,
                "not its own: a life is one program's, and its PID changed with its user",
            ),
        ],
    }
}

/// The verdict once only one of two goes on; in words, who.
#[must_use]
pub fn judge_conflict_over(goes_on: &str) -> Judgement {
    let what = format!("only one speaks under this id now: {goes_on}");
    Judgement {
        verdict: Verdict::Alive,
        summary: format!("alive: {what}"),
        evidence: vec![Evidence::new(EvidenceKind::Speaker, what)],
    }
}

/// The verdict on a publisher that said goodbye.
#[must_use]
pub fn judge_goodbye() -> Judgement {
    Judgement {
        verdict: Verdict::Ended,
        summary: "ended: it said goodbye and left in order".to_owned(),
        evidence: vec![Evidence::new(EvidenceKind::Goodbye, "its goodbye came")],
    }
}

/// The verdict on a publisher whose signs of life go on for so long after its goodbye that they refute it.
#[must_use]
pub fn judge_goes_on(since_goodbye: Duration) -> Judgement {
    let since = describe_duration(since_goodbye);
    Judgement {
        verdict: Verdict::Alive,
        summary: format!("alive: a goodbye came, and signs of the same life have gone on for {since}"),
        evidence: vec![
            Evidence::new(EvidenceKind::Silence, "heard again and again since the goodbye"),
            Evidence::new(EvidenceKind::Goodbye, format!("a goodbye came {since} ago: a mistake, or not its own")),
        ],
    }
}

/// For how long what made a publisher `alive` is news.
pub const NEWS_FOR: Duration = Duration::from_secs(60);

/// What stands beside a verdict: why it was given; and of one that is `alive`, once that is old news, that it has been
/// since. A change back and forth would have taken its place.
#[must_use]
pub fn standing_words(change: &Change, now: Timestamp) -> String {
    let is_old = now.as_nanos().saturating_sub(change.at.as_nanos()) >= nanos(NEWS_FOR);
    if change.to == Verdict::Alive && is_old {
        return "alive: heard in time ever since".to_owned();
    }
    change.summary.clone()
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn testimony(case: &Case<'_>) -> (Verdict, String) {
    let host = case.host;
    let answer = match &case.testimony {
        ProcessEvidence::Probe(answer) => answer,
        ProcessEvidence::NoProcessNamed => {
            return (Verdict::Silent, "it never said which process it is, so nobody can be asked".to_owned());
        }
        ProcessEvidence::NotItsOwn(what) => {
            let pid = case.process.map_or(0, |process| process.pid);
            return (Verdict::Silent, format!("it names PID {pid}, {what}, which is no evidence about it"));
        }
        ProcessEvidence::OtherHost => {
            return (Verdict::Unreachable, format!("it runs on {host}, which this monitor cannot ask"));
        }
        ProcessEvidence::OtherContainer => {
            let what = format!("it runs on this machine ({host}), in a container that this monitor does not see into");
            let help = "start the monitor with the host's processes (pid: host), or an agent there";
            return (Verdict::Unreachable, format!("{what}: {help}"));
        }
    };
    let pid = case.process.map_or_else(String::new, |process| answer.pid_words(process.pid));
    let at = looked_at(case, answer);
    match &answer.state {
        ProcessState::Unreachable { reason } => (Verdict::Unreachable, format!("it runs on {host}, and {reason}")),
        ProcessState::Running | ProcessState::Sleeping if case.cpu.is_some_and(CpuProgress::stands_still) => {
            let within = case.cpu.map_or(Duration::ZERO, |cpu| cpu.within);
            // By whom it was seen matters where it was not us.
            let seen = if case.agent.is_some() { format!(" (seen {at})") } else { String::new() };
            (Verdict::Hung, format!("{pid} exists and has used no CPU time for {}{seen}", describe_duration(within)))
        }
        ProcessState::Running => (Verdict::Silent, format!("{pid} is running (seen {at}), but nothing reaches us")),
        ProcessState::Sleeping => {
            (Verdict::Silent, format!("{pid} exists and is waiting (seen {at}), but nothing reaches us"))
        }
        ProcessState::Stopped => (Verdict::Stopped, format!("{pid} is stopped by a signal or a debugger (seen {at})")),
        ProcessState::Zombie | ProcessState::Gone => (Verdict::Dead, said_end(case, answer, &pid)),
        ProcessState::Replaced { by } => {
            (Verdict::Dead, format!("{pid} now belongs to another process: {by} (seen {at})"))
        }
        ProcessState::NotPermitted => (Verdict::Silent, format!("{pid} exists and we may not look at it (tried {at})")),
        ProcessState::ProbeFailed { reason } => {
            (Verdict::Silent, format!("the probe could not look at {pid}: {reason} (tried {at})"))
        }
    }
}

/// When it was looked at, and by whom where that was not us.
fn looked_at(case: &Case<'_>, answer: &ProbeAnswer) -> String {
    let at = answer.looked_at.time_of_day();
    match (case.agent, case.other_agent) {
        (Some(agent), Some(other)) => {
            format!(
                "at {at} by the agent {agent} on {}, beside which {other} says that it is the agent there",
                case.host
            )
        }
        (Some(agent), None) => format!("at {at} by the agent {agent} on {}", case.host),
        (None, _) => format!("at {at}"),
    }
}

fn said_end(case: &Case<'_>, answer: &ProbeAnswer, pid: &str) -> String {
    match known_exit(case) {
        Some(exit) => format!("{pid} exited on {} at {}", exit.how, exit.at.time_of_day()),
        None => {
            let at = looked_at(case, answer);
            match answer.state {
                ProcessState::Zombie => {
                    format!("{pid} has ended and waits for its parent to collect it (zombie, seen {at})")
                }
                _ => format!("{pid} is gone (seen {at})"),
            }
        }
    }
}

/// The exit that its parent told, when it is the one of the process in question.
fn known_exit<'a>(case: &Case<'a>) -> Option<&'a ProcessExit> {
    case.exit.filter(|exit| case.process.is_some_and(|process| process.pid == exit.pid))
}

fn exit_evidence(case: &Case<'_>, answer: &ProbeAnswer) -> Option<Evidence> {
    let exit = known_exit(case)?;
    let seen = match answer.state {
        ProcessState::Zombie => "a zombie",
        _ => "gone",
    };
    let detail = format!("its parent saw it end: {} at {}; the probe saw it {seen}", exit.how, exit.at.time_of_day());
    Some(Evidence::new(EvidenceKind::Exit, detail))
}

fn will_evidence(case: &Case<'_>) -> Option<Evidence> {
    let at = case.last_will?.time_of_day();
    Some(Evidence::new(EvidenceKind::LastWill, format!("the broker published its last will at {at}")))
}

fn lease_evidence(case: &Case<'_>) -> Option<Evidence> {
    let at = case.lease_ended?.time_of_day();
    Some(Evidence::new(EvidenceKind::Lease, format!("the lease of its host's agent in etcd had ended at {at}")))
}

fn basis_evidence(case: &Case<'_>) -> Option<Evidence> {
    let detail = format!("its deadline is {}: {}", describe_duration(case.deadline), case.basis.as_ref()?);
    Some(Evidence::new(EvidenceKind::Deadline, detail))
}

/// What else it could have been, and why it is not.
fn ruled_out(case: &Case<'_>, verdict: Verdict) -> Vec<Evidence> {
    let mut out = Vec::new();
    let mut not = |text: String| out.push(Evidence::new(EvidenceKind::RuledOut, text));
    let ProcessEvidence::Probe(answer) = &case.testimony else { return out };
    let exists = matches!(answer.state, ProcessState::Running | ProcessState::Sleeping | ProcessState::Stopped);
    if exists && let Some(process) = case.process {
        let (pid, start_ticks) = (answer.pid_words(process.pid), process.start_ticks);
        not(format!("not dead: {pid} exists and is the same process (started at tick {start_ticks})"));
    }
    if matches!(answer.state, ProcessState::Running | ProcessState::Sleeping) {
        not("not stopped: the kernel runs it".to_owned());
    }
    if verdict == Verdict::Silent
        && let Some(cpu) = case.cpu
    {
        let (used, within) = (cpu.used.as_micros(), describe_duration(cpu.within));
        not(if cpu.used.is_zero() {
            format!("hung cannot be told yet: no CPU time used, but only within {within}")
        } else {
            format!("not hung: it used {used} µs of CPU time within {within}")
        });
    }
    if verdict == Verdict::Dead && case.last_heard.is_some() {
        not("not ended: no goodbye came".to_owned());
    }
    not("not us: the monitor is connected and runs".to_owned());
    out
}

fn doubted(reason: &str, mut evidence: Vec<Evidence>) -> Judgement {
    evidence.insert(0, Evidence::new(EvidenceKind::SelfCheck, reason));
    Judgement { verdict: Verdict::Unknown, summary: format!("unknown: the monitor doubts itself: {reason}"), evidence }
}

fn said_silence(case: &Case<'_>, now: Monotonic) -> String {
    describe_duration(now.since(case.silent_since))
}

fn heard_evidence(case: &Case<'_>, now: Monotonic) -> Evidence {
    let detail = match case.last_heard {
        Some((at, wall)) => {
            let ago = describe_duration(now.since(at));
            let mut detail = format!("last heard at {}, {ago} ago", wall.time_of_day());
            let left_out = case.silent_since.since(at);
            if !left_out.is_zero() {
                let left_out = describe_duration(left_out);
                detail.push_str(&format!("; {left_out} of that do not count: the monitor may not have heard it then"));
            }
            detail
        }
        None if case.heard_before => "not heard since the monitor started".to_owned(),
        None => "never heard".to_owned(),
    };
    Evidence::new(EvidenceKind::Silence, detail)
}

#[cfg(test)]
mod tests;
