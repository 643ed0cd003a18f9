//! What is a sign of life, and what it says.

use super::*;

#[test]
fn a_heartbeat_moves_the_timer_and_an_old_answer_decides_nothing() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    assert_eq!(hear(&mut watch, &heartbeat(1_000, 1)), None);
    assert_eq!(watch.look(around(&home, &observer), at(1_500)), WatchOutcome::default());
    assert_eq!(watch.look_again_at(&observer), Some(at(2_500)));
    assert!(watch.look(around(&home, &observer), at(6_000)).ask.is_some());
    assert_eq!(hear(&mut watch, &heartbeat(6_001, 1)), None);
    assert_eq!(watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), at(6_002)), None);
    assert_eq!(watch.verdict(), Verdict::Alive);
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
    assert_eq!(watch.look(around(&home, &observer), at(60_000)), WatchOutcome::default());
    assert_eq!(hear(&mut watch, &heartbeat(61_000, 2)).unwrap().judgement.verdict, Verdict::Alive, "its next life");
    assert_eq!(hear(&mut watch, &readings(61_001, 1)), None);
    assert_eq!(
        hear(&mut watch, &beat(61_002, BeatKind::Goodbye { incarnation: Incarnation(1) })),
        None,
        "a late goodbye"
    );
}

fn goodbye(millis: u64) -> Beat {
    beat(millis, BeatKind::Goodbye { incarnation: Incarnation(1) })
}

#[test]
fn signs_that_go_on_after_a_goodbye_refute_it_and_a_later_death_is_told() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    let process = watch.process().unwrap().clone();
    assert_eq!(hear(&mut watch, &goodbye(1_000)).unwrap().judgement.verdict, Verdict::Ended);
    for on_its_way in [1_001, 2_000, 3_000] {
        assert_eq!(hear(&mut watch, &heartbeat(on_its_way, 1)), None);
        assert_eq!(hear(&mut watch, &goodbye(on_its_way)), None, "a mistake that is repeated is no new one");
    }
    let back = hear(&mut watch, &heartbeat(5_000, 1)).unwrap();
    assert_eq!((back.from, back.judgement.verdict, back.trigger), (Verdict::Ended, Verdict::Alive, Trigger::Heartbeat));
    assert_eq!(back.judgement.summary, "alive: a goodbye came, and signs of the same life have gone on for 2 s");
    assert!(watch.look_again_at(&observer).is_some(), "it is watched again");
    let dead = watch.exited(around(&home, &observer), &process, &answer(ProcessState::Zombie), at(5_300)).unwrap();
    assert_eq!((dead.from, dead.judgement.verdict), (Verdict::Alive, Verdict::Dead));
}

#[test]
fn what_was_on_its_way_at_a_goodbye_does_not_refute_it_however_late_it_comes() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    let process = watch.process().unwrap().clone();
    hear(&mut watch, &goodbye(1_000));
    for burst in [1_001, 1_002, 9_000, 9_001, 9_500, 10_400, 40_000, 41_000] {
        assert_eq!(hear(&mut watch, &readings(burst, 1)), None, "{burst}");
    }
    assert_eq!(watch.exited(around(&home, &observer), &process, &answer(ProcessState::Gone), at(41_100)), None);
    for drop_by_drop in (41_000..90_000).step_by(1_000) {
        assert_eq!(hear(&mut watch, &readings(drop_by_drop, 1)), None, "its process has ended after its goodbye");
    }
    assert_eq!(watch.verdict(), Verdict::Ended);
    assert_eq!(
        hear(&mut watch, &heartbeat(91_000, 2)).unwrap().judgement.summary,
        "alive: heard again after 1 min 30 s"
    );
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
    for burst in [1_900, 1_950, 3_000] {
        assert_eq!(hear(&mut watch, &heartbeat(burst, 1)), None, "it has waited at the broker, say");
    }
    assert_eq!(watch.last_heard().unwrap().0, at(0));
    assert_eq!(hear(&mut watch, &heartbeat(20_000, 1)), None, "another burst, much later");
    assert_eq!(hear(&mut watch, &heartbeat(21_000, 1)), None);
    let back = hear(&mut watch, &heartbeat(22_000, 1)).unwrap();
    assert_eq!(back.judgement.verdict, Verdict::Alive, "it was another process that ended");
}

#[test]
fn a_heartbeat_that_names_another_process_than_the_dead_one_is_believed_at_once() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    let process = watch.process().unwrap().clone();
    assert!(watch.exited(around(&home, &observer), &process, &answer(ProcessState::Gone), at(300)).is_some());
    let mut of_its_child = heartbeat(400, 1);
    if let BeatKind::Heartbeat(heartbeat) = &mut of_its_child.kind {
        heartbeat.process = Some(ProcessIdentity { pid: 813, ..process });
    }
    assert_eq!(hear(&mut watch, &of_its_child).unwrap().judgement.verdict, Verdict::Alive);
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
fn the_process_of_an_earlier_life_says_nothing_about_the_next_one() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    hear(&mut watch, &readings(1_000, 2));
    hear(&mut watch, &readings(1_500, 2));
    assert_eq!(watch.process(), None);
    watch.look(around(&home, &observer), at(3_000));
    let Some(change) = watch.look(around(&home, &observer), at(6_500)).change else { panic!("no change") };
    assert_eq!(change.judgement.verdict, Verdict::Silent);
}

#[test]
fn a_source_that_stood_while_nothing_was_heard_is_not_hung_whatever_comes_first() {
    let mut watch = heard_once();
    let stands = |millis: u64| {
        let mut beat = heartbeat(millis, 1);
        if let BeatKind::Heartbeat(heartbeat) = &mut beat.kind {
            heartbeat.cursor = 9;
        }
        beat
    };
    hear(&mut watch, &stands(1_000));
    // stopped for 8 s; what it had written before comes first
    hear(&mut watch, &readings(9_000, 1));
    assert_eq!(hear(&mut watch, &stands(9_010)), None);
    assert_eq!(watch.verdict(), Verdict::Alive);
    let changes: Vec<_> = (10..16).filter_map(|second| hear(&mut watch, &stands(second * 1_000))).collect();
    assert_eq!(changes.len(), 1, "it goes on standing");
    assert_eq!(changes[0].judgement.verdict, Verdict::Hung);
}
