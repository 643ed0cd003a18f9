//! Rows that their publisher does not number: they are in its account by their count.

use std::fs;

use super::*;
use crate::disk::beside;

fn arrived(who: &str, numbers: impl IntoIterator<Item = u64>) -> IntakeEntry {
    let (mut lines, mut rows) = (Vec::new(), 0);
    for number in numbers {
        lines.extend(line(who, number));
        lines.push(b'\n');
        rows += 1;
    }
    IntakeEntry::Arrived { publisher: publisher(who), lines, rows, mark: None }
}

/// Opens the files as they are now, in another directory.
pub(super) fn crashed(directory: &Path) -> (tempfile::TempDir, Journal) {
    let copy = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let from = beside(&config(directory).path, suffix);
        fs::copy(from, beside(&config(copy.path()).path, suffix)).unwrap();
    }
    let (journal, recovery) = Journal::open(config(copy.path())).unwrap();
    assert_eq!(recovery.damage, Vec::<String>::new());
    (copy, journal)
}

#[tokio::test]
async fn rows_without_numbers_are_in_their_publishers_account_also_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    assert_eq!(append(&journal, vec![arrived("meter", 1..=3), readings("a", [1])]).await.len(), 1);
    append(&journal, vec![arrived("meter", 4..=5)]).await;
    let waits = Account { produced: 5, received: 5, buffered: 5, ..Account::default() };
    assert_eq!(account(&journal, "meter").await, waits);
    let ledger = journal.accounts().await.unwrap();
    assert_eq!(ledger[1].incarnation, Incarnation::UNNUMBERED);
    assert_eq!(snapshot(&config(directory.path()).path, true).unwrap().accounts, ledger);
    let (_copy, other) = crashed(directory.path());
    assert_eq!(other.accounts().await.unwrap(), ledger, "what the blocks hold is counted once");

    let batch = journal.next_batch(100, 10_000).await.unwrap();
    let letter = DeadLetter { line: line("meter", 2), reason: "conflict".into(), at: Timestamp::from_nanos(5) };
    journal.delivered(batch.block_ids, vec![letter]).await.unwrap();
    append(&journal, vec![arrived("meter", 6..=6)]).await;
    let expected = Account { produced: 6, received: 6, stored: 4, buffered: 1, lost: 1, ..Account::default() };
    assert_eq!(account(&journal, "meter").await, expected);
    let (_copy, other) = crashed(directory.path());
    assert_eq!(account(&other, "meter").await, expected);
    let letters = other.dead_letters(10).await.unwrap();
    assert_eq!(letters[0].publisher, Some(publisher("meter")), "a dead letter says whose it is");
    let losses = other.losses().await.unwrap();
    assert_eq!((losses[0].publisher.as_str(), losses[0].count), ("meter", 1));
    journal.close().await;
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    assert_eq!(account(&journal, "meter").await, expected);
}

#[tokio::test]
async fn a_publisher_that_calls_itself_incarnation_0_shares_the_line_and_nothing_is_confused() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let lines = [(1, line("a", 1)), (2, line("a", 2))].into_iter().collect();
    let numbered =
        IntakeEntry::Readings { publisher: publisher("a"), host: host(), incarnation: Incarnation(0), lines };
    append(&journal, vec![arrived("a", 7..=9), numbered.clone()]).await;
    let state = append(&journal, vec![numbered]).await;
    assert_eq!((state[0].through, state[0].highest), (2, 2));
    let expected = Account { produced: 5, received: 5, buffered: 5, duplicates: 2, ..Account::default() };
    assert_eq!(account(&journal, "a").await, expected);
    let (_copy, other) = crashed(directory.path());
    assert_eq!(account(&other, "a").await, expected);
}

#[tokio::test]
async fn what_has_no_room_is_lost_by_name_because_nobody_sends_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(JournalConfig { bytes_max: 2_000, ..config(directory.path()) }).unwrap();
    append(&journal, vec![arrived("meter", 1..=10)]).await;
    append(&journal, vec![arrived("meter", 11..=40)]).await;
    let expected = Account { produced: 40, received: 10, buffered: 10, lost: 30, ..Account::default() };
    assert_eq!(account(&journal, "meter").await, expected);
    assert_eq!(journal.level().refused_rows, 30);
    let losses = journal.losses().await.unwrap();
    assert!(losses[0].reason.contains("reached its limit") && losses[0].count == 30, "{losses:?}");
    let (_copy, other) = crashed(directory.path());
    assert_eq!(account(&other, "meter").await, expected);
}

#[tokio::test]
async fn a_changed_row_without_a_number_is_counted_as_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    append(&journal, vec![arrived("meter", 1..=2), arrived("meter", 3..=3), readings("a", 1..=4)]).await;
    journal.close().await;
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    journal
        .execute("UPDATE blocks SET lines = CAST(replace(CAST(lines AS TEXT), 'publisher=meter value=2i', 'publisher=meter value=9i') AS BLOB)")
        .await
        .unwrap();
    assert_eq!(waiting(&journal).await.len(), 5, "the message that it came in is one piece");
    let expected = Account { produced: 3, received: 3, buffered: 1, lost: 2, ..Account::default() };
    assert_eq!(account(&journal, "meter").await, expected);
    assert_eq!(account(&journal, "a").await.buffered, 4);
}
