//! Every thousandth byte changed, and the files cut at every tenth of their length: whatever comes out less, or other,
//! is said, with a sink behind the journal and without one.

use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::disk::beside;
use crate::journal::HistoryFile;

const PUBLISHERS: [&str; 3] = ["a", "b", "c"];
const READINGS: u64 = 600;
/// Of these so many are in the sink.
const DELIVERED: u64 = 200;
const CHANGES: u64 = 6;
const FILES: [&str; 3] = ["", "-wal", ".witness"];

/// The files of a journal that was killed: rows in the sink, rows that wait, verdict changes, and a log that
/// is not folded in.
async fn killed(directory: &Path, has_sink: bool) {
    let running = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(JournalConfig { has_sink, ..config(running.path()) }).unwrap();
    let some = |range: std::ops::RangeInclusive<u64>| PUBLISHERS.map(|who| readings(who, range.clone())).to_vec();
    append(&journal, some(1..=DELIVERED)).await;
    if has_sink {
        deliver_all(&journal).await;
    }
    for first in (DELIVERED + 1..=READINGS / 2).step_by(50) {
        append(&journal, some(first..=first + 49)).await;
    }
    journal.execute("PRAGMA wal_checkpoint(PASSIVE)").await.unwrap();
    for first in (READINGS / 2 + 1..=READINGS).step_by(50) {
        append(&journal, some(first..=first + 49)).await;
        let epoch = (first - READINGS / 2) / 50 + 1;
        journal.record_changes(Arc::new(vec![change(epoch, "a", Verdict::Dead)])).await.unwrap();
    }
    for suffix in FILES {
        let from = beside(&config(running.path()).path, suffix);
        fs::copy(from, beside(&config(directory).path, suffix)).unwrap();
    }
    journal.close().await;
}

/// What comes out of a journal at a start.
#[derive(Debug, Default)]
struct CameOut {
    damage: Vec<String>,
    waiting: BTreeSet<String>,
    history: BTreeSet<String>,
    changes: Vec<u64>,
    accounts: Vec<LedgerLine>,
}

async fn come_out(files: &[(&str, Vec<u8>)], has_sink: bool) -> CameOut {
    let directory = tempfile::tempdir().unwrap();
    let config = JournalConfig { has_sink, ..config(directory.path()) };
    for (suffix, bytes) in files {
        fs::write(beside(&config.path, suffix), bytes).unwrap();
    }
    let (journal, recovery) = Journal::open(config.clone()).unwrap();
    let is_reading = |row: &String| row.starts_with("m,");
    let mut out = CameOut {
        damage: recovery.damage,
        waiting: waiting(&journal).await.into_iter().filter(is_reading).collect(),
        accounts: journal.accounts().await.unwrap(),
        ..CameOut::default()
    };
    let asked = ChangesQuery { since_epoch: 0, publisher: None, changes_max: 100 };
    for found in journal.changes(asked).await.unwrap() {
        assert_eq!(found, change(found.epoch, "a", Verdict::Dead), "a change that was never recorded");
        out.changes.push(found.epoch);
    }
    if (out.changes.len() as u64) < CHANGES {
        assert!(!out.damage.is_empty(), "changes are gone without a word");
    }
    let mut history = HistoryFile::open(&config.path, None, None).unwrap();
    while let Some(block) = history.next_block().unwrap() {
        let rows = Rows::of(&block.lines).map(|row| String::from_utf8(row.to_vec()).unwrap());
        out.history.extend(rows.filter(is_reading));
    }
    journal.close().await;
    let (second, again) = Journal::open(config).unwrap();
    assert_eq!(again.damage, Vec::<String>::new(), "damage is said once, after {:?}", out.damage);
    second.close().await;
    out
}

fn rows_of<'a>(rows: &'a BTreeSet<String>, who: &str) -> impl Iterator<Item = &'a String> {
    let tag = format!("publisher={who} ");
    rows.iter().filter(move |row| row.contains(&tag))
}

/// Nothing that was never written, and whatever is less than there was is said, by publisher.
fn is_said(out: &CameOut, before: &CameOut, has_sink: bool, what: &str) {
    for row in out.waiting.iter().chain(&out.history) {
        assert!(before.history.contains(row), "{what}: a row that was never written: {row} {:?}", out.damage);
    }
    for who in PUBLISHERS {
        let (here, waits) = (rows_of(&out.history, who).count() as u64, rows_of(&out.waiting, who).count() as u64);
        let of = out.accounts.iter().filter(|line| line.publisher.as_str() == who);
        let account = of.fold(Account::default(), |sum, line| sum.plus(line.account));
        assert!(account.balances(), "{what}: {account:?}");
        // rows of a block whose index is damaged are delivered, and nobody knows whose they are
        assert!(account.buffered <= waits, "{what}: {who} {account:?} {:?}", out.damage);
        if here < READINGS {
            assert!(!out.damage.is_empty(), "{what}: {} rows of {who} are gone without a word", READINGS - here);
        }
        let gone = if has_sink {
            READINGS - DELIVERED - account.buffered.min(READINGS - DELIVERED)
        } else {
            assert!(account.stored <= here, "{what}: {here} rows of {who} are here, {account:?} {:?}", out.damage);
            READINGS - account.stored.min(READINGS)
        };
        let named = account.lost + account.missing;
        assert!(named >= gone, "{what}: {gone} rows of {who} are gone, {account:?}: {:?}", out.damage);
        assert!(account.stored + account.buffered <= READINGS, "{what}: {account:?}");
    }
    let known = out.accounts.iter().all(|line| PUBLISHERS.contains(&line.publisher.as_str()));
    assert!(known, "{what}: a publisher that never was: {:?}", out.accounts);
}

/// Changes every `step`th byte of file and log, cuts them at every tenth of their length, and removes them.
async fn attack(has_sink: bool, step: usize) {
    let directory = tempfile::tempdir().unwrap();
    killed(directory.path(), has_sink).await;
    let files: Vec<(&str, Vec<u8>)> =
        FILES.map(|suffix| (suffix, fs::read(beside(&config(directory.path()).path, suffix)).unwrap())).to_vec();
    let before = come_out(&files, has_sink).await;
    assert_eq!(before.damage, Vec::<String>::new());
    assert_eq!(before.history.len() as u64, READINGS * 3);
    let waiting = if has_sink { (READINGS - DELIVERED) * 3 } else { 0 };
    assert_eq!(before.waiting.len() as u64, waiting);
    let attacked = async |files: &[(&str, Vec<u8>)], what: &str| {
        is_said(&come_out(files, has_sink).await, &before, has_sink, what);
    };
    attacked(&files, "whole").await;
    for (number, (suffix, whole)) in files.iter().enumerate() {
        // the notes of the witness are few and close together
        let step = if *suffix == ".witness" { step / 25 } else { step };
        for at in (0..whole.len()).step_by(step) {
            let mut changed = files.clone();
            changed[number].1[at] ^= 1 << (at / step % 8);
            attacked(&changed, &format!("byte {at} of journal.sqlite{suffix}")).await;
        }
        for tenth in 0..10 {
            let mut changed = files.clone();
            changed[number].1.truncate(whole.len() * tenth / 10);
            attacked(&changed, &format!("journal.sqlite{suffix} cut at {tenth} tenths")).await;
        }
        let mut changed = files.clone();
        changed.remove(number);
        attacked(&changed, &format!("journal.sqlite{suffix} removed")).await;
    }
    let only_the_witness = files.iter().filter(|(suffix, _)| *suffix == ".witness").cloned().collect::<Vec<_>>();
    attacked(&only_the_witness, "all but the witness removed").await;
}

#[tokio::test]
async fn whatever_is_changed_or_cut_on_disk_is_said() {
    attack(true, 1_000).await;
}

#[tokio::test]
async fn whatever_is_changed_or_cut_on_disk_is_said_without_a_sink_too() {
    attack(false, 3_100).await;
}
