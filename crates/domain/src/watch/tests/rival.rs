//! What others say under its id, or of it.

use super::*;

/// A heartbeat of this life and this process.
fn of(millis: u64, incarnation: u64, pid: u32) -> Beat {
    let mut beat = heartbeat(millis, incarnation);
    if let BeatKind::Heartbeat(heartbeat) = &mut beat.kind {
        heartbeat.process.as_mut().unwrap().pid = pid;
    }
    beat
}

#[test]
fn one_word_of_a_later_life_or_of_another_process_takes_nothing_over() {
    let (home, observer) = (home(), hearing_since(0));
    for (incarnation, pid) in [(i64::MAX as u64, 999_999), (1, 999_999), (0, 999_999)] {
        let mut watch = heard_once();
        for second in 1..=60 {
            assert_eq!(hear(&mut watch, &heartbeat(second * 1_000, 1)), None);
            if second % 20 == 10 {
                assert_eq!(hear(&mut watch, &of(second * 1_000 + 1, incarnation, pid)), None);
            }
            assert_eq!(watch.process().map(|process| process.pid), Some(812));
        }
        assert_eq!(watch.last_heard().unwrap().0, at(60_000));
        let process = watch.process().unwrap().clone();
        let dead = watch.exited(around(&home, &observer), &process, &answer(ProcessState::Gone), at(60_100)).unwrap();
        assert_eq!(dead.judgement.verdict, Verdict::Dead, "its own death is told");
    }
    let mut watch = heard_once();
    hear(&mut watch, &heartbeat(1_000, 1));
    assert_eq!(hear(&mut watch, &beat(1_100, BeatKind::Goodbye { incarnation: Incarnation(u64::MAX) })), None);
    assert_eq!(hear(&mut watch, &heartbeat(2_000, 1)), None);
    assert_eq!(watch.verdict(), Verdict::Alive, "nor does a goodbye of a life that nobody has heard");
}

#[test]
fn who_goes_on_takes_over_when_the_other_one_has_ceased_and_gives_back_likewise() {
    let mut watch = heard_once();
    let pid = |watch: &Watch| watch.process().map(|process| process.pid);
    for (millis, incarnation, now) in [
        (500, 2, 812),
        (1_000, 2, 812),
        (1_400, 2, 812),
        // The first life was last heard 1.5 s ago.
        (1_500, 2, 900),
        (2_500, 2, 900),
        // It speaks again: a heartbeat alone means nothing, and neither do many while the other one goes on.
        (2_600, 1, 900),
        (3_500, 2, 900),
        (3_600, 1, 900),
        (4_600, 1, 900),
        (5_000, 1, 812),
        (6_000, 1, 812),
    ] {
        let pid_said = if incarnation == 2 { 900 } else { 812 };
        assert_eq!(hear(&mut watch, &of(millis, incarnation, pid_said)), None, "it is alive all the time");
        assert_eq!(pid(&watch), Some(now), "at {millis} ms");
    }
    for backlog in (6_500..20_000).step_by(100) {
        assert_eq!(hear(&mut watch, &readings(backlog, 0)), None);
    }
    assert_eq!(watch.last_heard().unwrap().0, at(6_000), "readings of an earlier life are a replayed backlog");
}

#[test]
fn who_is_heard_while_it_is_not_clear_who_speaks_is_not_silent() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = heard_once();
    watch.look(around(&home, &observer), at(1_500));
    hear(&mut watch, &of(4_000, 2, 900));
    assert_eq!(watch.look(around(&home, &observer), at(5_000)), WatchOutcome::default());
    let next = watch.look_again_at(&observer).unwrap();
    assert_eq!(next, at(10_000));
    assert_eq!(
        watch.look(around(&home, &observer), next).ask.map(|process| process.pid),
        Some(812),
        "one word is no more"
    );
}

#[test]
fn two_who_both_go_on_are_a_conflict_with_both_named_until_one_ceases() {
    let (home, observer) = (home(), hearing_since(0));
    for (of_second, ceases) in [(2, 1), (2, 2), (1, 1), (1, 2), (0, 2)] {
        let mut watch = heard_once();
        let second = |millis: u64| {
            let mut beat = of(millis, of_second, 900);
            (beat.host, beat.way) = (HostName::parse("there").unwrap(), Way::Kafka);
            beat
        };
        let mut changes = Vec::new();
        let mut both = |watch: &mut Watch, seconds: std::ops::Range<u64>, speak: [bool; 2]| {
            for millis in seconds.map(|second| second * 1_000) {
                let first = speak[0].then(|| hear(watch, &heartbeat(millis, 1)));
                let other = speak[1].then(|| hear(watch, &second(millis + 500)));
                changes.extend([first, other].into_iter().flatten().flatten());
                watch.look(around(&home, &observer), at(millis + 600));
            }
        };
        both(&mut watch, 1..60, [true, true]);
        assert_eq!(watch.verdict(), Verdict::Conflict);
        both(&mut watch, 60..80, [ceases != 1, ceases != 2]);
        let said: Vec<_> = changes.iter().map(|change| change.judgement.verdict).collect();
        assert_eq!(said, [Verdict::Conflict, Verdict::Alive], "no flapping: {changes:?}");
        let summary = &changes[0].judgement.summary;
        let known = "PID 812 on here (incarnation 1, over MQTT)";
        let other = format!("PID 900 on there (incarnation {of_second}, over Kafka)");
        assert_eq!(*summary, format!("conflict: two speak under this id: {known}; and {other}"));
        let goes_on = if ceases == 1 { &*other } else { known };
        assert_eq!(changes[1].judgement.summary, format!("alive: only one speaks under this id now: {goes_on}"));
    }
}

#[test]
fn two_who_never_beat_are_told_apart_by_their_readings() {
    let mut watch = Watch::expected(home().host, DEADLINE, at(0));
    let mut changes = Vec::new();
    for second in 0..30 {
        changes.extend(hear(&mut watch, &readings(second * 1_000, 1)));
        changes.extend(hear(&mut watch, &readings(second * 1_000 + 500, 2)));
    }
    let said: Vec<_> = changes.iter().map(|change| change.judgement.verdict).collect();
    assert_eq!(said, [Verdict::Alive, Verdict::Conflict]);
}

#[test]
fn when_one_of_two_leaves_or_dies_the_other_one_is_heard_on() {
    let (home, observer) = (home(), hearing_since(0));
    let both = || {
        let mut watch = heard_once();
        for half in 1..=3 {
            hear(&mut watch, &of(half * 500, 1 + half % 2, 811 + u32::try_from(1 + half % 2).unwrap()));
        }
        assert_eq!(watch.process().map(|process| process.pid), Some(812));
        watch
    };
    let next = |watch: &mut Watch| {
        assert_eq!(hear(watch, &of(2_000, 2, 813)), None, "it was alive before");
        assert_eq!((watch.verdict(), watch.process().map(|process| process.pid)), (Verdict::Alive, Some(813)));
    };
    let mut watch = both();
    assert_eq!(hear(&mut watch, &beat(1_600, BeatKind::Goodbye { incarnation: Incarnation(1) })), None);
    next(&mut watch);
    let mut watch = both();
    let process = watch.process().unwrap().clone();
    assert_eq!(watch.exited(around(&home, &observer), &process, &answer(ProcessState::Gone), at(1_600)), None);
    next(&mut watch);

    let mut watch = both();
    hear(&mut watch, &beat(1_600, BeatKind::Goodbye { incarnation: Incarnation(1) }));
    let late = watch.look_again_at(&observer).unwrap();
    assert_eq!(
        watch.look(around(&home, &observer), late).change.unwrap().judgement.verdict,
        Verdict::Ended,
        "nobody came"
    );

    let mut watch = both();
    (4..=6)
        .for_each(|half| drop(hear(&mut watch, &of(half * 500, 1 + half % 2, if half % 2 == 1 { 813 } else { 812 }))));
    assert_eq!(watch.verdict(), Verdict::Conflict);
    let process = watch.process().unwrap().clone();
    assert_eq!(watch.exited(around(&home, &observer), &process, &answer(ProcessState::Gone), at(3_100)), None);
    let one = hear(&mut watch, &of(3_500, 2, 813)).unwrap().judgement;
    assert_eq!(one.summary, "alive: only one speaks under this id now: PID 813 on here (incarnation 2, over MQTT)");
}

#[test]
fn nobody_dies_by_the_word_of_others_while_its_own_signs_go_on() {
    let (home, observer) = (home(), hearing_since(0));
    let agent = PublisherId::parse("agent-7").unwrap();
    let there = WatchContext { agent: Some(&agent), ..around(&home, &observer) };
    let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
    let far = |millis: u64| {
        let mut far = heartbeat(millis, 1);
        far.host = HostName::parse("there").unwrap();
        if let BeatKind::Heartbeat(heartbeat) = &mut far.kind {
            heartbeat.process.as_mut().unwrap().boot_id = "another boot".into();
        }
        far
    };
    for beats in 0..30 {
        let millis = beats * 333;
        watch.hear(&far(millis), there);
        assert!(watch.hear(&beat(millis + 1, BeatKind::LastWill { incarnation: Incarnation(1) }), there).ask.is_some());
        for state in [ProcessState::Gone, ProcessState::Replaced { by: "x".to_owned() }, ProcessState::Zombie] {
            watch.lease_ended(there, at(millis + 2), Timestamp::from_nanos(0));
            assert_eq!(watch.answered(there, &answer(state.clone()), at(millis + 3)), None);
            let process = watch.process().unwrap().clone();
            assert_eq!(watch.found_ended(there, &process, &answer(state), at(millis + 4)), None, "asked by a person");
        }
    }
    assert_eq!(watch.verdict(), Verdict::Alive);
    // Once its own signs have ceased, the same word counts.
    let late = watch.look_again_at(&observer).unwrap();
    assert!(watch.look(there, late).ask.is_some());
    let other = PublisherId::parse("agent-8").unwrap();
    let two = WatchContext { other_agent: Some(&other), ..there };
    let dead = watch.answered(two, &answer(ProcessState::Gone), late).unwrap();
    assert_eq!(dead.judgement.verdict, Verdict::Dead);
    assert!(dead.judgement.summary.contains("beside which agent-8 says that it is the agent there"), "{dead:?}");
}

#[test]
fn the_monitors_own_process_and_the_first_one_here_are_no_evidence() {
    let (home, observer) = (home(), hearing_since(0));
    for (pid, inside) in [(1, false), (4_000, false), (4_000, true)] {
        let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
        watch.set_inside(inside);
        hear(&mut watch, &of(0, 1, pid));
        assert_eq!(watch.process_here(&home).is_some(), inside, "{pid}");
        // An agent on this host would only see the same.
        let agent = PublisherId::parse("agent-7").unwrap();
        let here = WatchContext { agent: Some(&agent), ..around(&home, &observer) };
        watch.look(here, at(1_500));
        let outcome = watch.look(here, at(5_000));
        assert_eq!(outcome.ask.is_some(), inside);
        let Some(change) = outcome.change else { continue };
        assert_eq!(change.judgement.verdict, Verdict::Silent);
        let no_evidence = change.judgement.summary.ends_with("which is no evidence about it");
        assert!(no_evidence, "{}", change.judgement.summary);
    }
    // In a namespace of its own, somewhere else, the first process is the publisher itself.
    let mut elsewhere = of(0, 1, 1);
    if let BeatKind::Heartbeat(heartbeat) = &mut elsewhere.kind {
        heartbeat.process.as_mut().unwrap().boot_id = "another boot".into();
    }
    let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
    hear(&mut watch, &elsewhere);
    assert_eq!(watch.not_its_own(&home), None);
}

/// Somebody else's process says that it is the same life, when that has died or has ceased to speak.
#[test]
fn a_life_passes_to_no_process_of_another_user() {
    let uuid = "0d9fe8ae-5a0f-4e4f-8b7c-9a3c5d1e2f60";
    let (home, observer) = (LocalHost { boot_id: Some(uuid.into()), ..home() }, hearing_since(0));
    let beat_of = |millis, pid| {
        let mut beat = of(millis, 1, pid);
        let BeatKind::Heartbeat(heartbeat) = &mut beat.kind else { unreachable!() };
        heartbeat.process.as_mut().unwrap().boot_id = uuid.into();
        beat
    };
    for dies in [true, false] {
        for (user, is_conflict) in [(Some(1_000), false), (Some(1_001), true), (None, false)] {
            let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
            watch.hear(&beat_of(0, 812), around(&home, &observer));
            let known = watch.process().unwrap().clone();
            watch.user_found(&known, 1_000);
            if dies {
                let gone = answer(ProcessState::Gone);
                assert!(watch.exited(around(&home, &observer), &known, &gone, at(100)).is_some());
            }
            let mut said = Vec::new();
            for millis in (2_000..5_000).step_by(500) {
                said.extend(watch.hear(&beat_of(millis, 900), around(&home, &observer)).change);
                if let Some(asked) = watch.user_to_ask(&home) {
                    assert_eq!((asked.pid, millis), (900, 2_000), "it is asked for once");
                    user.into_iter().for_each(|user| watch.user_found(&asked, user));
                }
            }
            let verdict = if is_conflict { Verdict::Conflict } else { Verdict::Alive };
            assert_eq!(watch.verdict(), verdict, "{dies} {user:?}");
            let pid = if is_conflict { 812 } else { 900 };
            assert_eq!(watch.process().map(|process| process.pid), Some(pid), "{dies} {user:?}");
            if is_conflict {
                let summary = &said.last().unwrap().judgement.summary;
                assert!(summary.contains("PID 812 of the user 1000") && summary.contains("PID 900 of the user 1001"));
                // when it has gone, the first one is what it was
                let mut now = 5_000;
                while watch.verdict() == Verdict::Conflict {
                    now += 500;
                    assert!(now < 60_000, "the conflict is for ever");
                    if watch.look_again_at(&observer).is_some_and(|due| due <= at(now))
                        && watch.look(around(&home, &observer), at(now)).ask.is_some()
                    {
                        watch.answered(around(&home, &observer), &answer(ProcessState::Gone), at(now));
                    }
                }
                assert_eq!(watch.verdict(), Verdict::Dead);
            }
        }
    }
}
