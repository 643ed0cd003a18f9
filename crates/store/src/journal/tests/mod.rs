//! Tests of the journal on real files.

mod conflicts;
mod damage;
mod damage_loop;
mod ledger;
mod limits;
mod marks;
mod model;
mod on_the_way;
mod point_index;
mod shares;
mod unnumbered;
mod upgrade;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::database;
use heartwatch_domain::evidence::{Evidence, EvidenceKind};
use heartwatch_domain::intake::DeliveryState;
use heartwatch_domain::ledger::Account;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::reading::Sequence;
use heartwatch_domain::verdict::{Trigger, Verdict};
use heartwatch_formats::line_protocol::{Rows, decode};

fn config(directory: &Path) -> JournalConfig {
    JournalConfig {
        path: directory.join("journal.sqlite"),
        bytes_max: 64 << 20,
        history: Duration::from_secs(3600),
        has_sink: true,
        queue_entries_max: 100,
    }
}

fn publisher(name: &str) -> PublisherId {
    PublisherId::parse(name).unwrap()
}

fn host() -> HostName {
    HostName::parse("h1").unwrap()
}

const LIFE: Incarnation = Incarnation(1_700_000_000_000_000);

fn line(who: &str, sequence: Sequence) -> Vec<u8> {
    format!("m,host=h1,publisher={who} value={sequence}i {}", 1_700_000_000_000_000_000 + sequence).into_bytes()
}

fn readings(who: &str, sequences: impl IntoIterator<Item = Sequence>) -> IntakeEntry {
    let lines = sequences.into_iter().map(|sequence| (sequence, line(who, sequence))).collect();
    IntakeEntry::Readings { publisher: publisher(who), host: host(), incarnation: LIFE, lines }
}

fn change(epoch: u64, who: &str, to: Verdict) -> Change {
    Change {
        epoch,
        publisher: publisher(who),
        host: host(),
        from: Verdict::Alive,
        to,
        at: Timestamp::from_nanos(1_000_000_000),
        decided_at: Timestamp::from_nanos(1_250_000_000),
        trigger: Trigger::Deadline,
        summary: format!("{who} said \"nothing\" for 5 s"),
        evidence: vec![Evidence::new(EvidenceKind::Silence, "5 s")],
        process: None,
        maintenance: false,
        flapping: None,
        because: None,
    }
}

async fn append(journal: &Journal, entries: Vec<IntakeEntry>) -> Vec<DeliveryState> {
    journal.append(Arc::new(entries)).await.unwrap().states
}

async fn account(journal: &Journal, who: &str) -> Account {
    let accounts = journal.accounts().await.unwrap();
    let account = accounts.iter().find(|line| line.publisher == publisher(who)).unwrap().account;
    assert!(account.balances(), "{account:?}");
    account
}

/// Every undelivered row of both lanes as text, not marked as delivered.
async fn waiting(journal: &Journal) -> Vec<String> {
    let batch = journal.next_batch(u64::MAX, usize::MAX).await.unwrap();
    let rows: Vec<_> = Rows::of(&batch.lines).map(|row| String::from_utf8(row.to_vec()).unwrap()).collect();
    assert_eq!(rows.len() as u64, batch.rows);
    assert_eq!(rows.len() as u64, journal.level().undelivered_rows);
    rows
}

/// How many rows of a publisher are in the file.
fn rows_in_file(directory: &Path, who: &str) -> u64 {
    let mut history = HistoryFile::open(&config(directory).path, None, None).unwrap();
    let tag = format!("publisher={who} ");
    let mut rows = 0;
    while let Some(block) = history.next_block().unwrap() {
        let its_own = |row: &&[u8]| row.windows(tag.len()).any(|text| text == tag.as_bytes());
        rows += Rows::of(&block.lines).filter(its_own).count() as u64;
    }
    rows
}

async fn deliver_all(journal: &Journal) {
    loop {
        let batch = journal.next_batch(100, 10_000).await.unwrap();
        if batch.block_ids.is_empty() {
            break;
        }
        journal.delivered(batch.block_ids, Vec::new()).await.unwrap();
    }
}

#[tokio::test]
async fn readings_are_stored_once_confirmed_and_accounted_for() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, recovery) = Journal::open(config(directory.path())).unwrap();
    assert_eq!(recovery, Recovery::default());
    let state = append(&journal, vec![readings("a", [1, 2, 3, 3, 6]), readings("b", [1])]).await;
    assert_eq!(state.len(), 2);
    assert_eq!((state[0].through, state[0].highest, &state[0].gaps[..]), (3, 6, &[(4, 5)][..]));
    let produced = IntakeEntry::Produced { publisher: publisher("a"), incarnation: LIFE, produced: 10 };
    let given_up = IntakeEntry::GivenUp {
        publisher: publisher("a"),
        incarnation: LIFE,
        first: 4,
        last: 4,
        reason: "the outbox was full".into(),
        confirmed_by: None,
    };
    let state = append(&journal, vec![readings("a", [2, 5]), produced, given_up]).await;
    assert_eq!((state[0].through, state[0].highest, &state[0].gaps[..]), (6, 6, &[][..]));
    let expected = Account {
        produced: 10,
        received: 5,
        stored: 0,
        buffered: 5,
        duplicates: 2,
        missing: 4,
        lost: 1,
        ..Account::default()
    };
    assert_eq!(account(&journal, "a").await, expected);
    let rows = waiting(&journal).await;
    assert_eq!(rows.len(), 6);
    journal.close().await;
    assert_eq!(journal.append(Arc::new(Vec::new())).await, Err(JournalError::Closed));

    let (journal, recovery) = Journal::open(config(directory.path())).unwrap();
    assert_eq!(recovery.undelivered_rows, 6);
    assert_eq!(recovery.damage, Vec::<String>::new());
    assert_eq!(waiting(&journal).await, rows);
    deliver_all(&journal).await;
    assert_eq!(account(&journal, "a").await, Account { stored: 5, buffered: 0, ..expected });
    assert!(waiting(&journal).await.is_empty());
    let losses = journal.losses().await.unwrap();
    assert_eq!((losses[0].first, losses[0].last, losses[0].reason.as_str()), (4, 4, "the outbox was full"));
    let state = append(&journal, vec![readings("a", [6])]).await;
    assert_eq!((state[0].through, waiting(&journal).await.len()), (6, 0), "delivered readings are known as well");
}

#[tokio::test]
async fn verdicts_are_kept_and_become_rows_with_distinct_times() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let changes = vec![change(1, "a", Verdict::Late), change(2, "a", Verdict::Dead), change(3, "b", Verdict::Ended)];
    journal.record_changes(Arc::new(changes.clone())).await.unwrap();
    journal.record_changes(Arc::new(changes.clone())).await.unwrap();
    let standing = Standing {
        publisher: publisher("a"),
        host: host(),
        verdict: Verdict::Dead,
        epoch: 2,
        at: changes[0].decided_at,
    };
    journal.record_standing(Arc::new(vec![standing.clone(), standing])).await.unwrap();
    let rows: Vec<_> = waiting(&journal).await.iter().map(|row| decode(row.as_bytes()).unwrap()).collect();
    assert_eq!(rows.len(), 5, "a change that is recorded twice is one row");
    let mut times: Vec<_> =
        rows.iter().filter(|row| row.tags.contains(&("publisher".into(), "a".into()))).map(|row| row.time).collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 4);
    let field =
        |row: usize, name: &str| rows[row].fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    use heartwatch_domain::reading::FieldValue::{Integer, Text};
    assert_eq!(field(1, "level"), Some(Integer(5)));
    assert_eq!(field(1, "verdict"), Some(Text("dead".into())));
    assert_eq!(field(1, "decide_ms"), Some(Integer(250)));
    assert_eq!(field(1, "trigger"), Some(Text("deadline".into())));
    assert_eq!(field(1, "epoch"), Some(Integer(2)));
    assert_eq!((field(4, "summary"), field(4, "decide_ms")), (Some(Text(changes[1].summary.clone())), None));

    let ask = |publisher, since_epoch| ChangesQuery { since_epoch, publisher, changes_max: 10 };
    assert_eq!(journal.changes(ask(None, 1)).await.unwrap(), changes[1..]);
    assert_eq!(journal.changes(ask(Some(publisher("a")), 0)).await.unwrap(), changes[..2]);
    journal.close().await;
    let (_journal, recovery) = Journal::open(config(directory.path())).unwrap();
    assert_eq!((recovery.last_epoch, recovery.last_changes), (3, changes[1..].to_vec()));
}

#[tokio::test]
async fn live_rows_go_before_the_backlog_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let waiter = journal.clone();
    let woken = tokio::spawn(async move { waiter.wait_until(|level| level.undelivered_rows > 0).await });
    append(&journal, vec![readings("a", [1, 2])]).await;
    append(&journal, vec![readings("a", [3])]).await;
    tokio::time::timeout(Duration::from_secs(10), woken).await.unwrap().unwrap();
    journal.split_lanes().await;
    append(&journal, vec![readings("a", [4])]).await;
    append(&journal, vec![readings("a", [5])]).await;
    let rows_of = |batch: &Batch, rows: &[Sequence]| {
        let rows: Vec<u8> = rows.iter().flat_map(|&row| [line("a", row), b"\n".to_vec()].concat()).collect();
        assert_eq!(batch.lines, rows);
    };
    rows_of(&journal.next_batch(100, 10_000).await.unwrap(), &[4, 5, 1, 2, 3]);
    let first = journal.next_batch(2, 10_000).await.unwrap();
    rows_of(&first, &[4, 1, 2]);
    assert_eq!(first.backlog_rows, 2, "at least one block of each, half of the limits for what is live");
    journal.delivered(first.block_ids, Vec::new()).await.unwrap();
    let second = journal.next_batch(100, 10_000).await.unwrap();
    rows_of(&second, &[5, 3]);
    journal.delivered(second.block_ids, Vec::new()).await.unwrap();
    append(&journal, vec![readings("a", [6])]).await;
    append(&journal, vec![readings("a", [7])]).await;
    let last = journal.next_batch(2, 10_000).await.unwrap();
    rows_of(&last, &[6, 7]);
    assert_eq!(last.backlog_rows, 0, "without a backlog all of the limits are for what is live");
}

#[tokio::test]
async fn a_refused_row_is_a_dead_letter_and_its_reading_is_lost_by_number() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    append(&journal, vec![readings("a", 1..=10), readings("b", 1..=10)]).await;
    let batch = journal.next_batch(100, 10_000).await.unwrap();
    let letter = DeadLetter { line: line("a", 7), reason: "field type conflict".into(), at: Timestamp::from_nanos(5) };
    let foreign = DeadLetter { line: b"x y=1 1".to_vec(), ..letter.clone() };
    journal.delivered(batch.block_ids.clone(), vec![letter.clone(), foreign]).await.unwrap();
    journal.delivered(batch.block_ids, vec![]).await.unwrap();
    let expected = Account {
        produced: 10,
        received: 10,
        stored: 9,
        buffered: 0,
        duplicates: 0,
        missing: 0,
        lost: 1,
        ..Account::default()
    };
    assert_eq!(account(&journal, "a").await, expected);
    assert_eq!(account(&journal, "b").await.stored, 10);
    assert_eq!(journal.level().dead_letters, 2);
    journal.close().await;
    let (_journal, _) = Journal::open(config(directory.path())).unwrap();
    let read = database::open_read_only(&config(directory.path()).path, &schema::LAYOUT).unwrap();
    let named: (String, i64, String) = read
        .query_row("SELECT publisher, sequence, reason FROM dead_letters WHERE publisher = 'a'", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(named, ("a".to_owned(), 7, letter.reason));
}

#[tokio::test]
async fn many_appends_share_a_commit_and_each_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(JournalConfig { queue_entries_max: 7, ..config(directory.path()) }).unwrap();
    let appends = (1..=300_u64).map(|sequence| {
        let journal = journal.clone();
        tokio::spawn(async move { append(&journal, vec![readings("a", [sequence])]).await })
    });
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap();
    }
    assert_eq!(account(&journal, "a").await.received, 300);
    assert_eq!(append(&journal, vec![]).await, vec![]);
    let blocks = journal.next_batch(1_000, 1 << 20).await.unwrap().block_ids.len();
    assert!(blocks < 300, "every append had a commit of its own");
}

#[tokio::test]
async fn history_is_read_while_the_journal_is_open_and_after() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    append(&journal, vec![readings("a", 1..=10)]).await;
    append(&journal, vec![readings("a", 11..=20)]).await;
    deliver_all(&journal).await;
    let path = config(directory.path()).path;
    let count = |from: Option<i64>| {
        let from = from.map(|from| Timestamp::from_nanos(1_700_000_000_000_000_000 + from));
        let mut history = HistoryFile::open(&path, from, None).unwrap();
        let about = history.rows_about;
        let mut rows = 0;
        while let Some(block) = history.next_block().unwrap() {
            rows += Rows::of(&block.lines).count() as u64;
        }
        assert_eq!(rows, about);
        rows
    };
    assert_eq!((count(None), count(Some(15)), count(Some(21))), (20, 10, 0));
    journal.close().await;
    assert_eq!(count(None), 20);
}
