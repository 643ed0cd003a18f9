//! A monitor that may not have heard does not take that for silence.

use super::*;

#[test]
fn while_the_monitor_is_deaf_silence_decides_nothing_and_the_process_does() {
    let home = home();
    let mut observer = hearing_since(0);
    let mut watch = heard_once();
    observer.receives(Reception::Lost, "connection refused", at(2_000));
    assert_eq!(watch.look_again_at(&observer), Some(at(3_500)));
    assert!(watch.look(around(&home, &observer), at(8_000)).ask.is_some());
    let doubt = watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(8_001)).unwrap();
    assert_eq!(doubt.judgement.verdict, Verdict::Unknown);
    observer.receives(Reception::Open, "", at(9_000));
    assert_eq!(
        watch.look(around(&home, &observer), at(10_000)),
        WatchOutcome::default(),
        "the deadline is extended by what was missed"
    );
    let mut watch = heard_once();
    observer.receives(Reception::Lost, "connection refused", at(11_000));
    assert!(watch.look(around(&home, &observer), at(20_000)).ask.is_some());
    let dead = watch.answered(around(&home, &observer), &answer(ProcessState::Gone), at(20_001)).unwrap();
    assert_eq!(dead.judgement.verdict, Verdict::Dead, "direct evidence outweighs doubt");
}

#[test]
fn what_our_own_disk_held_up_is_taken_out_of_a_silence_and_teaches_nothing() {
    let home = home();
    let mut observer = hearing_since(0);
    let mut watch = heard_once();
    observer.receives(Reception::HeldUp, "its own disk takes nothing", at(1_400));
    assert!(
        !watch.is_late(&observer, at(1_500))
            && watch.look(around(&home, &observer), at(1_500)) == WatchOutcome::default()
    );
    observer.receives(Reception::Open, "", at(1_600));
    assert_eq!(watch.look_again_at(&observer), Some(at(2_500)), "late, had it not been held up");
    observer.receives(Reception::HeldUp, "its own disk takes nothing", at(5_500));
    assert!(watch.look(around(&home, &observer), at(6_000)).ask.is_some());
    let doubt = watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(6_001)).unwrap();
    assert_eq!(doubt.judgement.verdict, Verdict::Unknown);
    observer.receives(Reception::Open, "", at(6_100));
    assert_eq!(watch.deadline_at(&observer), at(9_000), "800 ms, and four times as long to hear what has waited");
    assert_eq!(watch.look(around(&home, &observer), at(8_999)).change, None);
    let unmoved = watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(8_999));
    assert_eq!(unmoved, None, "the doubt stands until its deadline");
    assert!(watch.look(around(&home, &observer), at(9_000)).ask.is_some());
    let silent = watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(9_001)).unwrap();
    assert_eq!((silent.judgement.verdict, silent.at), (Verdict::Silent, at(9_000)));
}

#[test]
fn doubt_about_a_crowd_holds_silence_back_and_is_looked_at_again_soon() {
    let (home, observer) = (home(), hearing_since(0));
    let doubting = WatchContext {
        home: &home,
        observer: &observer,
        doubt: Some("3 of 4 fell silent at once"),
        agent: None,
        other_agent: None,
    };
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

#[test]
fn an_answer_after_our_standstill_decides_nothing_about_silence() {
    let home = home();
    let mut observer = hearing_since(0);
    let mut watch = heard_once();
    assert!(watch.look(around(&home, &observer), at(5_000)).ask.is_some());
    observer.receives(Reception::Open, "", at(60_000));
    assert_eq!(watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(60_001)), None);
    assert!(watch.look(around(&home, &observer), at(65_000)).ask.is_some(), "it is asked again when it is due");
    let gone = answer(ProcessState::Gone);
    assert_eq!(watch.answered(around(&home, &observer), &gone, at(65_001)).unwrap().judgement.verdict, Verdict::Dead);
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
