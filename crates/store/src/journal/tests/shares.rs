//! What a flood of one publisher cannot take from another, and what the ledger says of what it took.

use super::*;

const MIB: u64 = 1 << 20;

/// Readings of a kilobyte each.
fn large(who: &str, sequences: impl IntoIterator<Item = Sequence>) -> IntakeEntry {
    let text = "x".repeat(1_000);
    let row = |sequence| {
        let row = format!("m,host=h1,publisher={who} text=\"{text}\" {}", 1_700_000_000_000_000_000 + sequence);
        (sequence, row.into_bytes())
    };
    let lines = sequences.into_iter().map(row).collect();
    IntakeEntry::Readings { publisher: publisher(who), host: host(), incarnation: LIFE, lines }
}

/// Readings of one publisher, so many, a few at a time.
async fn flood(journal: &Journal, who: &str, from: Sequence, rows: u64) -> Vec<DeliveryState> {
    let mut last = Vec::new();
    for first in (from..from + rows).step_by(300) {
        last = append(journal, vec![large(who, first..(first + 300).min(from + rows))]).await;
    }
    last
}

#[tokio::test]
async fn a_flood_takes_no_row_of_a_publisher_within_its_share_and_its_own_ledger_is_exact() {
    let directory = tempfile::tempdir().unwrap();
    let full = JournalConfig { bytes_max: 16 * MIB, has_sink: false, ..config(directory.path()) };
    let (journal, _) = Journal::open(full.clone()).unwrap();
    for first in (1..2_001).step_by(10) {
        // in one block with the flood
        append(&journal, vec![readings("quiet", first..first + 10), large("flood", first..first + 10)]).await;
    }
    flood(&journal, "flood", 2_001, 38_000).await;
    assert!(journal.level().bytes <= 16 * MIB, "{:?}", journal.level());
    let quiet = Account { produced: 2_000, received: 2_000, stored: 2_000, ..Account::default() };
    assert_eq!(account(&journal, "quiet").await, quiet);
    assert_eq!(rows_in_file(directory.path(), "quiet"), 2_000);
    let flooding = account(&journal, "flood").await;
    assert_eq!((flooding.produced, flooding.stored + flooding.expired), (40_000, 40_000), "{flooding:?}");
    assert_eq!(flooding.stored, rows_in_file(directory.path(), "flood"));
    assert!(flooding.stored > 10_000, "the rest of the room is for it: {flooding:?}");
    let state = append(&journal, vec![large("flood", 1..=3)]).await;
    assert_eq!(
        (state[0].through, account(&journal, "flood").await.duplicates),
        (40_000, 3),
        "it is known, though gone"
    );
    let before = journal.accounts().await.unwrap();
    journal.close().await;

    let (journal, recovery) = Journal::open(full).unwrap();
    assert_eq!((recovery.damage, journal.accounts().await.unwrap()), (Vec::new(), before));
    flood(&journal, "flood", 40_001, 5_000).await;
    assert_eq!(account(&journal, "quiet").await, quiet);
    // who grows beyond its share loses its own oldest rows
    flood(&journal, "quiet", 2_001, 20_000).await;
    let (quiet, flooding) = (account(&journal, "quiet").await, account(&journal, "flood").await);
    assert!(quiet.expired > 2_000 && quiet.expired + quiet.stored == 22_000, "{quiet:?}");
    assert_eq!(rows_in_file(directory.path(), "quiet"), quiet.stored);
    assert_eq!(rows_in_file(directory.path(), "flood"), flooding.stored);
    assert!(flooding.stored > 3_000, "it has its share as well: {flooding:?}");
}

#[tokio::test]
async fn rows_without_numbers_expire_and_have_a_share_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let small = JournalConfig { bytes_max: 200_000, has_sink: false, ..config(directory.path()) };
    let (journal, _) = Journal::open(small).unwrap();
    let arrived = |who: &str, number| {
        let lines = [line(who, number), b"\n".to_vec()].concat();
        IntakeEntry::Arrived { publisher: publisher(who), lines, rows: 1, mark: None }
    };
    for number in 1..=50 {
        append(&journal, vec![arrived("meter", number), arrived("flood", number)]).await;
    }
    for first in (51..5_000).step_by(10) {
        append(&journal, (first..first + 10).map(|number| arrived("flood", number)).collect()).await;
    }
    assert_eq!(account(&journal, "meter").await.stored, 50);
    let flooding = account(&journal, "flood").await;
    assert!(flooding.expired > 0 && flooding.lost == 0, "{flooding:?}");
    assert_eq!(rows_in_file(directory.path(), "flood"), flooding.stored);
    assert_eq!(rows_in_file(directory.path(), "meter"), 50);
}

#[tokio::test]
async fn with_a_sink_a_flood_is_refused_before_a_publisher_within_its_share() {
    let directory = tempfile::tempdir().unwrap();
    let full = JournalConfig { bytes_max: 16 * MIB, ..config(directory.path()) };
    let (journal, _) = Journal::open(full).unwrap();
    append(&journal, vec![readings("quiet", 1..=10)]).await;
    tokio::time::pause();
    let state = flood(&journal, "flood", 1, 20_000).await;
    assert!(state[0].refused > 0, "{state:?}");
    let state = append(&journal, vec![large("flood", [20_001]), readings("quiet", 11..=2_000)]).await;
    assert_eq!((state[0].refused, state[1].refused, state[1].through), (1, 0, 2_000));
    assert!(journal.level().bytes <= 16 * MIB, "{:?}", journal.level());
    let (quiet, flooding) = (account(&journal, "quiet").await, account(&journal, "flood").await);
    assert_eq!((quiet.buffered, quiet.missing), (2_000, 0));
    assert!(flooding.buffered > 13_000 && flooding.missing > 0, "{flooding:?}");
    let mut first = 2_001;
    while append(&journal, vec![readings("quiet", first..first + 1_000)]).await[0].refused == 0 {
        first += 1_000;
    }
    assert!(first > 3_000, "beyond its share it is refused as well: {first}");
    assert!(journal.level().bytes <= 16 * MIB, "{:?}", journal.level());
    tokio::time::resume();
}

#[tokio::test]
async fn what_was_stored_here_before_there_was_a_sink_expires_and_what_the_sink_has_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let small = JournalConfig { bytes_max: 40_000, history: Duration::ZERO, ..config(directory.path()) };
    let (journal, _) = Journal::open(JournalConfig { has_sink: false, ..small.clone() }).unwrap();
    append(&journal, vec![readings("a", 1..=100)]).await;
    journal.close().await;
    let (journal, recovery) = Journal::open(small).unwrap();
    assert_eq!(recovery.undelivered_rows, 0);
    for first in (101..=2_000).step_by(100) {
        append(&journal, vec![readings("a", first..first + 100)]).await;
        deliver_all(&journal).await;
    }
    let then = account(&journal, "a").await;
    assert_eq!((then.stored, then.expired), (2_000, 0), "what is also in the sink makes room first");
    for first in (2_001..=2_600).step_by(100) {
        append(&journal, vec![readings("a", first..first + 100)]).await;
    }
    let then = account(&journal, "a").await;
    assert_eq!((then.stored, then.buffered, then.expired), (1_900, 600, 100), "{then:?}");
    journal.close().await;
}

#[tokio::test]
async fn a_journal_of_an_earlier_version_without_a_sink_says_what_has_made_room_already() {
    let directory = tempfile::tempdir().unwrap();
    let here = JournalConfig { has_sink: false, ..config(directory.path()) };
    let (journal, _) = Journal::open(here.clone()).unwrap();
    append(&journal, vec![readings("a", 1..=30)]).await;
    append(&journal, vec![readings("a", 31..=50)]).await;
    // as the earlier version wrote it, and dropped a block without a word
    journal
        .execute("DELETE FROM records WHERE name = 'accounts_since'; UPDATE blocks SET delivered = 1; DELETE FROM blocks WHERE id = 1")
        .await
        .unwrap();
    journal.close().await;
    for _ in 0..2 {
        let (journal, recovery) = Journal::open(here.clone()).unwrap();
        assert_eq!(recovery.damage, Vec::<String>::new());
        let expected = Account { produced: 50, received: 50, stored: 20, expired: 30, ..Account::default() };
        assert_eq!(account(&journal, "a").await, expected);
        journal.close().await;
    }
}

#[tokio::test]
async fn rows_that_were_stored_here_and_are_not_there_are_lost_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let here = JournalConfig { has_sink: false, ..config(directory.path()) };
    let (journal, _) = Journal::open(here.clone()).unwrap();
    append(&journal, vec![readings("a", 1..=30)]).await;
    append(&journal, vec![readings("a", 31..=50)]).await;
    journal.execute("DELETE FROM blocks WHERE id = 1").await.unwrap();
    journal.close().await;
    let (journal, recovery) = Journal::open(here).unwrap();
    assert!(recovery.damage.iter().any(|damage| damage.starts_with("30 rows of a")), "{:?}", recovery.damage);
    let expected = Account { produced: 50, received: 50, stored: 20, lost: 30, ..Account::default() };
    assert_eq!(account(&journal, "a").await, expected);
}
