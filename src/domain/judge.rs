//! The decision itself: from what was heard, what the probe said and the time, to a verdict with its
//! reasons. A pure function; whoever wants to know why a verdict came out finds all of it here.
//!
//! Direct evidence outweighs doubt: a process that is gone is `dead` whatever the monitor thinks of
//! its own ears. Doubt holds back only the verdicts that rest on silence.

use std::time::Duration;

use crate::domain::evidence::{Evidence, EvidenceKind};
use crate::domain::process::{ProbeAnswer, ProcessIdentity, ProcessState};
use crate::domain::publisher::HostName;
use crate::domain::time::{Monotonic, Timestamp, describe_duration};
use crate::domain::verdict::Verdict;

/// All that a decision about one publisher rests on.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// The host that it runs on.
    pub host: &'a HostName,
    /// The last sign of life.
    pub last_heard: Option<(Monotonic, Timestamp)>,
    /// From when silence counts: the last sign of life, or later when the monitor could not hear.
    pub silent_since: Monotonic,
    /// How much silence makes it late.
    pub late_after: Duration,
    /// How much silence makes it a case for the probe.
    pub deadline: Duration,
    /// Whether the monitor hears, and if not why.
    pub deaf: Option<&'a str>,
    /// Its process, where it has named one.
    pub process: Option<&'a ProcessIdentity>,
    /// What is known of the process.
    pub testimony: Testimony<'a>,
}

/// What can be said about the publisher's process.
#[derive(Debug, Clone)]
pub enum Testimony<'a> {
    /// The probe has looked.
    Probe(&'a ProbeAnswer),
    /// It has never said which process it is.
    NoProcessNamed,
    /// It runs on another host, which this monitor cannot ask.
    OtherHost,
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// One line that a person understands.
    pub summary: String,
    /// The facts, the deciding one first.
    pub evidence: Vec<Evidence>,
}

/// The verdict that silence alone gives, before anyone has asked the probe: `None` means that the
/// deadline has passed and the probe must be asked.
#[must_use]
pub fn judge_silence(case: &Case<'_>, now: Monotonic) -> Option<Judgement> {
    let silence = now.since(case.silent_since);
    if silence >= case.deadline {
        return None;
    }
    let heard = heard_evidence(case, now);
    if case.last_heard.is_some() && silence >= case.late_after {
        return Some(Judgement {
            verdict: Verdict::Late,
            summary: format!(
                "late: nothing for {} where {} is usual (deadline {})",
                describe_duration(silence),
                describe_duration(case.late_after),
                describe_duration(case.deadline)
            ),
            evidence: vec![heard],
        });
    }
    Some(Judgement { verdict: Verdict::Alive, summary: "alive: heard in time".to_owned(), evidence: vec![heard] })
}

/// The verdict once the deadline has passed and the process has been asked after.
#[must_use]
pub fn judge_after_deadline(case: &Case<'_>, now: Monotonic) -> Judgement {
    let heard = heard_evidence(case, now);
    if case.last_heard.is_none() && case.process.is_none() {
        return match case.deaf {
            Some(reason) => doubt(reason, heard),
            None => Judgement {
                verdict: Verdict::NeverStarted,
                summary: format!("never started: expected, and not heard for {}", said_silence(case, now)),
                evidence: vec![Evidence::new(EvidenceKind::Expected, "the configuration expects it"), heard],
            },
        };
    }
    let (verdict, what) = testimony(case);
    let rests_on_silence = !matches!(verdict, Verdict::Dead | Verdict::Stopped);
    if let (true, Some(reason)) = (rests_on_silence, case.deaf) {
        return doubt(reason, heard);
    }
    let kind = if verdict == Verdict::Unreachable { EvidenceKind::Host } else { EvidenceKind::Process };
    Judgement {
        verdict,
        summary: format!(
            "{verdict}: silent {} (deadline {}); {what}",
            said_silence(case, now),
            describe_duration(case.deadline)
        ),
        evidence: vec![Evidence::new(kind, what), heard],
    }
}

/// The verdict on a publisher that was just heard.
#[must_use]
pub fn judge_heard(silent_before: Option<Duration>) -> Judgement {
    let summary = match silent_before {
        None => "alive: heard for the first time".to_owned(),
        Some(silence) => format!("alive: heard again after {}", describe_duration(silence)),
    };
    let evidence = vec![Evidence::new(EvidenceKind::Silence, summary.trim_start_matches("alive: ").to_owned())];
    Judgement { verdict: Verdict::Alive, summary, evidence }
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

fn testimony(case: &Case<'_>) -> (Verdict, String) {
    let host = case.host;
    let answer = match &case.testimony {
        Testimony::Probe(answer) => answer,
        Testimony::NoProcessNamed => {
            return (Verdict::Silent, "it never said which process it is, so nobody can be asked".to_owned());
        }
        Testimony::OtherHost => {
            return (Verdict::Unreachable, format!("it runs on {host}, which this monitor cannot ask"));
        }
    };
    let pid = case.process.map_or_else(String::new, |process| format!("PID {}", process.pid));
    let at = answer.looked_at.time_of_day();
    match &answer.state {
        ProcessState::Running => (Verdict::Silent, format!("{pid} is running (seen at {at}), but nothing reaches us")),
        ProcessState::Sleeping => {
            (Verdict::Silent, format!("{pid} exists and is waiting (seen at {at}), but nothing reaches us"))
        }
        ProcessState::Stopped => {
            (Verdict::Stopped, format!("{pid} is stopped by a signal or a debugger (seen at {at})"))
        }
        ProcessState::Zombie => {
            (Verdict::Dead, format!("{pid} has ended and waits for its parent to collect it (zombie, seen at {at})"))
        }
        ProcessState::Gone => (Verdict::Dead, format!("{pid} is gone (seen at {at})")),
        ProcessState::Replaced { by } => {
            (Verdict::Dead, format!("{pid} now belongs to another process: {by} (seen at {at})"))
        }
        ProcessState::NotPermitted => {
            (Verdict::Silent, format!("{pid} exists and we may not look at it (tried at {at})"))
        }
        ProcessState::ProbeFailed { reason } => {
            (Verdict::Silent, format!("the probe could not look at {pid}: {reason} (tried at {at})"))
        }
    }
}

fn doubt(reason: &str, heard: Evidence) -> Judgement {
    Judgement {
        verdict: Verdict::Unknown,
        summary: format!("unknown: the monitor hears nobody: {reason}"),
        evidence: vec![Evidence::new(EvidenceKind::Observer, reason), heard],
    }
}

fn said_silence(case: &Case<'_>, now: Monotonic) -> String {
    describe_duration(now.since(case.silent_since))
}

fn heard_evidence(case: &Case<'_>, now: Monotonic) -> Evidence {
    let detail = match case.last_heard {
        Some((at, wall)) => {
            format!("last heard at {}, {} ago", wall.time_of_day(), describe_duration(now.since(at)))
        }
        None => "never heard".to_owned(),
    };
    Evidence::new(EvidenceKind::Silence, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::START + Duration::from_millis(millis)
    }

    fn host() -> HostName {
        HostName::parse("here").unwrap()
    }

    fn identity() -> ProcessIdentity {
        ProcessIdentity { pid: 812, start_ticks: 5, boot_id: "boot".to_owned() }
    }

    fn answer(state: ProcessState) -> ProbeAnswer {
        ProbeAnswer { state, cpu_time: None, looked_at: Timestamp::from_nanos(3_214_000_000) }
    }

    fn verdict_of(state: ProcessState, deaf: Option<&str>) -> Judgement {
        let (host, identity, answer) = (host(), identity(), answer(state));
        let case = Case {
            host: &host,
            last_heard: Some((at(0), Timestamp::from_nanos(0))),
            silent_since: at(0),
            late_after: Duration::from_secs(2),
            deadline: Duration::from_secs(5),
            deaf,
            process: Some(&identity),
            testimony: Testimony::Probe(&answer),
        };
        judge_after_deadline(&case, at(5_200))
    }

    #[test]
    fn every_answer_of_the_probe_has_its_verdict() {
        let by = || "other".to_owned();
        let table = [
            (ProcessState::Running, Verdict::Silent),
            (ProcessState::Sleeping, Verdict::Silent),
            (ProcessState::Stopped, Verdict::Stopped),
            (ProcessState::Zombie, Verdict::Dead),
            (ProcessState::Gone, Verdict::Dead),
            (ProcessState::Replaced { by: by() }, Verdict::Dead),
            (ProcessState::NotPermitted, Verdict::Silent),
            (ProcessState::ProbeFailed { reason: "timeout".to_owned() }, Verdict::Silent),
        ];
        for (state, expected) in table {
            assert_eq!(verdict_of(state.clone(), None).verdict, expected, "{state:?}");
        }
    }

    #[test]
    fn doubt_holds_back_silence_and_not_direct_evidence() {
        let deaf = Some("the broker is gone");
        assert_eq!(verdict_of(ProcessState::Sleeping, deaf).verdict, Verdict::Unknown);
        assert_eq!(verdict_of(ProcessState::Gone, deaf).verdict, Verdict::Dead);
        assert_eq!(verdict_of(ProcessState::Stopped, deaf).verdict, Verdict::Stopped);
    }

    #[test]
    fn the_summary_is_one_line_that_a_person_understands() {
        let judgement = verdict_of(ProcessState::Gone, None);
        assert_eq!(judgement.summary, "dead: silent 5.2 s (deadline 5 s); PID 812 is gone (seen at 00:00:03.214)");
        assert_eq!(judgement.evidence[0].kind, EvidenceKind::Process);
        assert_eq!(judgement.evidence[1].detail, "last heard at 00:00:00.000, 5.2 s ago");
    }

    #[test]
    fn silence_alone_makes_late_and_then_a_case_for_the_probe() {
        let host = host();
        let case = Case {
            host: &host,
            last_heard: Some((at(0), Timestamp::from_nanos(0))),
            silent_since: at(0),
            late_after: Duration::from_secs(2),
            deadline: Duration::from_secs(5),
            deaf: None,
            process: None,
            testimony: Testimony::NoProcessNamed,
        };
        assert_eq!(judge_silence(&case, at(1_999)).unwrap().verdict, Verdict::Alive);
        assert_eq!(judge_silence(&case, at(2_000)).unwrap().verdict, Verdict::Late);
        assert_eq!(judge_silence(&case, at(5_000)), None);
        assert_eq!(judge_after_deadline(&case, at(5_000)).verdict, Verdict::Silent);
    }

    #[test]
    fn an_expected_publisher_that_never_came_never_started() {
        let host = host();
        let mut case = Case {
            host: &host,
            last_heard: None,
            silent_since: at(0),
            late_after: Duration::from_secs(5),
            deadline: Duration::from_secs(5),
            deaf: None,
            process: None,
            testimony: Testimony::NoProcessNamed,
        };
        assert_eq!(judge_after_deadline(&case, at(6_000)).verdict, Verdict::NeverStarted);
        case.deaf = Some("not connected");
        assert_eq!(judge_after_deadline(&case, at(6_000)).verdict, Verdict::Unknown);
    }

    #[test]
    fn another_host_is_unreachable_for_now() {
        let (host, identity) = (HostName::parse("far").unwrap(), identity());
        let case = Case {
            host: &host,
            last_heard: Some((at(0), Timestamp::from_nanos(0))),
            silent_since: at(0),
            late_after: Duration::from_secs(5),
            deadline: Duration::from_secs(5),
            deaf: None,
            process: Some(&identity),
            testimony: Testimony::OtherHost,
        };
        let judgement = judge_after_deadline(&case, at(6_000));
        assert_eq!(judgement.verdict, Verdict::Unreachable);
        assert!(judgement.summary.contains("far"), "{}", judgement.summary);
    }
}
