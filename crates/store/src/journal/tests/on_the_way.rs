//! Blocks that are on their way to the sink while others are taken and marked.

use std::collections::BTreeSet;

use super::*;

async fn take(journal: &Journal, besides: &BTreeSet<i64>) -> Batch {
    journal.next_batch_besides(1, 1, Arc::new(besides.clone())).await.unwrap()
}

#[tokio::test]
async fn what_is_on_its_way_is_not_taken_again_and_may_end_in_any_order() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    for sequence in 1..=4 {
        append(&journal, vec![readings("a", [sequence])]).await;
    }
    let mut on_the_way = BTreeSet::new();
    let mut batches = Vec::new();
    for sequence in 1..=4 {
        let batch = take(&journal, &on_the_way).await;
        assert_eq!(batch.lines, [line("a", sequence), b"\n".to_vec()].concat());
        on_the_way.extend(&batch.block_ids);
        batches.push(batch);
    }
    assert_eq!(take(&journal, &on_the_way).await, Batch::default());
    let bytes: u64 = batches.iter().map(|batch| batch.bytes).sum();
    assert_eq!(bytes, journal.level().undelivered_bytes);
    for batch in [batches.pop().unwrap(), batches.remove(1)] {
        journal.delivered(batch.block_ids, Vec::new()).await.unwrap();
    }
    assert_eq!((account(&journal, "a").await.stored, waiting(&journal).await.len()), (2, 2));
    // what was on its way and is not marked comes again, in the next life too
    journal.close().await;
    let (journal, recovery) = Journal::open(config(directory.path())).unwrap();
    assert_eq!(recovery.undelivered_rows, 2);
    let left: Vec<_> = [1, 3].iter().map(|sequence| String::from_utf8(line("a", *sequence)).unwrap()).collect();
    assert_eq!(waiting(&journal).await, left);
    assert_eq!(account(&journal, "a").await.stored, 2);
}

#[tokio::test]
async fn a_mark_rides_in_the_next_commit_and_does_not_wait_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    append(&journal, vec![readings("a", 1..=3)]).await;
    let taken = take(&journal, &BTreeSet::new()).await;
    let marking = journal.clone();
    let marked = tokio::spawn(async move { marking.delivered(taken.block_ids, Vec::new()).await });
    // with a commit right behind it, or alone: it ends either way
    append(&journal, vec![readings("a", [4])]).await;
    marked.await.unwrap().unwrap();
    assert_eq!((account(&journal, "a").await.stored, account(&journal, "a").await.buffered), (3, 1));
    let alone = take(&journal, &BTreeSet::new()).await;
    journal.delivered(alone.block_ids, Vec::new()).await.unwrap();
    assert_eq!((account(&journal, "a").await.stored, journal.level().undelivered_rows), (4, 0));
    // one that nobody waits for any more is kept when the journal is closed
    append(&journal, vec![readings("a", [5])]).await;
    let last = take(&journal, &BTreeSet::new()).await;
    let marking = journal.clone();
    let abandoned = tokio::spawn(async move { marking.delivered(last.block_ids, Vec::new()).await });
    tokio::task::yield_now().await;
    journal.close().await;
    let _ = abandoned.await.unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    assert_eq!(account(&journal, "a").await.received, 5);
}

fn large_reading(text: &str, sequence: Sequence) -> IntakeEntry {
    let line = format!("m,publisher=a text=\"{text}\" {sequence}").into_bytes();
    let lines = [(sequence, line)].into_iter().collect();
    IntakeEntry::Readings { publisher: publisher("a"), host: host(), incarnation: LIFE, lines }
}

#[tokio::test]
async fn who_takes_a_batch_waits_for_the_group_that_is_committed_and_for_none_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    append(&journal, vec![readings("b", [1])]).await;
    // somebody else writes to the file: until he ends, no group is committed
    let other = rusqlite::Connection::open(directory.path().join("journal.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let large = "x".repeat(1 << 20);
    let mut appends: Vec<_> =
        (1..=8).map(|sequence| Box::pin(journal.append(Arc::new(vec![large_reading(&large, sequence)])))).collect();
    for append in &mut appends {
        assert!(futures_util::poll!(append).is_pending());
    }
    let mut taking = Box::pin(journal.next_batch(u64::MAX, usize::MAX));
    assert!(futures_util::poll!(&mut taking).is_pending());
    other.execute_batch("ROLLBACK").unwrap();
    let taken = taking.await.unwrap();
    assert!((1..=2).contains(&taken.rows), "{} rows: behind every group that waits", taken.rows);
    for kept in futures_util::future::join_all(appends).await {
        kept.unwrap();
    }
    assert_eq!(journal.next_batch(u64::MAX, usize::MAX).await.unwrap().rows, 9);
}

#[tokio::test]
async fn more_than_the_memory_holds_is_taken_from_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let large = "x".repeat(1 << 20);
    for sequence in 1..=24 {
        append(&journal, vec![large_reading(&large, sequence)]).await;
    }
    for sequence in 1..=24 {
        let batch = take(&journal, &BTreeSet::new()).await;
        assert_eq!((batch.rows, line_time(batch.lines.trim_ascii_end())), (1, Some(sequence)));
        journal.delivered(batch.block_ids, Vec::new()).await.unwrap();
    }
    assert_eq!((account(&journal, "a").await.stored, journal.level().undelivered_bytes), (24, 0));
}
