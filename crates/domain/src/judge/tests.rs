use super::*;
use crate::verdict::Trigger;

fn at(millis: u64) -> Monotonic {
    Monotonic::START + Duration::from_millis(millis)
}

fn host() -> HostName {
    HostName::parse("here").unwrap()
}

fn identity() -> ProcessIdentity {
    ProcessIdentity { pid: 812, start_ticks: 5, boot_id: "boot".into() }
}

fn answer(state: ProcessState) -> ProbeAnswer {
    ProbeAnswer { state, cpu_time: None, looked_at: Timestamp::from_nanos(3_214_000_000), host_pid: None, user: None }
}

/// A case with every other thing at its usual value.
fn judged(state: ProcessState, change: impl FnOnce(&mut Case<'_>)) -> Judgement {
    judged_with(state, None, change)
}

fn judged_with(state: ProcessState, exit: Option<&ProcessExit>, change: impl FnOnce(&mut Case<'_>)) -> Judgement {
    let (host, identity, answer) = (host(), identity(), answer(state));
    let mut case = Case {
        host: &host,
        last_heard: Some((at(0), Timestamp::from_nanos(0))),
        heard_before: false,
        silent_since: at(0),
        late_after: Duration::from_secs(2),
        deadline: Duration::from_secs(5),
        late_at: at(2_000),
        deadline_at: at(5_000),
        basis: None,
        doubt: None,
        process: Some(&identity),
        testimony: ProcessEvidence::Probe(&answer),
        agent: None,
        other_agent: None,
        exit,
        cpu: None,
        last_will: None,
        lease_ended: None,
        outbox_stalled: None,
    };
    change(&mut case);
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
        (ProcessState::Unreachable { reason: "no answer".to_owned() }, Verdict::Unreachable),
    ];
    for (state, expected) in table {
        assert_eq!(judged(state.clone(), |_| ()).verdict, expected, "{state:?}");
    }
}

#[test]
fn doubt_holds_back_silence_and_not_direct_evidence() {
    let doubted = |state| judged(state, |case| case.doubt = Some("the broker is gone")).verdict;
    assert_eq!(doubted(ProcessState::Sleeping), Verdict::Unknown);
    assert_eq!(doubted(ProcessState::Gone), Verdict::Dead);
    assert_eq!(doubted(ProcessState::Stopped), Verdict::Stopped);
}

#[test]
fn a_process_that_uses_no_cpu_time_hangs() {
    let with_cpu = |used, within| {
        let cpu = CpuProgress { used: Duration::from_micros(used), within: Duration::from_millis(within) };
        judged(ProcessState::Sleeping, |case| case.cpu = Some(cpu))
    };
    let hung = with_cpu(0, 3_500);
    assert_eq!(hung.verdict, Verdict::Hung);
    assert_eq!(hung.summary, "hung: silent 5.2 s (deadline 5 s); PID 812 exists and has used no CPU time for 3.5 s");
    assert_eq!(with_cpu(0, 400).verdict, Verdict::Silent, "too short to tell");
    let silent = with_cpu(90, 3_500);
    assert_eq!(silent.verdict, Verdict::Silent);
    let ruled_out: Vec<_> =
        silent.evidence.iter().filter(|e| e.kind == EvidenceKind::RuledOut).map(|e| e.detail.as_str()).collect();
    assert_eq!(
        ruled_out,
        [
            "not dead: PID 812 exists and is the same process (started at tick 5)",
            "not stopped: the kernel runs it",
            "not hung: it used 90 µs of CPU time within 3.5 s",
            "not us: the monitor is connected and runs",
        ]
    );
}

#[test]
fn the_summary_is_one_line_that_a_person_understands() {
    let judgement = judged(ProcessState::Gone, |_| ());
    assert_eq!(judgement.summary, "dead: silent 5.2 s (deadline 5 s); PID 812 is gone (seen at 00:00:03.214)");
    assert_eq!(judgement.evidence[0].kind, EvidenceKind::Process);
    assert_eq!(judgement.evidence[1].detail, "last heard at 00:00:00.000, 5.2 s ago");
}

#[test]
fn its_parent_knows_how_it_ended() {
    let exit =
        ProcessExit { pid: 812, signal: Some(9), how: "signal 9".to_owned(), at: Timestamp::from_nanos(3_100_000_000) };
    let judgement = judged_with(ProcessState::Zombie, Some(&exit), |_| ());
    assert_eq!(judgement.summary, "dead: silent 5.2 s (deadline 5 s); PID 812 exited on signal 9 at 00:00:03.100");
    let another = ProcessExit { pid: 7, ..exit };
    let judgement = judged_with(ProcessState::Gone, Some(&another), |_| ());
    assert!(judgement.summary.contains("PID 812 is gone"), "the exit of another process is no evidence");
}

#[test]
fn silence_alone_makes_late_and_then_a_case_for_the_probe() {
    let host = host();
    let case = Case {
        host: &host,
        last_heard: Some((at(0), Timestamp::from_nanos(0))),
        heard_before: false,
        silent_since: at(0),
        late_after: Duration::from_secs(2),
        deadline: Duration::from_secs(5),
        late_at: at(2_000),
        deadline_at: at(5_000),
        basis: None,
        doubt: None,
        process: None,
        testimony: ProcessEvidence::NoProcessNamed,
        agent: None,
        other_agent: None,
        exit: None,
        cpu: None,
        last_will: None,
        lease_ended: None,
        outbox_stalled: None,
    };
    assert_eq!(judge_silence(&case, at(1_999)).unwrap().verdict, Verdict::Alive);
    assert_eq!(judge_silence(&case, at(2_000)).unwrap().verdict, Verdict::Late);
    assert_eq!(judge_silence(&case, at(5_000)), None);
    assert_eq!(judge_after_deadline(&case, at(5_000)).verdict, Verdict::Silent);
}

#[test]
fn an_expected_publisher_that_never_came_never_started() {
    let never = |doubt: Option<&'static str>| {
        judged(ProcessState::Gone, |case| {
            case.last_heard = None;
            case.process = None;
            case.testimony = ProcessEvidence::NoProcessNamed;
            case.doubt = doubt;
        })
    };
    assert_eq!(never(None).verdict, Verdict::NeverStarted);
    assert_eq!(never(Some("not connected")).verdict, Verdict::Unknown);
}

#[test]
fn another_host_is_unreachable_for_now() {
    let judgement = judged(ProcessState::Gone, |case| case.testimony = ProcessEvidence::OtherHost);
    assert_eq!(judgement.verdict, Verdict::Unreachable);
    assert!(judgement.summary.contains("it runs on here"), "{}", judgement.summary);
}

#[test]
fn what_an_agent_saw_is_evidence_with_its_name_and_no_answer_of_it_is_none_about_the_process() {
    let agent: &PublisherId = Box::leak(Box::new(PublisherId::parse("agent-7").unwrap()));
    for (state, verdict) in [(ProcessState::Gone, Verdict::Dead), (ProcessState::Stopped, Verdict::Stopped)] {
        let judgement = judged(state, |case| case.agent = Some(agent));
        assert_eq!(judgement.verdict, verdict);
        assert!(judgement.summary.contains("by the agent agent-7 on here"), "{}", judgement.summary);
    }
    let reason = "the agent agent-7 there cannot be asked".to_owned();
    let judgement = judged(ProcessState::Unreachable { reason }, |case| case.agent = Some(agent));
    assert_eq!(judgement.evidence[0].kind, EvidenceKind::Host);
    let ruled_out = judgement.evidence.iter().any(|fact| fact.detail.contains("not dead"));
    assert!(!ruled_out, "nobody has seen its process: {judgement:?}");
}

#[test]
fn what_made_a_publisher_alive_is_old_news_after_a_minute() {
    let at = Timestamp::from_nanos(1_000_000_000);
    let change = |to, summary: &str| Change {
        epoch: 1,
        publisher: PublisherId::parse("light").unwrap(),
        host: HostName::parse("here").unwrap(),
        from: Verdict::Unknown,
        to,
        at,
        decided_at: at,
        trigger: Trigger::Heartbeat,
        summary: summary.to_owned(),
        evidence: Vec::new(),
        process: None,
        maintenance: false,
        flapping: None,
        because: None,
    };
    let first = change(Verdict::Alive, "alive: heard for the first time");
    let almost = at + NEWS_FOR.saturating_sub(Duration::from_millis(1));
    assert_eq!(standing_words(&first, almost), "alive: heard for the first time");
    assert_eq!(standing_words(&first, at + NEWS_FOR), "alive: heard in time ever since");
    let dead = change(Verdict::Dead, "dead: PID 812 is gone");
    assert_eq!(standing_words(&dead, at + NEWS_FOR), "dead: PID 812 is gone", "it is, still");
}

#[test]
fn a_disk_that_takes_nothing_is_why_a_publisher_that_beats_is_hung() {
    let second = Duration::from_secs;
    let judgement = judge_stuck(30, second(10), second(10), Some(second(12)));
    assert_eq!(judgement.verdict, Verdict::Hung);
    assert_eq!(judgement.summary, "hung: it beats, but its disk has taken nothing for 12 s (deadline 10 s)");
    assert_eq!(judgement.evidence[1].detail, "its source has stood at 30 for 10 s");
    let judgement = judge_stuck(30, second(10), second(10), None);
    assert_eq!(judgement.summary, "hung: it beats, but its source has stood at 30 for 10 s (deadline 10 s)");
}
