use proptest::prelude::*;

use super::*;
use crate::domain::beat::Heartbeat;
use crate::domain::process::ProcessState;
use crate::domain::publisher::PublisherId;

const DEADLINE: Duration = Duration::from_secs(5);

fn at(millis: u64) -> Monotonic {
    Monotonic::START + Duration::from_millis(millis)
}

fn home() -> Home {
    Home { host: HostName::parse("here").unwrap(), boot_id: Some("boot".to_owned()) }
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
    let process = ProcessIdentity { pid: 812, start_ticks: 7, boot_id: "boot".to_owned() };
    let interval = Duration::from_secs(1);
    let incarnation = Incarnation(incarnation);
    let heartbeat = Heartbeat { incarnation, process: Some(process), sequence: 0, cursor: 0, idle: false, interval };
    beat(millis, BeatKind::Heartbeat(Box::new(heartbeat)))
}

fn readings(millis: u64, incarnation: u64) -> Beat {
    beat(millis, BeatKind::Readings { incarnation: Some(Incarnation(incarnation)) })
}

fn answer(state: ProcessState) -> ProbeAnswer {
    ProbeAnswer { state, cpu_time: None, looked_at: Timestamp::from_nanos(0) }
}

fn heard_once() -> Watch {
    let mut watch = Watch::expected(home().host, DEADLINE, at(0));
    let change = watch.hear(&heartbeat(0, 1)).expect("the first sign of life is a change");
    assert_eq!((change.from, change.judgement.verdict), (Verdict::Unknown, Verdict::Alive));
    watch
}

#[test]
fn alive_late_then_dead_with_the_deadline_as_its_time() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    assert_eq!(watch.look_again_at(&observer), Some(at(1_500)));
    let Look::Change(late) = watch.look(&home, &observer, at(1_500)) else { panic!("not late") };
    assert_eq!((late.judgement.verdict, late.at), (Verdict::Late, at(1_500)));
    assert_eq!(watch.look_again_at(&observer), Some(at(5_000)));
    let Look::AskProbe(process) = watch.look(&home, &observer, at(5_003)) else { panic!("not asked") };
    assert_eq!(process.pid, 812);
    let dead = watch.answered(&home, &observer, &answer(ProcessState::Gone), at(5_004)).expect("a change");
    assert_eq!((dead.judgement.verdict, dead.at, dead.trigger), (Verdict::Dead, at(5_000), Trigger::Deadline));
    assert_eq!(watch.look_again_at(&observer), Some(at(10_003)), "a dead one is looked at again");
}

#[test]
fn a_heartbeat_moves_the_timer_and_an_old_answer_decides_nothing() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    assert_eq!(watch.hear(&heartbeat(1_000, 1)), None);
    assert_eq!(watch.look(&home, &observer, at(1_500)), Look::Nothing);
    assert_eq!(watch.look_again_at(&observer), Some(at(2_500)));
    assert!(matches!(watch.look(&home, &observer, at(6_000)), Look::AskProbe(_)));
    assert_eq!(watch.hear(&heartbeat(6_001, 1)), None);
    assert_eq!(watch.answered(&home, &observer, &answer(ProcessState::Gone), at(6_002)), None);
    assert_eq!(watch.verdict(), Verdict::Alive);
}

#[test]
fn a_silent_one_that_dies_later_becomes_dead_at_the_next_look() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    assert!(matches!(watch.look(&home, &observer, at(5_000)), Look::AskProbe(_)));
    let silent = watch.answered(&home, &observer, &answer(ProcessState::Sleeping), at(5_001)).unwrap();
    assert_eq!(silent.judgement.verdict, Verdict::Silent);
    assert!(matches!(watch.look(&home, &observer, at(10_000)), Look::AskProbe(_)));
    let dead = watch.answered(&home, &observer, &answer(ProcessState::Zombie), at(10_001)).unwrap();
    assert_eq!((dead.from, dead.judgement.verdict, dead.trigger), (Verdict::Silent, Verdict::Dead, Trigger::Probe));
    assert_eq!(dead.at, at(10_001));
    let back = watch.hear(&heartbeat(12_000, 2)).unwrap();
    assert_eq!((back.from, back.judgement.summary.as_str()), (Verdict::Dead, "alive: heard again after 12 s"));
}

#[test]
fn a_goodbye_ends_it_and_what_it_overtook_does_not_revive_it() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    let ended = watch.hear(&beat(1_000, BeatKind::Goodbye { incarnation: Incarnation(1) })).unwrap();
    assert_eq!(ended.judgement.verdict, Verdict::Ended);
    assert_eq!(watch.hear(&readings(1_001, 1)), None);
    assert_eq!(watch.verdict(), Verdict::Ended);
    assert_eq!(watch.look_again_at(&observer), None);
    assert_eq!(watch.look(&home, &observer, at(60_000)), Look::Nothing);
    assert_eq!(watch.hear(&heartbeat(61_000, 2)).unwrap().judgement.verdict, Verdict::Alive, "its next life");
    assert_eq!(watch.hear(&readings(61_001, 1)), None);
    assert_eq!(watch.hear(&beat(61_002, BeatKind::Goodbye { incarnation: Incarnation(1) })), None, "a late goodbye");
}

#[test]
fn while_the_monitor_is_deaf_silence_decides_nothing_and_the_process_does() {
    let home = home();
    let mut observer = hearing_since(0);
    let mut watch = heard_once();
    observer.connection(false, "connection refused", at(2_000));
    assert_eq!(watch.look_again_at(&observer), Some(at(3_500)));
    assert!(matches!(watch.look(&home, &observer, at(8_000)), Look::AskProbe(_)));
    let doubt = watch.answered(&home, &observer, &answer(ProcessState::Sleeping), at(8_001)).unwrap();
    assert_eq!(doubt.judgement.verdict, Verdict::Unknown);
    observer.connection(true, "", at(9_000));
    assert_eq!(watch.look(&home, &observer, at(10_000)), Look::Nothing, "the deadline is extended by what was missed");
    let mut watch = heard_once();
    observer.connection(false, "connection refused", at(11_000));
    assert!(matches!(watch.look(&home, &observer, at(20_000)), Look::AskProbe(_)));
    let dead = watch.answered(&home, &observer, &answer(ProcessState::Gone), at(20_001)).unwrap();
    assert_eq!(dead.judgement.verdict, Verdict::Dead, "direct evidence outweighs doubt");
}

#[test]
fn one_on_another_host_is_unreachable() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
    let mut far = heartbeat(0, 1);
    far.host = HostName::parse("far").unwrap();
    if let BeatKind::Heartbeat(heartbeat) = &mut far.kind {
        heartbeat.process.as_mut().unwrap().boot_id = "another boot".to_owned();
    }
    watch.hear(&far);
    watch.look(&home, &observer, at(1_500));
    let Look::Change(change) = watch.look(&home, &observer, at(5_000)) else { panic!("no change") };
    assert_eq!(change.judgement.verdict, Verdict::Unreachable);
}

#[test]
fn one_that_never_came_never_started_once() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
    assert_eq!(watch.look_again_at(&observer), Some(at(5_000)));
    let Look::Change(change) = watch.look(&home, &observer, at(5_000)) else { panic!("no change") };
    assert_eq!(change.judgement.verdict, Verdict::NeverStarted);
    assert_eq!(watch.look(&home, &observer, at(10_000)), Look::Nothing);
}

#[test]
fn a_reboot_of_our_host_is_not_another_host() {
    let (home, observer) = (home(), hearing_since(0));
    let process = ProcessIdentity { pid: 812, start_ticks: 7, boot_id: "the boot before".to_owned() };
    let mut watch = Watch::remembered(home.host.clone(), DEADLINE, Verdict::Alive, Some(process), at(0));
    assert!(matches!(watch.look(&home, &observer, at(5_000)), Look::AskProbe(_)));
}

/// One thing that can happen to a watch, after some milliseconds.
#[derive(Debug, Clone)]
enum Step {
    Heartbeat,
    Readings,
    OldReadings,
    LastWill,
    Look,
    Answer(ProcessState),
    Deaf,
    Hears,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let state = prop_oneof![
        Just(ProcessState::Gone),
        Just(ProcessState::Zombie),
        Just(ProcessState::Sleeping),
        Just(ProcessState::Stopped)
    ];
    let step = prop_oneof![
        4 => Just(Step::Heartbeat),
        2 => Just(Step::Readings),
        1 => Just(Step::OldReadings),
        1 => Just(Step::LastWill),
        4 => Just(Step::Look),
        2 => state.prop_map(Step::Answer),
        1 => Just(Step::Deaf),
        1 => Just(Step::Hears),
    ];
    prop::collection::vec((0_u64..3_000, step), 1..200)
}

proptest! {
    /// Whatever the order of signs of life, looks, answers and losses of hearing: a publisher heard
    /// within its deadline is never dead, and the probe is asked only past the deadline.
    #[test]
    fn no_order_of_events_makes_an_alive_publisher_dead(steps in steps()) {
        let home = home();
        let mut observer = hearing_since(0);
        let mut watch = heard_once();
        let (mut now, mut heard) = (0_u64, 0_u64);
        for (pause, step) in steps {
            now += pause;
            match step {
                Step::Heartbeat => { watch.hear(&heartbeat(now, 2)); heard = now; }
                Step::Readings => { watch.hear(&readings(now, 2)); heard = now; }
                Step::OldReadings => {
                    let before = watch.last_heard();
                    if watch.incarnation == Some(Incarnation(2)) {
                        prop_assert_eq!(watch.hear(&readings(now, 1)), None);
                        prop_assert_eq!(watch.last_heard(), before);
                    }
                }
                Step::LastWill => {
                    let will = BeatKind::LastWill { incarnation: Incarnation(2) };
                    prop_assert_eq!(watch.hear(&beat(now, will)), None);
                }
                Step::Look => {
                    let look = watch.look(&home, &observer, at(now));
                    if now - heard < 5_000 {
                        prop_assert!(!matches!(look, Look::AskProbe(_)), "asked before the deadline");
                    }
                }
                Step::Answer(state) => { watch.answered(&home, &observer, &answer(state), at(now)); }
                Step::Deaf => observer.connection(false, "cut", at(now)),
                Step::Hears => observer.connection(true, "", at(now)),
            }
            if now - heard < 5_000 && now == heard {
                prop_assert_eq!(watch.verdict(), Verdict::Alive);
            }
            if now - heard < 5_000 {
                prop_assert!(matches!(watch.verdict(), Verdict::Alive | Verdict::Late), "{:?}", watch.verdict());
            }
            let next = watch.look_again_at(&observer).expect("a watched publisher always has a next look");
            prop_assert!(next > at(heard));
        }
    }
}
