//! Silence, and what the process says of itself by being there, or not.

use super::*;

#[test]
fn alive_late_then_dead_with_the_deadline_as_its_time() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    assert_eq!(watch.look_again_at(&observer), Some(at(1_500)));
    let Some(late) = watch.look(around(&home, &observer), at(1_500)).change else { panic!("not late") };
    assert_eq!((late.judgement.verdict, late.at), (Verdict::Late, at(1_500)));
    assert_eq!(watch.look_again_at(&observer), Some(at(5_000)));
    let Some(process) = watch.look(around(&home, &observer), at(5_003)).ask else { panic!("not asked") };
    assert_eq!(process.pid, 812);
    let dead = watch.answered(around(&home, &observer), &answer(ProcessState::Gone), at(5_004)).expect("a change");
    assert_eq!((dead.judgement.verdict, dead.at, dead.trigger), (Verdict::Dead, at(5_000), Trigger::Deadline));
    assert_eq!(watch.look_again_at(&observer), Some(at(10_003)), "a dead one is looked at again");
}

#[test]
fn a_silent_one_that_dies_later_becomes_dead_at_the_next_look() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    assert!(watch.look(around(&home, &observer), at(5_000)).ask.is_some());
    let silent = watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(5_001)).unwrap();
    assert_eq!(silent.judgement.verdict, Verdict::Silent);
    assert!(watch.look(around(&home, &observer), at(10_000)).ask.is_some());
    let dead = watch.answered(around(&home, &observer), &answer(ProcessState::Zombie), at(10_001)).unwrap();
    assert_eq!((dead.from, dead.judgement.verdict, dead.trigger), (Verdict::Silent, Verdict::Dead, Trigger::Probe));
    assert_eq!(dead.at, at(10_001));
    let back = hear(&mut watch, &heartbeat(12_000, 2)).unwrap();
    assert_eq!((back.from, back.judgement.summary.as_str()), (Verdict::Dead, "alive: heard again after 12 s"));
}

#[test]
fn one_that_never_came_never_started_once() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
    assert_eq!(watch.look_again_at(&observer), Some(at(5_000)));
    let Some(change) = watch.look(around(&home, &observer), at(5_000)).change else { panic!("no change") };
    assert_eq!(change.judgement.verdict, Verdict::NeverStarted);
    assert_eq!(watch.look(around(&home, &observer), at(10_000)), WatchOutcome::default());
}

#[test]
fn one_that_an_earlier_run_had_heard_did_start() {
    let (home, observer) = (home(), hearing_since(0));
    let look = |before| {
        let mut watch = Watch::remembered(home.host.clone(), DEADLINE, before, None, at(0));
        watch.look(around(&home, &observer), at(5_000)).change.map(|change| change.judgement.verdict)
    };
    assert_eq!(look(Verdict::Alive), Some(Verdict::Silent));
    assert_eq!(look(Verdict::Silent), None);
    assert_eq!(look(Verdict::NeverStarted), None);
}

#[test]
fn direct_evidence_does_not_wait_for_the_deadline() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    let outcome = watch.look(around(&home, &observer), at(1_500));
    assert!(outcome.ask.is_some(), "a late one is asked after, so that its CPU time is known at the deadline");
    let gone = watch.answered(around(&home, &observer), &answer(ProcessState::Gone), at(1_501)).unwrap();
    assert_eq!((gone.judgement.verdict, gone.trigger, gone.at), (Verdict::Dead, Trigger::Probe, at(1_501)));
    assert!(gone.judgement.summary.ends_with("; last heard 1.5 s before"), "{}", gone.judgement.summary);
}

#[test]
fn an_answer_about_the_life_before_says_nothing_about_this_one() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    assert!(watch.look(around(&home, &observer), at(1_500)).ask.is_some());
    let mut next = heartbeat(1_510, 2);
    let BeatKind::Heartbeat(heartbeat) = &mut next.kind else { panic!() };
    heartbeat.process.as_mut().unwrap().pid = 813;
    hear(&mut watch, &next);
    assert_eq!(watch.answered(around(&home, &observer), &answer(ProcessState::Gone), at(1_511)), None);
    assert_eq!(watch.verdict(), Verdict::Late);
    next.at = at(1_600);
    assert_eq!(hear(&mut watch, &next).unwrap().judgement.verdict, Verdict::Alive);
}

#[test]
fn the_kernel_reports_the_end_of_the_process_that_was_named() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    let process = watch.process().unwrap().clone();
    let earlier = ProcessIdentity { start_ticks: 1, ..process.clone() };
    let zombie = answer(ProcessState::Zombie);
    assert_eq!(watch.exited(around(&home, &observer), &earlier, &zombie, at(300)), None, "another process");
    let exit = ProcessExit { pid: 812, signal: Some(9), how: "signal 9".to_owned(), at: Timestamp::from_nanos(0) };
    let dead = watch.parent_told(around(&home, &observer), exit, at(300)).unwrap();
    assert_eq!((dead.judgement.verdict, dead.trigger), (Verdict::Dead, Trigger::ProcessExit));
    assert_eq!(dead.judgement.summary, "dead: PID 812 exited on signal 9 at 00:00:00.000; last heard 300 ms before");
    assert_eq!(watch.exited(around(&home, &observer), &process, &zombie, at(320)), None, "known already");
}

#[test]
fn a_last_will_makes_us_look_and_says_nothing_by_itself() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    let will = |life| beat(200, BeatKind::LastWill { incarnation: Incarnation(life) });
    let stale = watch.hear(&will(0), around(&home, &observer));
    assert_eq!(stale, WatchOutcome::default(), "the will of an earlier life");
    let outcome = watch.hear(&will(1), around(&home, &observer));
    assert!(outcome.change.is_none() && outcome.ask.is_some());
    assert_eq!(watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(201)), None);
    assert_eq!(watch.verdict(), Verdict::Alive, "only its connection was lost");
    watch.hear(&will(1), around(&home, &observer));
    let gone = answer(ProcessState::Gone);
    assert_eq!(watch.answered(around(&home, &observer), &gone, at(300)), None, "its own signs have not ceased");
    watch.hear(&beat(1_500, BeatKind::LastWill { incarnation: Incarnation(1) }), around(&home, &observer));
    let dead = watch.answered(around(&home, &observer), &gone, at(1_501)).unwrap();
    assert_eq!(dead.trigger, Trigger::LastWill);
}

#[test]
fn a_lease_that_ends_makes_us_look_and_says_nothing_by_itself() {
    let (home, observer) = (home(), hearing_since(0));
    let ended = |watch: &mut Watch, millis: u64| {
        let outcome = watch.lease_ended(around(&home, &observer), at(millis), Timestamp::from_nanos(0));
        assert_eq!(outcome.change, None);
        outcome.ask.is_some()
    };
    let mut watch = heard_once();
    assert!(ended(&mut watch, 200));
    assert_eq!(watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(201)), None);
    let unreachable = ProcessState::Unreachable { reason: "its agent did not answer".to_owned() };
    assert!(ended(&mut watch, 300));
    assert_eq!(watch.answered(around(&home, &observer), &answer(unreachable), at(301)), None);
    assert_eq!(watch.verdict(), Verdict::Alive, "only its agent is away");
    assert!(ended(&mut watch, 400));
    let gone = answer(ProcessState::Gone);
    assert_eq!(watch.answered(around(&home, &observer), &gone, at(401)), None, "its own signs have not ceased");
    assert!(ended(&mut watch, 1_500));
    let dead = watch.answered(around(&home, &observer), &gone, at(1_501)).unwrap();
    assert_eq!((dead.judgement.verdict, dead.trigger), (Verdict::Dead, Trigger::Lease));
    assert!(dead.judgement.evidence.iter().any(|fact| fact.kind == EvidenceKind::Lease));

    let mut left = heard_once();
    hear(&mut left, &beat(200, BeatKind::Goodbye { incarnation: Incarnation(1) }));
    assert!(!ended(&mut left, 300), "it has said goodbye");
    let mut unknown = Watch::expected(home.host.clone(), DEADLINE, at(0));
    assert!(!ended(&mut unknown, 300), "it has named no process");
}

#[test]
fn looks_in_a_doubt_do_not_shorten_how_long_it_has_used_no_cpu_time() {
    let (home, observer) = (home(), hearing_since(0));
    let doubting = WatchContext { doubt: Some("3 of 4 fell silent at once"), ..around(&home, &observer) };
    let used = |nanos| ProbeAnswer { cpu_time: Some(Duration::from_nanos(nanos)), ..answer(ProcessState::Sleeping) };
    for (last, verdict) in [(7_000, Verdict::Hung), (7_001, Verdict::Silent)] {
        let mut watch = heard_once();
        for look in [1_500, 5_000, 6_000] {
            watch.look(doubting, at(look));
            watch.answered(doubting, &used(7_000), at(look));
        }
        assert_eq!(watch.verdict(), Verdict::Unknown);
        watch.look(around(&home, &observer), at(6_100));
        let change = watch.answered(around(&home, &observer), &used(last), at(6_101)).unwrap();
        assert_eq!(change.judgement.verdict, verdict, "{change:?}");
    }
    let mut heard = heard_once();
    heard.look(doubting, at(1_500));
    heard.answered(doubting, &used(7_000), at(1_500));
    hear(&mut heard, &heartbeat(2_000, 1));
    heard.look(doubting, at(7_000));
    heard.answered(doubting, &used(7_000), at(7_000));
    heard.look(around(&home, &observer), at(7_100));
    let change = heard.answered(around(&home, &observer), &used(7_000), at(7_100)).unwrap();
    assert_eq!(change.judgement.verdict, Verdict::Silent, "what it used before it was heard says nothing: {change:?}");
}

#[test]
fn no_cpu_time_between_late_and_deadline_is_hung() {
    let (home, observer) = (home(), hearing_since(0));
    let with_cpu =
        |nanos| ProbeAnswer { cpu_time: Some(Duration::from_nanos(nanos)), ..answer(ProcessState::Sleeping) };
    for (at_deadline, verdict) in [(7_000, Verdict::Hung), (7_001, Verdict::Silent)] {
        let mut watch = heard_once();
        watch.look(around(&home, &observer), at(1_500));
        assert_eq!(watch.answered(around(&home, &observer), &with_cpu(7_000), at(1_501)), None);
        assert!(watch.look(around(&home, &observer), at(5_000)).ask.is_some());
        let change = watch.answered(around(&home, &observer), &with_cpu(at_deadline), at(5_001)).unwrap();
        assert_eq!(change.judgement.verdict, verdict);
    }
}

#[test]
fn who_goes_on_after_a_stop_is_given_the_time_to_be_heard() {
    let (home, observer) = (home(), hearing_since(0));
    let sees = around(&home, &observer);
    let stopped = || {
        let mut watch = heard_once();
        watch.look(sees, at(5_000));
        watch.answered(sees, &answer(ProcessState::Stopped), at(5_001));
        assert_eq!(watch.verdict(), Verdict::Stopped);
        // looked at just after SIGCONT, before its first heartbeat has come
        watch.look(sees, at(10_000));
        assert_eq!(watch.answered(sees, &answer(ProcessState::Running), at(10_001)), None);
        watch
    };
    let mut heard = stopped();
    let change = hear(&mut heard, &heartbeat(10_020, 1)).unwrap();
    assert_eq!((change.from, change.judgement.verdict), (Verdict::Stopped, Verdict::Alive));
    let mut silent = stopped();
    silent.look(sees, at(15_001));
    let change = silent.answered(sees, &answer(ProcessState::Running), at(15_002)).unwrap();
    assert_eq!((change.from, change.judgement.verdict), (Verdict::Stopped, Verdict::Silent));
}
