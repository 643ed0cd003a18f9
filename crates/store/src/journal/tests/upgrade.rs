//! A journal of an earlier version is taken over whole, wherever that is interrupted, and is not called damaged.

use std::fs;

use super::*;
use crate::disk::beside;
use crate::layout;

const READINGS: u64 = 300;

/// A journal of version 1 that holds what this version has written: made with the statements of that version.
async fn of_version_1(directory: &Path) {
    let made = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(made.path())).unwrap();
    append(&journal, vec![readings("a", 1..=READINGS)]).await;
    journal.record_changes(Arc::new(vec![change(1, "a", Verdict::Dead)])).await.unwrap();
    let batch = journal.next_batch(u64::MAX, usize::MAX).await.unwrap();
    let refused = DeadLetter { line: line("a", 7), reason: "no".to_owned(), at: Timestamp::from_nanos(1) };
    journal.delivered(batch.block_ids, vec![refused]).await.unwrap();
    append(&journal, vec![readings("b", 1..=READINGS)]).await;
    journal.close().await;

    let mut connection = layout::connect(&config(directory).path).unwrap();
    layout::make_tables(&mut connection, &schema::LAYOUT.earlier[0]).map_err(String::from).unwrap();
    connection.execute("ATTACH ?1 AS made", [config(made.path()).path.to_str().unwrap()]).unwrap();
    for (table, columns) in [
        ("blocks", "*"),
        ("incarnations", "*"),
        ("changes", "epoch, publisher, json"),
        ("dead_letters", "id, refused_at, publisher, incarnation, sequence, reason, line"),
    ] {
        connection.execute_batch(&format!("INSERT INTO main.{table} SELECT {columns} FROM made.{table}")).unwrap();
    }
}

/// Everything is there, nothing is called damaged, and it stays so.
async fn is_whole(directory: &Path) {
    for _ in 0..2 {
        let (journal, recovery) = Journal::open(config(directory)).unwrap();
        assert_eq!((recovery.damage, recovery.undelivered_rows), (Vec::new(), READINGS));
        assert_eq!((recovery.last_epoch, recovery.last_changes.len()), (1, 1));
        assert_eq!((account(&journal, "a").await.stored, account(&journal, "a").await.lost), (READINGS - 1, 1));
        assert_eq!(account(&journal, "b").await.buffered, READINGS);
        assert_eq!(journal.dead_letters(10).await.unwrap()[0].reason, "no");
        assert_eq!(append(&journal, vec![readings("a", 1..=READINGS)]).await[0].through, READINGS);
        journal.close().await;
    }
    let names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("upgrad")), "{names:?}");
}

#[tokio::test]
async fn a_file_of_version_1_is_taken_over_whole() {
    let directory = tempfile::tempdir().unwrap();
    of_version_1(directory.path()).await;
    is_whole(directory.path()).await;
    let read = database::open_read_only(&config(directory.path()).path, &schema::LAYOUT).unwrap();
    assert_eq!(read.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0)), Ok(2));
}

#[tokio::test]
async fn a_crash_in_the_middle_of_an_upgrade_loses_nothing() {
    let old = tempfile::tempdir().unwrap();
    of_version_1(old.path()).await;
    let new = tempfile::tempdir().unwrap();
    fs::copy(config(old.path()).path, config(new.path()).path).unwrap();
    Journal::open(config(new.path())).unwrap().0.close().await;
    let whole_copy = fs::read(config(new.path()).path).unwrap();

    // while the copy is being filled
    let crashed = tempfile::tempdir().unwrap();
    let path = config(crashed.path()).path;
    fs::copy(config(old.path()).path, &path).unwrap();
    fs::write(beside(&path, ".upgrading"), &whole_copy[..whole_copy.len() / 2]).unwrap();
    is_whole(crashed.path()).await;

    // when the copy is complete: before and after the old log is gone
    for log in [true, false] {
        let crashed = tempfile::tempdir().unwrap();
        let path = config(crashed.path()).path;
        fs::copy(config(old.path()).path, &path).unwrap();
        fs::write(beside(&path, ".upgraded"), &whole_copy).unwrap();
        if log {
            fs::write(beside(&path, "-wal"), b"a log of the old file").unwrap();
        }
        is_whole(crashed.path()).await;
    }
}

#[tokio::test]
async fn a_damaged_file_of_version_1_is_salvaged_and_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    of_version_1(directory.path()).await;
    let path = config(directory.path()).path;
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 4096]).unwrap();
    let (journal, recovery) = Journal::open(config(directory.path())).unwrap();
    assert!(recovery.damage.iter().any(|damage| damage.contains("damaged-1")), "{recovery:?}");
    assert_eq!(account(&journal, "a").await.received, READINGS);
    journal.close().await;
    assert_eq!(Journal::open(config(directory.path())).unwrap().1.damage, Vec::<String>::new());
}

#[tokio::test]
async fn a_journal_keeps_its_identity_and_each_has_its_own() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut identities = Vec::new();
    for directory in [&one, &one, &other] {
        let (journal, _) = Journal::open(config(directory.path())).unwrap();
        identities.push(journal.identity().unwrap());
        journal.close().await;
    }
    assert!(identities[0] == identities[1] && identities[0] != identities[2], "{identities:?}");
}
