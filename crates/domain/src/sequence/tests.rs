//! Any history, against plain sets of numbers.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// The same record as plain sets of numbers.
#[derive(Default)]
struct Model {
    received: BTreeSet<Sequence>,
    lost: BTreeSet<Sequence>,
    elsewhere: BTreeSet<Sequence>,
    produced: Sequence,
    duplicates: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Accept(Sequence),
    Lose(Sequence, Sequence),
    Elsewhere(Sequence, Sequence),
    Produced(Sequence),
    SaveAndRestore,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..60_u64).prop_map(Step::Accept),
        1 => (0..60_u64, 0..8_u64).prop_map(|(first, more)| Step::Lose(first, first + more)),
        1 => (0..60_u64, 0..8_u64).prop_map(|(first, more)| Step::Elsewhere(first, first + more)),
        1 => (0..70_u64).prop_map(Step::Produced),
        1 => Just(Step::SaveAndRestore),
    ];
    prop::collection::vec(step, 0..200)
}

fn agrees(tracker: &SequenceTracker, model: &Model) {
    let settled: BTreeSet<_> =
        [&model.received, &model.lost, &model.elsewhere].into_iter().flatten().copied().collect();
    let counts = tracker.counts();
    assert_eq!(tracker.known(), model.produced);
    assert_eq!(counts.produced, model.produced - model.elsewhere.len() as u64);
    for number in 0..70 {
        assert_eq!(tracker.is_received(number), model.received.contains(&number), "{number}");
    }
    assert_eq!(counts.received, model.received.len() as u64);
    assert_eq!(counts.lost, model.lost.len() as u64);
    assert_eq!(counts.duplicates, model.duplicates);
    assert_eq!(counts.produced, counts.received + counts.missing + counts.lost);
    let through = (1..).take_while(|n| settled.contains(n)).last().unwrap_or(0);
    assert_eq!(tracker.through(), through);
    assert_eq!(tracker.highest(), settled.last().copied().unwrap_or(0));
    for gaps_max in [0, 1, 2, 1000] {
        let report = tracker.report(gaps_max);
        assert!(report.gaps.len() <= gaps_max);
        for number in 1..=report.highest {
            let in_gap = report.gaps.iter().any(|&(first, last)| (first..=last).contains(&number));
            assert_eq!(in_gap, !settled.contains(&number), "number {number} in {report:?}");
        }
    }
    assert_eq!(tracker.report(1000).highest, tracker.highest());
    let named: BTreeSet<_> = tracker.losses().flat_map(|range| range.first..=range.last).collect();
    assert_eq!(named, model.lost);
}

proptest! {
    #[test]
    fn any_history_agrees_with_plain_sets(steps in steps()) {
        let mut tracker = SequenceTracker::new(1000);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Accept(number) => {
                    let expected = if model.received.contains(&number) { Accepted::Duplicate } else { Accepted::New };
                    prop_assert_eq!(tracker.accept(number), expected);
                    model.duplicates += u64::from(expected == Accepted::Duplicate);
                    model.lost.remove(&number);
                    model.elsewhere.remove(&number);
                    model.received.insert(number);
                    model.produced = model.produced.max(number);
                }
                Step::Lose(first, last) => {
                    let fresh: Vec<_> = (first.max(1)..=last)
                        .filter(|n| !model.received.contains(n) && !model.lost.contains(n) && !model.elsewhere.contains(n))
                        .collect();
                    prop_assert_eq!(tracker.mark_lost(first, last, &format!("reason {}", first % 3)), Ok(fresh.len() as u64));
                    model.lost.extend(fresh);
                    if last > 0 { model.produced = model.produced.max(last); }
                }
                Step::Elsewhere(first, last) => {
                    let fresh: Vec<_> = (first.max(1)..=last)
                        .filter(|n| !model.received.contains(n) && !model.lost.contains(n) && !model.elsewhere.contains(n))
                        .collect();
                    prop_assert_eq!(tracker.mark_elsewhere(first, last), Ok(fresh.len() as u64));
                    model.elsewhere.extend(fresh);
                    if last > 0 { model.produced = model.produced.max(last); }
                }
                Step::Produced(produced) => {
                    tracker.know_produced(produced);
                    model.produced = model.produced.max(produced);
                }
                Step::SaveAndRestore => {
                    let text = serde_json::to_string(&tracker.save()).unwrap();
                    let restored = SequenceTracker::restore(&serde_json::from_str(&text).unwrap(), 1000).unwrap();
                    prop_assert_eq!(&restored, &tracker);
                    tracker = restored;
                }
            }
            agrees(&tracker, &model);
        }
    }

    #[test]
    fn at_the_limit_the_account_still_balances(steps in steps(), ranges_max in 1..4_usize) {
        let mut tracker = SequenceTracker::new(ranges_max);
        let mut received = BTreeSet::new();
        for step in steps {
            match step {
                Step::Accept(number) => {
                    let before = tracker.clone();
                    match tracker.accept(number) {
                        Accepted::New => prop_assert!(received.insert(number), "{number} was new twice"),
                        Accepted::Duplicate => {}
                        Accepted::TooManyGaps => {
                            before.above.keys().for_each(|key| assert!(tracker.above.contains_key(key)));
                            prop_assert!(!tracker.is_received(number));
                        }
                        Accepted::NotASequence => prop_assert!(false),
                    }
                }
                Step::Lose(first, last) => { let _ = tracker.mark_lost(first, last, &first.to_string()); }
                Step::Elsewhere(first, last) => { let _ = tracker.mark_elsewhere(first, last); }
                Step::Produced(produced) => tracker.know_produced(produced),
                Step::SaveAndRestore => prop_assert_eq!(&SequenceTracker::restore(&tracker.save(), ranges_max).unwrap(), &tracker),
            }
            prop_assert!(tracker.above.len() <= ranges_max && tracker.lost.len() <= ranges_max);
            prop_assert!(tracker.elsewhere.len() <= ranges_max);
            let counts = tracker.counts();
            prop_assert_eq!(counts.received, received.len() as u64);
            prop_assert_eq!(counts.produced, counts.received + counts.missing + counts.lost);
        }
    }

    #[test]
    fn a_damaged_record_is_refused_or_balances(through in any::<u64>(), above in prop::collection::vec(0..9_u64, 0..5), produced in any::<u64>(), first in any::<u64>(), last in any::<u64>(), count in any::<u64>(), elsewhere in prop::collection::vec(any::<(u64, u64)>(), 0..3)) {
        let lost = vec![LostRange { first, last, count, reason: String::new() }];
        if let Ok(tracker) = SequenceTracker::restore(&SavedTracker { through, above, produced, duplicates: 0, lost, elsewhere }, 10) {
            let counts = tracker.counts();
            prop_assert_eq!(counts.produced, counts.received + counts.missing + counts.lost);
        }
    }
}

#[test]
fn what_another_monitor_has_is_no_part_of_the_account_until_it_comes() {
    let mut tracker = SequenceTracker::default();
    tracker.know_produced(5_010);
    for number in 5_001..=5_010 {
        assert_eq!(tracker.accept(number), Accepted::New);
    }
    assert_eq!((tracker.counts().missing, tracker.through()), (5_000, 0), "nobody has said yet where they are");
    assert_eq!(tracker.mark_elsewhere(1, 5_000), Ok(5_000));
    assert_eq!(tracker.mark_elsewhere(1, 5_000), Ok(0), "told again");
    let counts = tracker.counts();
    assert_eq!((counts.produced, counts.received, counts.missing, counts.lost), (10, 10, 0, 0));
    assert_eq!((tracker.through(), tracker.known()), (5_010, 5_010), "it is settled with its publisher");
    assert_eq!(tracker.mark_lost(1, 5_000, "no"), Ok(0));
    assert_eq!(tracker.accept(17), Accepted::New, "an outbox that came back from a copy");
    assert_eq!(tracker.accept(17), Accepted::Duplicate);
    assert_eq!((tracker.counts().produced, tracker.counts().received), (11, 11));
}

#[test]
fn numbers_that_nobody_gives_out_are_refused() {
    let mut tracker = SequenceTracker::default();
    assert_eq!(tracker.accept(0), Accepted::NotASequence);
    assert_eq!(tracker.accept(u64::MAX), Accepted::NotASequence);
    tracker.know_produced(u64::MAX);
    assert_eq!(tracker.mark_lost(1, u64::MAX, "all of it"), Ok(SEQUENCE_MAX));
    assert_eq!(tracker.counts().missing, 0);
}
