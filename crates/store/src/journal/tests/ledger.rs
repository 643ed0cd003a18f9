//! The ledger's rows in the file may be behind: the undelivered blocks say the rest.

use std::fs;

use super::*;
use crate::disk::beside;
use heartwatch_domain::confirmers::Confirmer;
use heartwatch_domain::journal_id::JournalId;

/// How many readings the ledger's row of a publisher knows, without the blocks.
fn written(directory: &Path, who: &str) -> u64 {
    let read = database::open_read_only(&config(directory).path, &schema::LAYOUT).unwrap();
    let sql = "SELECT id, state FROM incarnations WHERE publisher = ?1";
    let (id, state): (i64, Vec<u8>) = read.query_row(sql, [who], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    incarnation::IncarnationState::restore(id, &(publisher(who), LIFE), &state).unwrap().tracker.counts().received
}

/// The files as they are on disk now.
fn crashed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(beside(&config(directory).path, suffix), beside(&config(copy.path()).path, suffix)).unwrap();
    }
    copy
}

#[tokio::test]
async fn readings_alone_are_not_written_into_the_ledger_and_known_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (journal, _) = Journal::open(config(path)).unwrap();
    append(&journal, vec![readings("a", 1..=3), readings("b", [1])]).await;
    append(&journal, vec![readings("a", [4, 5, 8]), readings("b", [2])]).await;
    assert_eq!((written(path, "a"), written(path, "b")), (3, 1), "their blocks say the rest");

    let expected = Account {
        produced: 8,
        received: 6,
        stored: 0,
        buffered: 6,
        duplicates: 0,
        missing: 2,
        lost: 0,
        ..Account::default()
    };
    assert_eq!(account(&journal, "a").await, expected);
    let accounts = snapshot(&config(path).path, true).unwrap().accounts;
    assert_eq!(accounts, journal.accounts().await.unwrap());
    let after = crashed(path);
    let (other, recovery) = Journal::open(config(after.path())).unwrap();
    assert_eq!(recovery.damage, Vec::<String>::new());
    assert_eq!(other.accounts().await.unwrap(), accounts);
    let state = append(&other, vec![readings("a", [5, 6])]).await;
    assert_eq!((state[0].through, account(&other, "a").await.duplicates), (6, 1), "nothing is taken twice");
    assert_eq!(written(after.path(), "a"), 7, "a duplicate is in no block");
    other.close().await;

    let produced = |produced| IntakeEntry::Produced { publisher: publisher("a"), incarnation: LIFE, produced };
    append(&journal, vec![produced(8)]).await;
    assert_eq!(written(path, "a"), 6, "a heartbeat is the occasion to write it down");
    deliver_all(&journal).await;
    assert_eq!(written(path, "b"), 2, "delivered blocks may be dropped");
    append(&journal, vec![readings("b", [3])]).await;
    assert_eq!(written(path, "b"), 2);
    journal.close().await;
    assert_eq!(written(path, "b"), 3, "an end in order leaves nothing to read again");
}

#[tokio::test]
async fn without_a_sink_no_block_waits_and_all_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(JournalConfig { has_sink: false, ..config(directory.path()) }).unwrap();
    append(&journal, vec![readings("a", 1..=3)]).await;
    append(&journal, vec![readings("a", [4])]).await;
    assert_eq!(written(directory.path(), "a"), 4);
    journal.close().await;
}

#[tokio::test]
async fn what_another_journal_has_confirmed_is_outside_the_account_and_what_this_one_had_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let own = Confirmer::of(journal.identity());
    let given_up = |first, last, confirmed_by| IntakeEntry::GivenUp {
        publisher: publisher("a"),
        incarnation: LIFE,
        first,
        last,
        reason: "they had been confirmed".to_owned(),
        confirmed_by,
    };
    let produced = IntakeEntry::Produced { publisher: publisher("a"), incarnation: LIFE, produced: 3_220 };
    let states = append(&journal, vec![readings("a", 3_213..=3_217), produced]).await;
    assert_eq!((states[0].missing(), states[0].journal), (vec![(1, 3_212), (3_218, 3_220)], journal.identity()));
    let other = Some(Confirmer::of(Some(JournalId::from_bits(1))));
    let told = vec![
        given_up(1, 3_000, other),
        given_up(3_001, 3_212, Some(Confirmer::Unnamed)),
        given_up(3_218, 3_218, Some(own)),
        given_up(3_219, 3_220, None),
    ];
    let states = append(&journal, told).await;
    assert_eq!((states[0].through, states[0].missing()), (3_220, vec![]), "the publisher hears that all is settled");
    let expected = Account { produced: 8, received: 5, buffered: 5, lost: 3, ..Account::default() };
    assert_eq!(account(&journal, "a").await, expected);
    journal.close().await;
    let (journal, recovery) = Journal::open(config(directory.path())).unwrap();
    assert_eq!((account(&journal, "a").await, recovery.damage), (expected, Vec::<String>::new()));
    append(&journal, vec![readings("a", [5])]).await;
    assert_eq!(account(&journal, "a").await.received, 6, "an outbox that came back from a copy");
}

#[tokio::test]
async fn what_another_journal_has_confirmed_is_no_loss_either_when_the_file_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(config(directory.path())).unwrap();
    let elsewhere = IntakeEntry::GivenUp {
        publisher: publisher("a"),
        incarnation: LIFE,
        first: 1,
        last: 3_212,
        reason: "they had been confirmed".to_owned(),
        confirmed_by: Some(Confirmer::Unnamed),
    };
    append(&journal, vec![readings("a", 3_213..=3_217), elsewhere]).await;
    journal.close().await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(&config(directory.path()).path, suffix));
    }
    let (journal, recovery) = Journal::open(config(directory.path())).unwrap();
    let expected = Account { produced: 5, lost: 5, ..Account::default() };
    assert_eq!(account(&journal, "a").await, expected, "only what was here is lost: {:?}", recovery.damage);
    assert!(!recovery.damage.is_empty());
}
