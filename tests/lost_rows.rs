//! Rows that can never come are named, with their numbers and the reason: nothing just disappears.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use heartwatch::formats::api::LedgerView;
use support::eventually;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, command, finished, fixture};

fn publish(running: &Running, more: &[&str]) -> Program {
    let mut command = command(running.directory());
    command.args(["publish", "--id", "light", "--mqtt", running.mqtt_url(), "--heartbeat", "200ms"]);
    command.args(["--interval", "5ms"]).arg("--csv").arg(fixture("light-1.csv"));
    command.arg("--data-dir").arg(running.directory().join("data")).args(more);
    Program::start(command)
}

fn outbox(running: &Running, suffix: &str) -> PathBuf {
    running.directory().join(format!("data/outbox/light.sqlite{suffix}"))
}

/// The number that the publisher has noted beside its outbox: the last one given out.
fn last_number(running: &Running) -> u64 {
    let note = fs::read_to_string(outbox(running, ".last")).unwrap();
    note.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn until_settled(running: &Running) -> LedgerView {
    eventually("every row is stored or lost", PATIENCE, async || {
        let total = running.ledger().await.total;
        total.produced > 0 && total.missing == 0 && total.buffered == 0
    })
    .await;
    running.ledger().await
}

#[tokio::test]
async fn what_a_removed_outbox_held_is_lost_by_number_and_reason() {
    let mut running = Running::start(RunOptions::default()).await;
    let mut first = publish(&running, &[]);
    eventually("rows come", PATIENCE, async || running.ledger().await.total.stored > 20).await;
    let stored_before = running.ledger().await.total.stored;
    running.program.kill();
    let at_kill = last_number(&running);
    eventually("more is kept", PATIENCE, async || last_number(&running) > at_kill + 20).await;
    first.kill();
    let last = last_number(&running);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(outbox(&running, suffix));
    }

    running.restart().await;
    let mut second = publish(&running, &["--limit", "200"]);
    eventually("the second life is heard", PATIENCE, async || running.ledger().await.accounts.len() == 2).await;
    assert!(second.exit(PATIENCE).await.success());
    let view = until_settled(&running).await;
    let account = view.accounts[0].account;
    assert_eq!(account.produced, last, "also the numbers that the monitor had never heard of");
    assert!(account.stored >= stored_before && account.lost > 0 && account.balances(), "{account:?}");
    assert_eq!(view.accounts[1].account.stored, 200);
    let named: u64 = view.losses.iter().map(|loss| loss.count).sum();
    assert_eq!(named, account.lost);
    assert!(view.losses.iter().all(|loss| loss.reason.contains("outbox does not hold them")), "{:?}", view.losses);
    let table = finished(running.directory(), &["ledger", "--url", running.page()], PATIENCE).await;
    assert!(table.stdout.contains("lost: light (incarnation ") && table.stdout.contains("outbox"), "{table:?}");
}

#[tokio::test]
async fn what_a_removed_journal_held_is_lost_by_number_and_reason() {
    let mut running = Running::start(RunOptions::default()).await;
    let mut publisher = publish(&running, &["--limit", "1500"]);
    // Three seconds of rows: by then the publisher has been told of the first ones, and keeps them no longer.
    eventually("rows come", PATIENCE, async || running.ledger().await.total.stored > 600).await;
    running.program.kill();
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(running.directory().join(format!("data/journal.sqlite{suffix}")));
    }
    running.restart().await;
    assert!(publisher.exit(PATIENCE).await.success());
    let view = until_settled(&running).await;
    let account = view.accounts[0].account;
    assert_eq!(account.produced, 1_500);
    assert!(account.lost > 0 && account.stored > 0 && account.balances(), "{account:?}");
    assert!(view.losses[0].reason.contains("confirmed"), "{:?}", view.losses);
}

#[tokio::test]
async fn a_full_outbox_gives_up_the_oldest_and_the_ledger_names_them() {
    let mut running = Running::start(RunOptions::default()).await;
    running.program.kill();
    // more than fits, while nobody is there to confirm
    let limits = ["--outbox-bytes-max", "256KiB", "--outbox-full", "give-up-oldest", "--interval", "0"];
    let mut command = command(running.directory());
    let csv = wide_rows(running.directory());
    command.args(["publish", "--id", "light", "--mqtt", running.mqtt_url(), "--heartbeat", "200ms", "--once"]);
    command.args(limits).arg("--csv").arg(csv).arg("--data-dir").arg(running.directory().join("data"));
    let mut publisher = Program::start(command);
    publisher.says("readings were given up").await;
    running.restart().await;
    let ended = publisher.exit(PATIENCE).await;
    assert!(ended.success(), "{}", publisher.stderr());
    let view = until_settled(&running).await;
    let account = view.accounts[0].account;
    assert!(account.lost > 0 && account.balances() && account.produced == 4_000, "{account:?}");
    assert!(view.losses.iter().all(|loss| loss.reason.contains("outbox was full")), "{:?}", view.losses);
}

/// Rows that fill 256 KiB many times.
fn wide_rows(directory: &Path) -> PathBuf {
    let path = directory.join("wide.csv");
    let rows: String = (1..=4_000).map(|row| format!("{row},{}\n", "x".repeat(150))).collect();
    fs::write(&path, format!("row,text\n{rows}")).unwrap();
    path
}
