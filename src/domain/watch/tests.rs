use proptest::prelude::*;

use super::*;
use crate::domain::arrivals::Phi;
use crate::domain::beat::Heartbeat;
use crate::domain::evidence::EvidenceKind;
use crate::domain::process::ProcessState;
use crate::domain::publisher::PublisherId;

const DEADLINE: Duration = Duration::from_secs(5);

fn at(millis: u64) -> Monotonic {
    Monotonic::START + Duration::from_millis(millis)
}

fn home() -> Home {
    Home { host: HostName::parse("here").unwrap(), boot_id: Some("boot".into()) }
}

fn hearing_since(millis: u64) -> Observer {
    let mut observer = Observer::new(Duration::from_secs(3600), at(millis));
    observer.connection(true, "", at(millis));
    observer
}

fn beat(millis: u64, kind: BeatKind) -> Beat {
    Beat {
        publisher: PublisherId::parse("light").unwrap(),
        host: home().host,
        at: at(millis),
        wall: Timestamp::from_nanos(i64::try_from(millis).unwrap() * 1_000_000),
        kind,
    }
}

fn heartbeat(millis: u64, incarnation: u64) -> Beat {
    let process = ProcessIdentity { pid: 812, start_ticks: 7, boot_id: "boot".into() };
    let interval = Duration::from_secs(1);
    let incarnation = Incarnation(incarnation);
    let heartbeat = Heartbeat {
        is_agent: false,
        incarnation,
        process: Some(process),
        sequence: 0,
        cursor: millis,
        idle: false,
        interval,
    };
    beat(millis, BeatKind::Heartbeat(Box::new(heartbeat)))
}

fn readings(millis: u64, incarnation: u64) -> Beat {
    beat(millis, BeatKind::Readings { incarnation: Some(Incarnation(incarnation)) })
}

fn answer(state: ProcessState) -> ProbeAnswer {
    ProbeAnswer { state, cpu_time: None, looked_at: Timestamp::from_nanos(0) }
}

fn around<'a>(home: &'a Home, observer: &'a Observer) -> Surroundings<'a> {
    Surroundings { home, observer, doubt: None, agent: None }
}

/// Hears, on a monitor that has nothing to doubt.
fn hear(watch: &mut Watch, beat: &Beat) -> Option<Box<Transition>> {
    watch.hear(beat, around(&home(), &hearing_since(0))).change
}

fn heard_once() -> Watch {
    let mut watch = Watch::expected(home().host, DEADLINE, at(0));
    let change = hear(&mut watch, &heartbeat(0, 1)).expect("the first sign of life is a change");
    assert_eq!((change.from, change.judgement.verdict), (Verdict::Unknown, Verdict::Alive));
    watch
}

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
fn a_heartbeat_moves_the_timer_and_an_old_answer_decides_nothing() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    assert_eq!(hear(&mut watch, &heartbeat(1_000, 1)), None);
    assert_eq!(watch.look(around(&home, &observer), at(1_500)), Outcome::default());
    assert_eq!(watch.look_again_at(&observer), Some(at(2_500)));
    assert!(watch.look(around(&home, &observer), at(6_000)).ask.is_some());
    assert_eq!(hear(&mut watch, &heartbeat(6_001, 1)), None);
    assert_eq!(watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(6_002)), None);
    assert_eq!(watch.verdict(), Verdict::Alive);
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
fn a_goodbye_ends_it_and_what_it_overtook_does_not_revive_it() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    let ended = hear(&mut watch, &beat(1_000, BeatKind::Goodbye { incarnation: Incarnation(1) })).unwrap();
    assert_eq!(ended.judgement.verdict, Verdict::Ended);
    assert_eq!(hear(&mut watch, &readings(1_001, 1)), None);
    assert_eq!(watch.verdict(), Verdict::Ended);
    assert_eq!(watch.look_again_at(&observer), None);
    assert_eq!(watch.look(around(&home, &observer), at(60_000)), Outcome::default());
    assert_eq!(hear(&mut watch, &heartbeat(61_000, 2)).unwrap().judgement.verdict, Verdict::Alive, "its next life");
    assert_eq!(hear(&mut watch, &readings(61_001, 1)), None);
    assert_eq!(
        hear(&mut watch, &beat(61_002, BeatKind::Goodbye { incarnation: Incarnation(1) })),
        None,
        "a late goodbye"
    );
}

#[test]
fn while_the_monitor_is_deaf_silence_decides_nothing_and_the_process_does() {
    let home = home();
    let mut observer = hearing_since(0);
    let mut watch = heard_once();
    observer.connection(false, "connection refused", at(2_000));
    assert_eq!(watch.look_again_at(&observer), Some(at(3_500)));
    assert!(watch.look(around(&home, &observer), at(8_000)).ask.is_some());
    let doubt = watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(8_001)).unwrap();
    assert_eq!(doubt.judgement.verdict, Verdict::Unknown);
    observer.connection(true, "", at(9_000));
    assert_eq!(
        watch.look(around(&home, &observer), at(10_000)),
        Outcome::default(),
        "the deadline is extended by what was missed"
    );
    let mut watch = heard_once();
    observer.connection(false, "connection refused", at(11_000));
    assert!(watch.look(around(&home, &observer), at(20_000)).ask.is_some());
    let dead = watch.answered(around(&home, &observer), &answer(ProcessState::Gone), at(20_001)).unwrap();
    assert_eq!(dead.judgement.verdict, Verdict::Dead, "direct evidence outweighs doubt");
}

#[test]
fn one_on_another_host_is_unreachable() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
    let mut far = heartbeat(0, 1);
    far.host = HostName::parse("far").unwrap();
    if let BeatKind::Heartbeat(heartbeat) = &mut far.kind {
        heartbeat.process.as_mut().unwrap().boot_id = "another boot".into();
    }
    hear(&mut watch, &far);
    watch.look(around(&home, &observer), at(1_500));
    let Some(change) = watch.look(around(&home, &observer), at(5_000)).change else { panic!("no change") };
    assert_eq!(change.judgement.verdict, Verdict::Unreachable);
}

#[test]
fn one_on_another_host_is_asked_after_where_there_is_an_agent() {
    let (home, observer) = (home(), hearing_since(0));
    let agent = PublisherId::parse("agent-7").unwrap();
    let there = Surroundings { agent: Some(&agent), ..around(&home, &observer) };
    let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
    let mut far = heartbeat(0, 1);
    far.host = HostName::parse("there").unwrap();
    if let BeatKind::Heartbeat(heartbeat) = &mut far.kind {
        heartbeat.process.as_mut().unwrap().boot_id = "another boot".into();
    }
    hear(&mut watch, &far);
    assert!(watch.look(there, at(1_500)).ask.is_some(), "for its CPU time, as here");
    assert!(watch.answered(there, &answer(ProcessState::Running), at(1_510)).is_none());
    let outcome = watch.look(there, at(5_000));
    assert!(outcome.ask.is_some() && outcome.change.is_none(), "nothing is said before the agent has answered");
    let silent = ProcessState::Unreachable { reason: "no answer".to_owned() };
    let change = watch.answered(there, &answer(silent), at(7_000)).unwrap();
    assert_eq!(change.judgement.verdict, Verdict::Unreachable);
    // The broker tells of a lost connection: the agent, back again, is asked at once.
    let will = watch.hear(&beat(7_100, BeatKind::LastWill { incarnation: Incarnation(1) }), there);
    assert!(will.ask.is_some());
    let change = watch.answered(there, &answer(ProcessState::Gone), at(7_110)).unwrap();
    assert_eq!(change.judgement.verdict, Verdict::Dead);
    assert!(change.judgement.summary.contains("agent-7 on there"), "{}", change.judgement.summary);
}

#[test]
fn one_in_a_container_is_not_the_process_with_its_number_here() {
    let (home, observer) = (home(), hearing_since(0));
    for host in ["here", "container"] {
        let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
        let mut inside = heartbeat(0, 1);
        inside.host = HostName::parse(host).unwrap();
        if let BeatKind::Heartbeat(heartbeat) = &mut inside.kind {
            heartbeat.process.as_mut().unwrap().boot_id = "boot/4026532178".into();
        }
        hear(&mut watch, &inside);
        assert_eq!(watch.process_here(&home), None, "nobody waits for the end of another's process");
        watch.look(around(&home, &observer), at(1_500));
        let Some(change) = watch.look(around(&home, &observer), at(5_000)).change else { panic!("no change") };
        assert_eq!(change.judgement.verdict, Verdict::Unreachable, "{host}");
        assert!(change.judgement.summary.contains("container"), "{}", change.judgement.summary);
    }
}

#[test]
fn one_that_never_came_never_started_once() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
    assert_eq!(watch.look_again_at(&observer), Some(at(5_000)));
    let Some(change) = watch.look(around(&home, &observer), at(5_000)).change else { panic!("no change") };
    assert_eq!(change.judgement.verdict, Verdict::NeverStarted);
    assert_eq!(watch.look(around(&home, &observer), at(10_000)), Outcome::default());
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
fn a_reboot_of_our_host_is_not_another_host() {
    let (home, observer) = (home(), hearing_since(0));
    let process = ProcessIdentity { pid: 812, start_ticks: 7, boot_id: "the boot before".into() };
    let mut watch = Watch::remembered(home.host.clone(), DEADLINE, Verdict::Alive, Some(process), at(0));
    assert!(watch.look(around(&home, &observer), at(5_000)).ask.is_some());
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
    assert_eq!(watch.verdict(), Verdict::Alive);
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
fn what_a_dead_process_had_sent_does_not_revive_it_and_what_goes_on_does() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    let process = watch.process().unwrap().clone();
    let gone = answer(ProcessState::Gone);
    assert!(watch.exited(around(&home, &observer), &process, &gone, at(300)).is_some());
    assert_eq!(hear(&mut watch, &readings(310, 1)), None);
    assert_eq!(watch.verdict(), Verdict::Dead);
    let back = hear(&mut watch, &heartbeat(1_900, 1)).unwrap();
    assert_eq!(back.judgement.verdict, Verdict::Alive, "it was another process that ended");
}

#[test]
fn a_last_will_makes_us_look_and_says_nothing_by_itself() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    let will = |life| beat(200, BeatKind::LastWill { incarnation: Incarnation(life) });
    let stale = watch.hear(&will(0), around(&home, &observer));
    assert_eq!(stale, Outcome::default(), "the will of an earlier life");
    let outcome = watch.hear(&will(1), around(&home, &observer));
    assert!(outcome.change.is_none() && outcome.ask.is_some());
    assert_eq!(watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(201)), None);
    assert_eq!(watch.verdict(), Verdict::Alive, "only its connection was lost");
    watch.hear(&will(1), around(&home, &observer));
    let dead = watch.answered(around(&home, &observer), &answer(ProcessState::Gone), at(300)).unwrap();
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
    let dead = watch.answered(around(&home, &observer), &answer(ProcessState::Gone), at(401)).unwrap();
    assert_eq!((dead.judgement.verdict, dead.trigger), (Verdict::Dead, Trigger::Lease));
    assert!(dead.judgement.evidence.iter().any(|fact| fact.kind == EvidenceKind::Lease));

    let mut left = heard_once();
    hear(&mut left, &beat(200, BeatKind::Goodbye { incarnation: Incarnation(1) }));
    assert!(!ended(&mut left, 300), "it has said goodbye");
    let mut unknown = Watch::expected(home.host.clone(), DEADLINE, at(0));
    assert!(!ended(&mut unknown, 300), "it has named no process");
}

#[test]
fn beating_without_advancing_is_hung_unless_it_is_idle() {
    let mut watch = heard_once();
    let mut still = |millis: u64, cursor: u64, idle: bool| {
        let mut beat = heartbeat(millis, 1);
        if let BeatKind::Heartbeat(heartbeat) = &mut beat.kind {
            (heartbeat.cursor, heartbeat.idle) = (cursor, idle);
        }
        hear(&mut watch, &beat)
    };
    for second in 1..=5 {
        assert_eq!(still(second * 1_000, 9, false), None, "{second} s");
    }
    let hung = still(6_000, 9, false).unwrap();
    assert_eq!((hung.judgement.verdict, hung.at), (Verdict::Hung, at(6_000)));
    assert_eq!(hung.judgement.summary, "hung: it beats, but its source has stood at 9 for 5 s (deadline 5 s)");
    assert_eq!(still(7_000, 9, false), None);
    let moving = still(8_000, 10, false).unwrap();
    assert_eq!((moving.from, moving.judgement.verdict), (Verdict::Hung, Verdict::Alive));
    for second in 9..60 {
        assert_eq!(still(second * 1_000, 10, true), None, "idle, and says so");
    }
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
fn doubt_about_a_crowd_holds_silence_back_and_is_looked_at_again_soon() {
    let (home, observer) = (home(), hearing_since(0));
    let doubting =
        Surroundings { home: &home, observer: &observer, doubt: Some("3 of 4 fell silent at once"), agent: None };
    let mut watch = heard_once();
    watch.look(doubting, at(1_500));
    assert!(watch.look(doubting, at(5_000)).ask.is_some());
    let unknown = watch.answered(doubting, &answer(ProcessState::Sleeping), at(5_001)).unwrap();
    assert_eq!(unknown.judgement.verdict, Verdict::Unknown);
    assert_eq!(watch.look_again_at(&observer), Some(at(6_000)));
    watch.look(around(&home, &observer), at(6_000));
    let silent = watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(6_001)).unwrap();
    assert_eq!((silent.judgement.verdict, silent.at), (Verdict::Silent, at(5_000)));
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn adaptive(grace: u64) -> DeadlineRule {
    let kind = DeadlineKind::Adaptive { phi: Phi::default(), floor: seconds(1), ceiling: seconds(60) };
    DeadlineRule { kind, grace: seconds(grace) }
}

#[test]
fn a_deadline_of_intervals_counts_from_the_first_promise() {
    let kind = DeadlineKind::Intervals { count: 3, floor: seconds(2), ceiling: seconds(60), unpromised: seconds(20) };
    let mut watch = Watch::expected(home().host, DeadlineRule { kind, grace: Duration::ZERO }, at(0));
    assert_eq!(watch.look_again_at(&hearing_since(0)), Some(at(20_000)));
    hear(&mut watch, &readings(100, 1));
    assert_eq!(watch.deadline(), seconds(20));
    hear(&mut watch, &heartbeat(200, 1));
    assert_eq!((watch.deadline(), watch.deadline_basis().as_deref()), (seconds(3), Some("3 × the promised 1 s")));
    watch.set_deadline(seconds(7));
    assert_eq!((watch.deadline(), watch.deadline_basis()), (seconds(7), None), "a new configuration");
}

#[test]
fn an_adaptive_deadline_learns_from_the_publishers_own_silences_alone() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = Watch::expected(home.host.clone(), adaptive(0), at(0));
    for second in 0..100 {
        assert_eq!(watch.deadline(), if second <= 16 { seconds(60) } else { watch.deadline() }, "it learns first");
        hear(&mut watch, &heartbeat(second * 1_000, 1));
    }
    let learned = watch.deadline();
    assert!((1_550..1_570).contains(&learned.as_millis()), "{learned:?}");
    assert_eq!(watch.deadline_basis().unwrap(), "adaptive, φ 8: heard every 1 s ± 100 ms (99 learned)");

    let mut paused = watch.clone();
    let mut sleepy = observer.clone();
    sleepy.tick(at(100_000 + 4_000_000));
    let beat_after_our_stall = heartbeat(100_000 + 4_000_100, 1);
    paused.hear(&beat_after_our_stall, around(&home, &sleepy));
    assert_eq!(paused.deadline(), learned, "our own stall teaches nothing");

    let mut restarted = watch.clone();
    hear(&mut restarted, &heartbeat(150_000, 2));
    assert_eq!(restarted.deadline(), learned, "the gap between two lives teaches nothing");

    let mut stopped = watch.clone();
    stopped.look(around(&home, &observer), at(100_560));
    stopped.answered(around(&home, &observer), &answer(ProcessState::Stopped), at(100_561));
    assert_eq!(stopped.verdict(), Verdict::Stopped);
    hear(&mut stopped, &heartbeat(150_000, 1));
    assert_eq!(stopped.deadline(), learned, "SIGSTOP teaches nothing");

    for second in (110..1_300).step_by(10) {
        hear(&mut watch, &heartbeat(second * 1_000, 1));
    }
    assert!(watch.deadline() > seconds(10), "its own slower pace does: {:?}", watch.deadline());
    let Some(late) = watch.look(around(&home, &observer), at(1_290_000 + 9_000)).change else { panic!("not late") };
    assert!(late.judgement.evidence.iter().any(|fact| fact.detail.contains("φ 8")), "{late:?}");
}

#[test]
fn nobody_is_judged_by_silence_within_its_grace() {
    let (home, observer) = (home(), hearing_since(0));
    let rule = DeadlineRule { kind: DeadlineKind::Fixed(DEADLINE), grace: seconds(30) };
    let mut watch = Watch::expected(home.host.clone(), rule, at(0));
    assert_eq!(watch.look_again_at(&observer), Some(at(30_000)), "an expected one");
    assert_eq!(watch.look(around(&home, &observer), at(6_000)), Outcome::default());
    hear(&mut watch, &heartbeat(10_000, 1));
    assert_eq!(watch.look_again_at(&observer), Some(at(40_000)), "one that has just started");
    assert_eq!(watch.look(around(&home, &observer), at(20_000)), Outcome::default());
    assert!(!watch.is_late(&observer, at(39_999)));
    let process = watch.process().unwrap().clone();
    let mut dies = watch.clone();
    assert!(dies.exited(around(&home, &observer), &process, &answer(ProcessState::Gone), at(20_000)).is_some());
    assert!(watch.look(around(&home, &observer), at(40_000)).ask.is_some());
    let silent = watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(40_001)).unwrap();
    assert_eq!((silent.judgement.verdict, silent.at), (Verdict::Silent, at(40_000)));
    assert_eq!(hear(&mut watch, &heartbeat(50_000, 1)).unwrap().judgement.verdict, Verdict::Alive);
    assert_eq!(watch.look_again_at(&observer), Some(at(51_500)), "the same life has no second grace");
}

#[test]
fn an_answer_after_our_standstill_decides_nothing_about_silence() {
    let home = home();
    let mut observer = hearing_since(0);
    let mut watch = heard_once();
    assert!(watch.look(around(&home, &observer), at(5_000)).ask.is_some());
    observer.connection(true, "", at(60_000));
    assert_eq!(watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(60_001)), None);
    assert!(watch.look(around(&home, &observer), at(65_000)).ask.is_some(), "it is asked again when it is due");
    let gone = answer(ProcessState::Gone);
    assert_eq!(watch.answered(around(&home, &observer), &gone, at(65_001)).unwrap().judgement.verdict, Verdict::Dead);
}

#[test]
fn the_process_of_an_earlier_life_says_nothing_about_the_next_one() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    hear(&mut watch, &readings(1_000, 2));
    assert_eq!(watch.process(), None);
    watch.look(around(&home, &observer), at(2_500));
    let Some(change) = watch.look(around(&home, &observer), at(6_000)).change else { panic!("no change") };
    assert_eq!(change.judgement.verdict, Verdict::Silent);
}

#[test]
fn after_a_hitch_of_ours_it_listens_before_it_judges() {
    let home = home();
    let mut observer = hearing_since(0);
    let mut watch = heard_once();
    observer.tick(at(3_200));
    observer.tick(at(5_100));
    assert_eq!(watch.look(around(&home, &observer), at(5_100)).ask, watch.process().cloned(), "late, and asked after");
    assert_eq!(watch.look_again_at(&observer), Some(at(5_350)));
    hear(&mut watch, &heartbeat(5_150, 1));
    assert_eq!(watch.verdict(), Verdict::Alive);
}

/// One thing that can happen, after some milliseconds. The probe tells the truth about the process.
#[derive(Debug, Clone)]
enum Step {
    Heartbeat,
    Readings,
    OldReadings,
    LastWill,
    Look,
    Answer,
    Stop,
    Continue,
    Die,
    Exit,
    Start,
    Deaf,
    Hears,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        6 => Just(Step::Heartbeat),
        3 => Just(Step::Readings),
        1 => Just(Step::OldReadings),
        1 => Just(Step::LastWill),
        4 => Just(Step::Look),
        4 => Just(Step::Answer),
        1 => Just(Step::Stop),
        1 => Just(Step::Continue),
        1 => Just(Step::Die),
        1 => Just(Step::Exit),
        1 => Just(Step::Start),
        1 => Just(Step::Deaf),
        1 => Just(Step::Hears),
    ];
    prop::collection::vec((0_u64..3_000, step), 1..200)
}

proptest! {
    /// Whatever the order of signs of life, looks, answers, stops, deaths and losses of hearing: one
    /// whose process lives is never dead; one heard within its deadline is alive, late, stopped or
    /// dead, and the last two only when its process is; the verdict never waits without a next look.
    #[test]
    fn no_order_of_events_makes_an_alive_publisher_dead(steps in steps(), kind in 0_usize..3) {
        let home = home();
        let mut observer = hearing_since(0);
        let intervals =
            DeadlineKind::Intervals { count: 5, floor: seconds(5), ceiling: seconds(60), unpromised: seconds(5) };
        // An adaptive deadline is never below its floor, so 5 s are in time under each rule.
        let kind = [
            DeadlineKind::Fixed(DEADLINE),
            intervals,
            DeadlineKind::Adaptive { phi: Phi::default(), floor: seconds(5), ceiling: seconds(60) },
        ][kind];
        let mut watch = Watch::expected(home.host.clone(), DeadlineRule { kind, grace: Duration::ZERO }, at(0));
        hear(&mut watch, &heartbeat(0, 1));
        let (mut now, mut heard, mut life) = (0_u64, 0_u64, 2_u64);
        let (mut lives, mut stopped) = (true, false);
        for (pause, step) in steps {
            now += pause;
            let process = ProcessIdentity { pid: 812, start_ticks: life, boot_id: "boot".into() };
            let named = |mut beat: Beat| {
                if let BeatKind::Heartbeat(heartbeat) = &mut beat.kind {
                    heartbeat.process = Some(process.clone());
                }
                beat
            };
            let truth = |watch: &Watch| match watch.process() {
                Some(known) if *known == process && stopped && lives => ProcessState::Stopped,
                Some(known) if *known == process && lives => ProcessState::Sleeping,
                _ => ProcessState::Gone,
            };
            let sees = Surroundings { home: &home, observer: &observer, doubt: None, agent: None };
            match step {
                // What a process had sent may still arrive after it has ended.
                Step::Heartbeat if !stopped => { watch.hear(&named(heartbeat(now, life)), sees); heard = now; }
                Step::Readings if !stopped => { watch.hear(&readings(now, life), sees); heard = now; }
                Step::Heartbeat | Step::Readings => {}
                Step::OldReadings => {
                    let before = watch.last_heard();
                    if watch.incarnation() == Some(Incarnation(life)) {
                        prop_assert_eq!(watch.hear(&readings(now, life - 1), sees), Outcome::default());
                        prop_assert_eq!(watch.last_heard(), before);
                    }
                }
                Step::LastWill => {
                    let will = beat(now, BeatKind::LastWill { incarnation: Incarnation(life) });
                    prop_assert_eq!(watch.hear(&will, sees).change, None);
                }
                Step::Look => { watch.look(sees, at(now)); }
                Step::Answer => { let answer = answer(truth(&watch)); watch.answered(sees, &answer, at(now)); }
                Step::Stop => stopped = true,
                Step::Continue => stopped = false,
                Step::Die => lives = false,
                Step::Exit if !lives => { watch.exited(sees, &process, &answer(ProcessState::Gone), at(now)); }
                Step::Exit => {}
                Step::Start => if !lives { (lives, stopped, life) = (true, false, life + 1); },
                Step::Deaf => observer.connection(false, "cut", at(now)),
                Step::Hears => observer.connection(true, "", at(now)),
            }
            let is_known = watch.process().is_some_and(|known| known.start_ticks == life);
            if lives && is_known {
                prop_assert_ne!(watch.verdict(), Verdict::Dead, "its process lives");
            }
            if now - heard < 5_000 && is_known && lives && !stopped {
                let verdict = watch.verdict();
                prop_assert!(matches!(verdict, Verdict::Alive | Verdict::Late | Verdict::Stopped), "{:?}", verdict);
            }
            let next = watch.look_again_at(&observer);
            prop_assert!(next.is_some(), "a watched publisher always has a next look");
        }
    }
}
