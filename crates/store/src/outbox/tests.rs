//! The outbox on real files, and under random histories with kills against a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::given_up::REASON_DAMAGED;
use super::*;
use crate::disk::beside;
use heartwatch_domain::journal_id::JournalId;
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::retransmitter::safe_runs;
use heartwatch_domain::time::Timestamp;

fn reading(sequence: Sequence) -> Reading {
    Reading {
        sequence,
        time: Timestamp::from_nanos(1_700_000_000_000_000_000),
        measurement: "light".to_owned(),
        tags: vec![("room".to_owned(), "7".to_owned())],
        fields: vec![("value".to_owned(), FieldValue::Float(0.1 + sequence as f64))],
    }
}

fn readings(numbers: impl IntoIterator<Item = Sequence>) -> Vec<Reading> {
    numbers.into_iter().map(reading).collect()
}

fn config(directory: &Path) -> OutboxConfig {
    let path = Some(directory.join("p1.outbox.sqlite"));
    OutboxConfig { path, bytes_max: 1 << 20, full_policy: FullPolicy::RefuseNew }
}

fn numbers(outbox: &Outbox, incarnation: Incarnation) -> Vec<Sequence> {
    let kept = outbox.range(incarnation, 0, u64::MAX, usize::MAX).unwrap();
    for kept in &kept {
        assert_eq!(kept.reading, reading(kept.reading.sequence));
    }
    kept.iter().map(|kept| kept.reading.sequence).collect()
}

fn confirm(
    outbox: &mut Outbox,
    life: Incarnation,
    through: Sequence,
    highest: Sequence,
    gaps: &[(Sequence, Sequence)],
) {
    outbox.confirmed(life, &safe_runs(life, through, highest, gaps), Confirmer::Unnamed).unwrap();
}

/// What one reading counts.
fn reading_bytes() -> u64 {
    let (mut outbox, _) =
        Outbox::open(OutboxConfig { path: None, bytes_max: 1 << 20, full_policy: FullPolicy::RefuseNew }, 1).unwrap();
    outbox.keep(&readings([1])).unwrap();
    outbox.level().1
}

#[test]
fn readings_stay_over_a_restart_until_they_are_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut outbox, first_life) = Outbox::open(config(directory.path()), 1_000).unwrap();
    assert_eq!(first_life, Incarnation(1_000));
    assert_eq!(outbox.keep(&readings(1..=10)), Ok(vec![]));
    confirm(&mut outbox, first_life, 2, 8, &[(3, 4), (7, 7)]);
    assert_eq!(numbers(&outbox, first_life), [3, 4, 7, 9, 10]);
    assert_eq!(outbox.level().0, 5);
    assert_eq!(outbox.range(first_life, 4, 9, 2).unwrap().len(), 2);
    let level = outbox.level();
    drop(outbox);

    // the clock went back
    let (mut outbox, second_life) = Outbox::open(config(directory.path()), 500).unwrap();
    assert_eq!(second_life, Incarnation(1_001));
    assert_eq!(outbox.level(), level);
    outbox.keep(&readings(1..=3)).unwrap();
    assert_eq!(outbox.earlier().unwrap(), [(first_life, 3, 10)]);
    assert_eq!(numbers(&outbox, first_life), [3, 4, 7, 9, 10]);
    confirm(&mut outbox, first_life, 10, 10, &[]);
    assert_eq!(outbox.earlier().unwrap(), []);
    assert_eq!(numbers(&outbox, second_life), [1, 2, 3]);
}

#[test]
fn a_full_outbox_refuses_or_gives_up_the_oldest_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let limit = 10 * reading_bytes();
    let refusing = OutboxConfig { bytes_max: limit, ..config(directory.path()) };
    let (mut outbox, first_life) = Outbox::open(refusing.clone(), 1_000).unwrap();
    outbox.keep(&readings(1..=8)).unwrap();
    assert_eq!(outbox.keep(&readings(9..=11)), Err(OutboxError::Full { bytes_max: limit }));
    assert_eq!(outbox.level().0, 8);
    drop(outbox);

    let giving_up = OutboxConfig { full_policy: FullPolicy::GiveUpOldest, ..refusing };
    let (mut outbox, life) = Outbox::open(giving_up.clone(), 2_000).unwrap();
    let range = |incarnation, first, last| GivenUpRange::lost(incarnation, first, last, REASON_FULL);
    assert_eq!(outbox.keep(&readings(1..=5)), Ok(vec![range(first_life, 1, 3)]));
    assert_eq!(outbox.keep(&readings(6..=12)), Ok(vec![range(first_life, 4, 8), range(life, 1, 2)]));
    assert_eq!(numbers(&outbox, life), (3..=12).collect::<Vec<_>>());
    assert_eq!(outbox.keep(&readings(13..=23)), Err(OutboxError::Full { bytes_max: limit }));
    drop(outbox);
    let (mut outbox, _) = Outbox::open(giving_up, 3_000).unwrap();
    assert_eq!(outbox.given_up().unwrap(), [range(first_life, 1, 8), range(life, 1, 2)]);
    outbox.given_up_told(&range(first_life, 1, 3)).unwrap();
    outbox.given_up_told(&range(life, 1, 2)).unwrap();
    assert_eq!(outbox.given_up().unwrap(), [range(first_life, 4, 8)]);
}

#[test]
fn in_memory_it_works_the_same() {
    let config = OutboxConfig { path: None, bytes_max: 1 << 20, full_policy: FullPolicy::RefuseNew };
    let (mut outbox, life) = Outbox::open(config, 5).unwrap();
    outbox.keep(&readings(1..=3)).unwrap();
    confirm(&mut outbox, life, 1, 1, &[]);
    assert_eq!(numbers(&outbox, life), [2, 3]);
}

#[test]
fn two_publishers_cannot_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let (outbox, _) = Outbox::open(config(directory.path()), 1).unwrap();
    let error = Outbox::open(config(directory.path()), 2).unwrap_err().to_string();
    assert!(error.contains("p1.outbox.sqlite") && error.contains("in use by process"), "{error}");
    drop(outbox);
    Outbox::open(config(directory.path()), 3).unwrap();
}

#[test]
fn a_damaged_reading_is_given_up_by_number_and_a_torn_file_starts() {
    let directory = tempfile::tempdir().unwrap();
    let path = config(directory.path()).path.unwrap();
    let (mut outbox, life) = Outbox::open(config(directory.path()), 1).unwrap();
    outbox.keep(&readings(1..=2_000)).unwrap();
    drop(outbox);
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let row = kept_reading::to_bytes(&reading(1_000), life);
    let at = changed.windows(row.len()).position(|window| window == row).unwrap();
    changed[at + 15] ^= 1;
    fs::write(&path, changed).unwrap();
    let (outbox, _) = Outbox::open(config(directory.path()), 1).unwrap();
    assert_eq!(outbox.given_up().unwrap(), [GivenUpRange::lost(life, 1_000, 1_000, REASON_DAMAGED)]);
    assert_eq!(numbers(&outbox, life).len(), 1_999);
    assert_eq!(outbox.damage().len(), 1);
    drop(outbox);

    for length in [whole.len() - 1, whole.len() / 2, 3_000, 50] {
        fs::write(&path, &whole[..length]).unwrap();
        let (mut outbox, new_life) = Outbox::open(config(directory.path()), 10).unwrap();
        assert!(!outbox.damage().is_empty() && new_life > life);
        let left = numbers(&outbox, life);
        assert!(left.len() < 2_000 && (length < whole.len() / 2 || left.len() > 500), "{length}: {}", left.len());
        outbox.keep(&readings(1..=3)).unwrap();
    }
    assert!(beside(&path, ".damaged-3").exists(), "the damaged files are kept");
}

/// Found by `prove --rows --seed 19`: the next life knew the number from the file, and only from there.
#[test]
fn a_number_that_a_kill_left_out_of_the_note_is_noted_by_the_next_life() {
    let directory = tempfile::tempdir().unwrap();
    let path = config(directory.path()).path.unwrap();
    let (mut outbox, first) = Outbox::open(config(directory.path()), 1_000).unwrap();
    outbox.keep(&readings(1..=2)).unwrap();
    let behind = fs::read(beside(&path, ".last")).unwrap();
    outbox.keep(&readings(3..=3)).unwrap();
    drop(outbox);
    fs::write(beside(&path, ".last"), behind).unwrap();
    drop(Outbox::open(config(directory.path()), 2_000).unwrap());
    fs::remove_file(&path).unwrap();
    let (outbox, _) = Outbox::open(config(directory.path()), 3_000).unwrap();
    assert_eq!(outbox.earlier_lives().unwrap(), [(first, 3)]);
    assert!(outbox.damage().iter().any(|damage| damage.contains("numbers 1 to 3")), "{:?}", outbox.damage());
}

#[test]
fn a_number_that_was_given_out_is_known_also_when_the_file_was_torn_or_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = config(directory.path()).path.unwrap();
    let (mut outbox, first) = Outbox::open(config(directory.path()), 1_000).unwrap();
    outbox.keep(&readings(1..=5)).unwrap();
    confirm(&mut outbox, first, 5, 5, &[]);
    drop(outbox);
    let (mut outbox, second) = Outbox::open(config(directory.path()), 2_000).unwrap();
    assert_eq!(outbox.earlier_lives().unwrap(), [(first, 5)], "also when all of them are confirmed");
    outbox.keep(&readings(1..=3)).unwrap();
    // the log as it was before the last commit: its end is torn off
    let log = fs::read(beside(&path, "-wal")).unwrap();
    outbox.keep(&readings(4..=7)).unwrap();
    let (main, number) = (fs::read(&path).unwrap(), fs::read(beside(&path, ".last")).unwrap());
    drop(outbox);
    fs::write(&path, main).unwrap();
    fs::write(beside(&path, "-wal"), log).unwrap();
    fs::write(beside(&path, ".last"), &number).unwrap();

    let (outbox, third) = Outbox::open(config(directory.path()), 3_000).unwrap();
    assert_eq!(outbox.earlier_lives().unwrap(), [(first, 5), (second, 7)]);
    assert!(outbox.damage()[0].contains("4 to 7"), "{:?}", outbox.damage());
    assert_eq!(numbers(&outbox, second), [1, 2, 3]);
    drop(outbox);

    fs::remove_file(&path).unwrap();
    let (outbox, fourth) = Outbox::open(config(directory.path()), 1_500).unwrap();
    assert_eq!(outbox.earlier_lives().unwrap(), [(first, 5), (second, 7)], "the third has given out none");
    assert!(fourth > second);
    drop(outbox);
    let mut damaged = number;
    damaged[3] ^= 1;
    fs::write(beside(&path, ".last"), damaged).unwrap();
    let (outbox, _) = Outbox::open(config(directory.path()), 4_000).unwrap();
    assert!(outbox.damage().len() == 1 && third > second, "what cannot be believed is said: {:?}", outbox.damage());
}

#[test]
fn which_monitor_has_confirmed_what_is_known_over_a_restart_and_not_where_the_file_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (mut outbox, life) = Outbox::open(config(directory.path()), 1_000).unwrap();
    outbox.keep(&readings(1..=10)).unwrap();
    let run = |first, last| SequenceRange { incarnation: life, first, last };
    let of = |bits| Confirmer::Journal(JournalId::from_bits(bits));
    outbox.confirmed(life, &[run(1, 4), run(7, 7)], of(1)).unwrap();
    // another monitor has what was confirmed before as well: that does not make it the first
    outbox.confirmed(life, &[run(1, 6)], of(2)).unwrap();
    drop(outbox);
    let (outbox, _) = Outbox::open(config(directory.path()), 2_000).unwrap();
    let pieces = [(run(1, 4), Some(of(1))), (run(5, 6), Some(of(2))), (run(7, 7), Some(of(1))), (run(8, 12), None)];
    assert_eq!(outbox.confirmed_by(run(1, 12)), pieces);
    drop(outbox);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(&config(directory.path()).path.unwrap(), suffix));
    }
    let (outbox, _) = Outbox::open(config(directory.path()), 3_000).unwrap();
    assert_eq!(outbox.confirmed_by(run(1, 12)), [(run(1, 12), None)]);
}

#[test]
fn of_many_lives_the_latest_are_known() {
    let directory = tempfile::tempdir().unwrap();
    for life in 1..=20 {
        let (mut outbox, _) = Outbox::open(config(directory.path()), life).unwrap();
        outbox.keep(&readings(1..=life)).unwrap();
        confirm(&mut outbox, Incarnation(life), life, life, &[]);
    }
    let (outbox, _) = Outbox::open(config(directory.path()), 30).unwrap();
    let expected: Vec<_> = (13..=20).map(|life| (Incarnation(life), life)).collect();
    assert_eq!(outbox.earlier_lives().unwrap(), expected);
}

#[derive(Debug, Clone)]
enum Step {
    Keep(u64),
    Confirm(prop::sample::Index, u64, u64, Vec<(u64, u64)>),
    Told(prop::sample::Index),
    Restart,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let gaps = prop::collection::vec((1..60_u64, 0..5_u64).prop_map(|(first, more)| (first, first + more)), 0..4);
    let step = prop_oneof![
        6 => (1..9_u64).prop_map(Step::Keep),
        4 => (any::<prop::sample::Index>(), 0..60_u64, 0..60_u64, gaps).prop_map(|(life, through, highest, gaps)| Step::Confirm(life, through, highest, gaps)),
        2 => any::<prop::sample::Index>().prop_map(Step::Told),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn a_reading_is_kept_until_confirmed_or_named_once(steps in steps(), readings_max in 10..40_u64, gives_up in any::<bool>()) {
        let full_policy = if gives_up { FullPolicy::GiveUpOldest } else { FullPolicy::RefuseNew };
        let limits = |directory: &Path| OutboxConfig { bytes_max: readings_max * reading_bytes(), full_policy, ..config(directory) };
        let mut directory = tempfile::tempdir().unwrap();
        let (mut outbox, mut life) = Outbox::open(limits(directory.path()), 100).unwrap();
        let mut kept: BTreeSet<(Incarnation, Sequence)> = BTreeSet::new();
        let mut named: BTreeSet<(Incarnation, Sequence)> = BTreeSet::new();
        let mut last: BTreeMap<Incarnation, Sequence> = BTreeMap::from([(life, 0)]);
        let mut confirmed = BTreeMap::new();
        for step in steps {
            match step {
                Step::Keep(count) => {
                    let first = last[&life] + 1;
                    match outbox.keep(&readings(first..first + count)) {
                        Ok(ranges) => {
                            kept.extend((first..first + count).map(|number| (life, number)));
                            for range in ranges {
                                prop_assert!(gives_up);
                                for number in range.first..=range.last {
                                    prop_assert!(kept.remove(&(range.incarnation, number)), "{number} was not kept");
                                    prop_assert!(named.insert((range.incarnation, number)), "{number} named twice");
                                }
                            }
                            last.insert(life, first + count - 1);
                        }
                        Err(error) => {
                            prop_assert!(!gives_up && kept.len() as u64 + count > readings_max, "{}", error);
                        }
                    }
                }
                Step::Confirm(which, through, highest, gaps) => {
                    let lives: Vec<_> = last.keys().copied().collect();
                    let which = lives[which.index(lives.len())];
                    let by = Confirmer::of((through % 3 > 0).then(|| JournalId::from_bits((through % 3).into())));
                    let safe = safe_runs(which, through, highest, &gaps);
                    outbox.confirmed(which, &safe, by).unwrap();
                    for run in safe {
                        let theirs = kept.range((which, run.first)..=(which, run.last));
                        confirmed.extend(theirs.map(|number| (*number, by)));
                        kept.retain(|(life, number)| *life != which || !(run.first..=run.last).contains(number));
                    }
                }
                Step::Told(which) => {
                    let ranges = outbox.given_up().unwrap();
                    if !ranges.is_empty() {
                        let range = &ranges[which.index(ranges.len())];
                        outbox.given_up_told(range).unwrap();
                        named.retain(|(life, number)| *life != range.incarnation || !(range.first..=range.last).contains(number));
                    }
                }
                Step::Restart | Step::Kill => {
                    if matches!(step, Step::Kill) {
                        let copy = tempfile::tempdir().unwrap();
                        for suffix in ["", "-wal"] {
                            let from = beside(&config(directory.path()).path.unwrap(), suffix);
                            if from.exists() {
                                fs::copy(&from, beside(&config(copy.path()).path.unwrap(), suffix)).unwrap();
                            }
                        }
                        directory = copy;
                    }
                    drop(outbox);
                    let before = life;
                    (outbox, life) = Outbox::open(limits(directory.path()), 100).unwrap();
                    prop_assert!(life > before && outbox.damage().is_empty());
                    last.insert(life, 0);
                }
            }
            for &which in last.keys() {
                let expected: Vec<_> = kept.iter().filter(|(life, _)| *life == which).map(|(_, number)| *number).collect();
                prop_assert_eq!(numbers(&outbox, which), expected);
            }
            prop_assert_eq!(outbox.level(), (kept.len() as u64, kept.len() as u64 * reading_bytes()));
            let known: Vec<_> = outbox.earlier_lives().unwrap().into_iter().map(|(life, _)| life).chain([life]).collect();
            for (&(incarnation, number), &by) in confirmed.iter().filter(|((life, _), _)| known.contains(life)) {
                let run = SequenceRange { incarnation, first: number, last: number };
                prop_assert_eq!(outbox.confirmed_by(run), [(run, Some(by))]);
            }
            let recorded = outbox.given_up().unwrap();
            let count: u64 = recorded.iter().map(|range| range.last - range.first + 1).sum();
            prop_assert_eq!(count, named.len() as u64);
            for range in recorded {
                for number in range.first..=range.last {
                    prop_assert!(named.contains(&(range.incarnation, number)));
                }
            }
        }
    }
}

/// The files of an outbox that was killed: readings of one life that wait, in the file and in its log.
fn killed(directory: &Path) -> (Incarnation, Vec<(&'static str, Vec<u8>)>) {
    let path = config(directory).path.unwrap();
    let (mut outbox, life) = Outbox::open(config(directory), 1_000).unwrap();
    for first in (1..=WAITED).step_by(30) {
        outbox.keep(&readings(first..=first + 29)).unwrap();
        if first < 300 {
            confirm(&mut outbox, life, 90, 90, &[]);
            outbox.connection.pragma_update_and_check(None, "wal_checkpoint", "PASSIVE", |_| Ok(())).unwrap();
        }
    }
    let files = ["", "-wal", ".last"].map(|suffix| (suffix, fs::read(beside(&path, suffix)).unwrap()));
    (life, files.to_vec())
}

const WAITED: Sequence = 600;

#[test]
fn whatever_is_changed_or_cut_on_disk_is_said_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let (life, files) = killed(directory.path());
    let opens = |files: &[(&str, Vec<u8>)], what: &str| {
        let directory = tempfile::tempdir().unwrap();
        for (suffix, bytes) in files {
            fs::write(beside(&config(directory.path()).path.unwrap(), suffix), bytes).unwrap();
        }
        let (outbox, new_life) = Outbox::open(config(directory.path()), 1_000).unwrap();
        let lives = outbox.earlier_lives().unwrap();
        // each reading is compared with what was written
        let left = numbers(&outbox, life).into_iter().filter(|number| *number > 90).count() as u64;
        let others = outbox.earlier().unwrap().into_iter().filter(|(of, ..)| *of != life).count();
        assert_eq!(
            (others, outbox.earlier().unwrap().len()),
            (0, usize::from(left > 0)),
            "{what}: {:?}",
            outbox.damage()
        );
        let is_known = lives == [(life, WAITED)];
        if left < WAITED - 90 || !is_known {
            assert!(!outbox.damage().is_empty(), "{what}: {left} are left and nothing is said");
        }
        // the monitor asks for every number up to the last one, and is told what is not here
        if files.iter().any(|(suffix, _)| *suffix == ".last") {
            assert!(is_known || what.contains(".last"), "{what}: {lives:?}, {:?}", outbox.damage());
            assert!(new_life > life || what.contains(".last"), "{what}");
        }
        outbox.damage().to_vec()
    };
    assert_eq!(opens(&files, "whole"), Vec::<String>::new());
    for (number, (suffix, whole)) in files.iter().enumerate() {
        let step = if *suffix == ".last" { 7 } else { 1_000 };
        for at in (0..whole.len()).step_by(step) {
            let mut changed = files.clone();
            changed[number].1[at] ^= 1 << (at / step % 8);
            opens(&changed, &format!("byte {at} of outbox.sqlite{suffix}"));
        }
        for tenth in 0..10 {
            let mut changed = files.clone();
            changed[number].1.truncate(whole.len() * tenth / 10);
            opens(&changed, &format!("outbox.sqlite{suffix} cut at {tenth} tenths"));
        }
    }
}
