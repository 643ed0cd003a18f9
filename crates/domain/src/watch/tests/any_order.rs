//! Any order of events.

use proptest::prelude::*;

use super::*;

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
    HeldUp,
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
        1 => Just(Step::HeldUp),
        2 => Just(Step::Hears),
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
            let sees = WatchContext { home: &home, observer: &observer, doubt: None, agent: None, other_agent: None };
            match step {
                // What a process had sent may still arrive after it has ended.
                Step::Heartbeat if !stopped => { watch.hear(&named(heartbeat(now, life)), sees); heard = now; }
                Step::Readings if !stopped => { watch.hear(&readings(now, life), sees); heard = now; }
                Step::Heartbeat | Step::Readings => {}
                Step::OldReadings => {
                    let before = watch.last_heard();
                    if watch.incarnation() == Some(Incarnation(life)) {
                        prop_assert_eq!(watch.hear(&readings(now, life - 1), sees), WatchOutcome::default());
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
                Step::Deaf => observer.receives(Reception::Lost, "cut", at(now)),
                Step::HeldUp => observer.receives(Reception::HeldUp, "its own disk", at(now)),
                Step::Hears => observer.receives(Reception::Open, "", at(now)),
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
