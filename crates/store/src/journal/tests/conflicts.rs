//! A number that comes twice with different content is two readings: nothing is replaced or dropped in silence.

use std::fs;

use super::*;
use crate::disk::beside;

/// Another reading under a number that [`line`] has.
fn other(who: &str, sequence: Sequence) -> Vec<u8> {
    let time = 1_700_000_000_000_000_000 + sequence;
    format!("m,host=h1,publisher={who} value={}i {time}", sequence + 1_000).into_bytes()
}

fn rows(who: &str, rows: impl IntoIterator<Item = (Sequence, Vec<u8>)>) -> IntakeEntry {
    let lines = rows.into_iter().collect();
    IntakeEntry::Readings { publisher: publisher(who), host: host(), incarnation: LIFE, lines }
}

fn others(who: &str, sequences: std::ops::RangeInclusive<Sequence>) -> IntakeEntry {
    rows(who, sequences.map(|sequence| (sequence, other(who, sequence))))
}

/// Opens the files as they are now, in another directory.
fn crashed(directory: &Path) -> (tempfile::TempDir, Journal) {
    let copy = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(beside(&config(directory).path, suffix), beside(&config(copy.path()).path, suffix)).unwrap();
    }
    let (journal, recovery) = Journal::open(config(copy.path())).unwrap();
    assert_eq!(recovery.damage, Vec::<String>::new());
    (copy, journal)
}

/// What the ledger says of 10 readings, and of so many others with numbers of theirs.
fn with_conflicts(conflicts: u64, duplicates: u64) -> Account {
    let rows = 10 + conflicts;
    Account { produced: rows, received: rows, buffered: rows, conflicts, duplicates, ..Account::default() }
}

#[tokio::test]
async fn both_readings_of_one_number_are_kept_and_copies_of_either_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    append(&journal, vec![readings("b", 1..=3), readings("a", 1..=10)]).await;
    // in the same commit as the first, in a later one, and each of them twice
    let state = append(&journal, vec![others("a", 1..=4), readings("a", 2..=3), others("a", 4..=4)]).await;
    assert_eq!((state[0].through, state[0].refused), (10, 0), "it may be told that all is safe");
    assert_eq!(account(&journal, "a").await, with_conflicts(4, 3));
    append(&journal, vec![others("a", 1..=5), readings("a", 1..=10)]).await;
    assert_eq!(account(&journal, "a").await, with_conflicts(5, 17));
    let kept = waiting(&journal).await;
    assert_eq!(kept.len(), 18);
    let points: BTreeSet<_> = kept
        .iter()
        .map(|row| decode(row.as_bytes()).unwrap())
        .map(|row| (row.measurement, format!("{:?}", row.tags), row.time))
        .collect();
    assert_eq!(points.len(), 18, "each has a point of its own");
    for value in 1_001..=1_005 {
        assert!(kept.iter().any(|row| row.contains(&format!("value={value}i"))), "{value}");
    }

    let (copy, other_journal) = crashed(directory.path());
    assert_eq!(account(&other_journal, "a").await, with_conflicts(5, 17));
    append(&other_journal, vec![others("a", 1..=6), readings("a", 1..=10)]).await;
    assert_eq!(account(&other_journal, "a").await, with_conflicts(6, 32), "it is known from the blocks");
    drop(copy);

    deliver_all(&journal).await;
    append(&journal, vec![others("a", 5..=7)]).await;
    let expected = Account { stored: 15, buffered: 2, ..with_conflicts(7, 18) };
    assert_eq!(account(&journal, "a").await, expected, "delivered blocks are compared as well");
    let letter = DeadLetter { line: line("a", 1), reason: "no".to_owned(), at: Timestamp::from_nanos(5) };
    let batch = journal.next_batch(100, 10_000).await.unwrap();
    let moved = batch.lines.split(|&byte| byte == b'\n').next().unwrap().to_vec();
    journal.delivered(batch.block_ids, vec![DeadLetter { line: moved, ..letter }]).await.unwrap();
    let expected = Account { stored: 16, buffered: 0, lost: 1, ..expected };
    assert_eq!(account(&journal, "a").await, expected);
}

#[tokio::test]
async fn two_in_one_message_are_two_readings() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let twice = (1..=10).flat_map(|sequence| [(sequence, line("a", sequence)), (sequence, other("a", sequence))]);
    let copies = twice.clone().collect::<Vec<_>>();
    append(&journal, vec![rows("a", twice)]).await;
    assert_eq!(account(&journal, "a").await, with_conflicts(10, 0));
    append(&journal, vec![rows("a", copies)]).await;
    assert_eq!(account(&journal, "a").await, with_conflicts(10, 20));
}

#[tokio::test]
async fn a_copy_is_one_however_it_is_written_and_wherever_the_first_was_moved_to() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let row = |value: &str, time: u64| format!("m,host=h1,publisher=a {value} {time}").into_bytes();
    // two readings at one time: the second is moved
    append(&journal, vec![rows("a", [(1, row("x=1,y=2i", 1_000)), (2, row("x=2,y=2i", 1_000))])]).await;
    let again = [(1, row("y=2i,x=1", 1_000)), (2, row("x=2,y=2i", 1_000)), (2, row("x=2i,y=2", 1_000))];
    append(&journal, vec![rows("a", again.clone())]).await;
    let (_copy, other_journal) = crashed(directory.path());
    append(&other_journal, vec![rows("a", again)]).await;
    for (journal, duplicates) in [(&journal, 3), (&other_journal, 6)] {
        let expected = Account { produced: 2, received: 2, buffered: 2, duplicates, ..Account::default() };
        assert_eq!(account(journal, "a").await, expected);
    }
    // the same values at another time are another reading
    append(&journal, vec![rows("a", [(1, row("x=1,y=2i", 5_000_000_000))])]).await;
    assert_eq!(account(&journal, "a").await.conflicts, 1);
}

#[tokio::test]
async fn where_the_first_is_gone_the_second_counts_as_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    let aged = JournalConfig { history: Duration::ZERO, ..config(directory.path()) };
    let (journal, _) = Journal::open(aged).unwrap();
    append(&journal, vec![readings("a", 1..=10)]).await;
    deliver_all(&journal).await;
    append(&journal, vec![others("a", 1..=2)]).await;
    let expected = Account { produced: 10, received: 10, stored: 10, duplicates: 2, ..Account::default() };
    assert_eq!(account(&journal, "a").await, expected);
}

#[tokio::test]
async fn one_without_room_is_lost_by_name_because_its_number_is_safe_already() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(JournalConfig { bytes_max: 3_000, ..config(directory.path()) }).unwrap();
    let mut next = 1;
    while append(&journal, vec![readings("a", [next])]).await[0].refused == 0 {
        next += 1;
    }
    append(&journal, vec![others("a", 1..=1)]).await;
    let then = account(&journal, "a").await;
    assert_eq!((then.conflicts, then.lost, then.missing), (1, 1, 1), "{then:?}");
    assert!(journal.losses().await.unwrap()[0].reason.contains("limit"));
}

#[tokio::test]
async fn the_numbers_of_many_publishers_in_many_blocks_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let names: Vec<String> = (0..30).map(|number| format!("p{number}")).collect();
    for first in (1..=400).step_by(20) {
        append(&journal, names.iter().map(|name| readings(name, first..first + 20)).collect()).await;
    }
    append(&journal, names.iter().map(|name| readings(name, 1..=400)).collect()).await;
    append(&journal, names.iter().map(|name| others(name, 200..=201)).collect()).await;
    for name in &names {
        let then = account(&journal, name).await;
        assert_eq!((then.received, then.conflicts, then.duplicates), (402, 2, 400), "{name}");
    }
}
