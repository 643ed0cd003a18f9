//! At the limits: of the configuration, of the disk, and of sharing.

use super::*;

#[tokio::test]
async fn at_the_limit_readings_stay_with_their_publisher_and_verdicts_still_come_in() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(JournalConfig { bytes_max: 20_000, ..config(directory.path()) }).unwrap();
    let mut sent = 0;
    let full = loop {
        let state = append(&journal, vec![readings("a", sent + 1..=sent + 10)]).await;
        sent += 10;
        if state[0].refused > 0 {
            break state[0].clone();
        }
        assert_eq!(state[0].through, sent);
    };
    assert_eq!(full.through + full.refused, sent);
    assert!(journal.level().bytes <= 20_000, "{:?}", journal.level());
    assert!(journal.slow_down() > Duration::ZERO, "{:?}", journal.level());
    let beats = IntakeEntry::Unnumbered { lines: b"beat x=1 1\n".repeat(50), rows: 50 };
    append(&journal, vec![beats, readings("a", 1..=5)]).await;
    assert_eq!(journal.level().refused_rows, full.refused + 50);
    journal.record_changes(Arc::new(vec![change(1, "a", Verdict::Dead)])).await.unwrap();
    assert!(waiting(&journal).await.iter().any(|row| row.contains("heartwatch_verdict")));
    let before = account(&journal, "a").await;
    assert_eq!((before.duplicates, before.missing), (5, full.refused), "{before:?}");

    // delivered rows make room, and the publisher sends the refused ones again
    deliver_all(&journal).await;
    let state = append(&journal, vec![readings("a", full.through + 1..=sent)]).await;
    assert_eq!((state[0].refused, state[0].through), (0, sent));
    assert_eq!(account(&journal, "a").await.received, sent);
    assert_eq!(journal.slow_down(), Duration::ZERO);
}

#[tokio::test]
async fn without_a_sink_the_oldest_rows_make_room() {
    let directory = tempfile::tempdir().unwrap();
    let small = JournalConfig { bytes_max: 20_000, ..config(directory.path()) };
    let (journal, _) = Journal::open(small.clone()).unwrap();
    append(&journal, vec![readings("a", 1..=10)]).await;
    journal.close().await;
    // these ten waited for a sink; without one they wait on, as long as other history can make room
    let (journal, recovery) = Journal::open(JournalConfig { has_sink: false, ..small.clone() }).unwrap();
    assert_eq!(recovery.undelivered_rows, 10);
    for first in (11..1_000).step_by(10) {
        let state = append(&journal, vec![readings("a", first..first + 10)]).await;
        assert_eq!((state[0].refused, state[0].through), (0, first + 9));
    }
    let then = account(&journal, "a").await;
    let in_file = rows_in_file(directory.path(), "a");
    assert_eq!((then.stored, then.expired, then.buffered), (in_file, 1_000 - in_file, 0));
    assert!((200..300).contains(&in_file) && journal.level().bytes <= 20_000, "{then:?}");
    journal.close().await;
    let (journal, _) = Journal::open(small.clone()).unwrap();
    let then = account(&journal, "a").await;
    assert_eq!((then.stored, then.buffered), (in_file - 10, 10), "with a sink again they are for it");
    journal.close().await;

    let tiny = JournalConfig { bytes_max: 500, has_sink: false, ..small };
    let (journal, _) = Journal::open(tiny).unwrap();
    assert_eq!(append(&journal, vec![readings("a", 1_001..=1_003)]).await[0].refused, 0);
    assert_eq!(journal.level().undelivered_rows, 0, "at last they make room as well");
    let then = account(&journal, "a").await;
    assert_eq!((then.stored, then.expired), (3, 1_000));
}

#[tokio::test]
async fn delivered_rows_leave_with_age() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(JournalConfig { history: Duration::ZERO, ..config(directory.path()) }).unwrap();
    append(&journal, vec![readings("a", 1..=10)]).await;
    append(&journal, vec![readings("a", 11..=20)]).await;
    let first = journal.next_batch(1, 1).await.unwrap();
    journal.delivered(first.block_ids, Vec::new()).await.unwrap();
    assert_eq!(journal.level().bytes, journal.level().undelivered_bytes);
    assert_eq!(waiting(&journal).await.len(), 10);
    assert_eq!(account(&journal, "a").await.stored, 10);
}

#[tokio::test]
async fn a_full_disk_confirms_nothing_and_the_next_try_works() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    append(&journal, vec![readings("a", 1..=10)]).await;
    let before = account(&journal, "a").await;
    journal.execute("PRAGMA max_page_count = 1").await.unwrap();
    let many = Arc::new(vec![readings("a", 11..=5_000)]);
    for _ in 0..2 {
        let error = journal.append(Arc::clone(&many)).await.unwrap_err();
        assert!(matches!(&error, JournalError::Write { reason } if reason.contains("full")), "{error}");
        assert_eq!(account(&journal, "a").await, before);
        assert_eq!(waiting(&journal).await.len(), 10);
    }
    journal.execute("PRAGMA max_page_count = 1000000").await.unwrap();
    assert_eq!(journal.append(many).await.unwrap().states[0].through, 5_000);
    assert_eq!(account(&journal, "a").await.duplicates, 0);
    assert_eq!(waiting(&journal).await.len(), 5_000);
}

#[tokio::test]
async fn two_monitors_cannot_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let error = Journal::open(config(directory.path())).unwrap_err().to_string();
    assert!(error.contains("journal.sqlite") && error.contains(&format!("process {}", std::process::id())), "{error}");
    journal.close().await;
    Journal::open(config(directory.path())).unwrap();
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    let error = Journal::open(config.clone()).unwrap_err().to_string();
    assert!(error.contains("not a journal of heartwatch"), "{error}");
    assert_eq!(other.query_row("SELECT x FROM theirs", [], |row| row.get::<_, i64>(0)), Ok(1));
    other
        .execute_batch(&format!("PRAGMA application_id = {}; PRAGMA user_version = 99", schema::LAYOUT.application_id))
        .unwrap();
    let error = Journal::open(config).unwrap_err().to_string();
    assert!(error.contains("newer heartwatch"), "{error}");
    let missing = JournalConfig { path: "/proc/no/journal.sqlite".into(), ..super::config(directory.path()) };
    assert!(Journal::open(missing).unwrap_err().to_string().contains("/proc/no"), "the path is named");
}
