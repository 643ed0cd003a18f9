//! Deadlines that follow the publisher, and its grace.

use super::*;

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
    // It promises to beat more often than it does, so that what it promises is no floor.
    let heartbeat = |millis: u64, incarnation: u64| {
        let mut sign = heartbeat(millis, incarnation);
        let BeatKind::Heartbeat(heartbeat) = &mut sign.kind else { unreachable!() };
        heartbeat.interval = Duration::from_millis(500);
        sign
    };
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
    assert_eq!(watch.look(around(&home, &observer), at(6_000)), WatchOutcome::default());
    hear(&mut watch, &heartbeat(10_000, 1));
    assert_eq!(watch.look_again_at(&observer), Some(at(40_000)), "one that has just started");
    assert_eq!(watch.look(around(&home, &observer), at(20_000)), WatchOutcome::default());
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

/// Beats of one that promises to beat every so often, each a little later than it promised, and what is said of it.
fn beats_seldom(watch: &mut Watch, interval: Duration, beats: u64) -> Vec<Verdict> {
    let (home, observer) = (home(), hearing_since(0));
    let every = u64::try_from(interval.as_millis()).unwrap() + 2;
    let mut said = Vec::new();
    for number in 0..beats {
        let mut sign = heartbeat(number * every, 1);
        let BeatKind::Heartbeat(heartbeat) = &mut sign.kind else { unreachable!() };
        heartbeat.interval = interval;
        said.extend(hear(watch, &sign).map(|change| change.judgement.verdict));
        while let Some(due) = watch.look_again_at(&observer).filter(|due| *due < at((number + 1) * every)) {
            let looked = watch.look(around(&home, &observer), due);
            said.extend(looked.change.map(|change| change.judgement.verdict));
            if looked.ask.is_some() {
                let answered = watch.answered(around(&home, &observer), &answer(ProcessState::Sleeping), due);
                said.extend(answered.map(|change| change.judgement.verdict));
            }
        }
    }
    said
}

#[test]
fn a_deadline_shorter_than_two_promised_intervals_silences_nobody() {
    for interval in [DEADLINE, seconds(3), seconds(60)] {
        let mut watch = Watch::expected(home().host, DEADLINE, at(0));
        assert_eq!(beats_seldom(&mut watch, interval, 20), [Verdict::Alive], "{interval:?}");
        assert_eq!(watch.deadline(), interval * 2);
        let basis = watch.deadline_basis().unwrap();
        assert!(basis.starts_with("2 × the promised ") && basis.contains("the configured 5 s"), "{basis}");
        // what it promises now counts, and what is configured now
        hear(&mut watch, &heartbeat(10_000_000, 1));
        assert_eq!((watch.deadline(), watch.deadline_basis()), (DEADLINE, None));
        watch.set_deadline(seconds(1));
        assert_eq!(watch.deadline(), seconds(2));
        watch.set_deadline(seconds(7));
        assert_eq!((watch.deadline(), watch.deadline_basis()), (seconds(7), None));
    }
}

#[test]
fn a_promise_is_no_way_out_of_every_deadline() {
    let mut watch = Watch::expected(home().host, DEADLINE, at(0));
    let mut sign = heartbeat(0, 1);
    let BeatKind::Heartbeat(heartbeat) = &mut sign.kind else { unreachable!() };
    heartbeat.interval = Duration::from_millis(u64::MAX);
    hear(&mut watch, &sign);
    assert_eq!(watch.deadline(), Duration::from_hours(48));
}

#[test]
fn what_somebody_else_promises_for_it_counts_until_it_promises_itself() {
    let mut watch = Watch::expected(home().host, DEADLINE, at(0));
    hear(&mut watch, &readings(0, 1));
    watch.promised_elsewhere(seconds(60));
    assert_eq!(watch.deadline(), seconds(120));
    hear(&mut watch, &heartbeat(100, 1));
    watch.promised_elsewhere(seconds(60));
    assert_eq!(watch.deadline(), DEADLINE, "its heartbeats promise one every second");
}
