//! Rows that can never come are named, with their numbers and the reason: nothing just disappears.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::api::LedgerView;
use heartwatch_store::outbox::{FullPolicy, Outbox, OutboxConfig, contents};
use support::eventually;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, command, finished, fixture};

fn publish(running: &Running, more: &[&str]) -> Program {
    Program::start(publish_command(running, more))
}

fn publish_command(running: &Running, more: &[&str]) -> Command {
    let mut command = command(running.directory());
    command.args(["publish", "--id", "light", "--mqtt", running.mqtt_url(), "--heartbeat", "200ms"]);
    command.args(["--interval", "5ms"]).arg("--csv").arg(fixture("light-1.csv"));
    command.arg("--data-dir").arg(running.directory().join("data")).args(more);
    command
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

/// A publisher of this outbox for the monitor, until it has nothing left.
async fn publish_readings(outbox_of: &Running, to: &Running, readings: &str) {
    let mut command = command(outbox_of.directory());
    command.args(["publish", "--id", "light", "--mqtt", to.mqtt_url(), "--heartbeat", "200ms", "--interval", "2ms"]);
    command.args(["--limit", readings, "--data-dir", "publisher", "--csv"]).arg(fixture("light-1.csv"));
    let mut publisher = Program::start(command);
    assert!(publisher.exit(PATIENCE).await.success());
    assert!(publisher.stderr().contains("left=0"), "{}", publisher.stderr());
}

/// Waits until nothing is missing; then so many are stored, and none is lost.
async fn has_exactly(running: &Running, readings: u64) {
    let view = until_settled(running).await;
    let total = view.total;
    assert_eq!((total.produced, total.stored, total.lost, view.balances), (readings, readings, 0, true), "{view:?}");
    assert!(view.losses.is_empty(), "{view:?}");
}

#[tokio::test]
async fn a_publisher_that_moves_between_monitors_has_lost_nothing_at_any_of_them() {
    let first = Running::start(RunOptions::default()).await;
    let second = Running::start(RunOptions::default()).await;
    publish_readings(&first, &first, "300").await;
    has_exactly(&first, 300).await;
    publish_readings(&first, &second, "100").await;
    has_exactly(&second, 100).await;
    publish_readings(&first, &first, "250").await;
    has_exactly(&first, 550).await;
    publish_readings(&first, &second, "200").await;
    has_exactly(&second, 300).await;
}

/// Found: `prove --rows` seed 7. A publisher with nothing left to send ended before the monitor could ask for what it lacks of
/// an earlier life, which another one has, and was asked in vain at each of its starts.
#[tokio::test]
async fn one_that_has_nothing_to_send_stays_to_be_asked_for_what_another_monitor_has() {
    let first = Running::start(RunOptions::default()).await;
    let second = Running::start(RunOptions::default()).await;
    publish_readings(&first, &first, "300").await;
    let ends_at_once = async || {
        let mut command = command(first.directory());
        command.args(["publish", "--id", "light", "--mqtt", second.mqtt_url(), "--exec", "true"]);
        command.args(["--exec-restart", "never", "--data-dir", "publisher"]);
        let mut publisher = Program::start(command);
        assert!(publisher.exit(PATIENCE).await.success(), "{}", publisher.stderr());
    };
    ends_at_once().await;
    let total = second.ledger().await.total;
    assert_eq!((total.missing, total.lost, total.stored), (0, 0, 0), "{total:?}");
    publish_readings(&first, &second, "100").await;
    has_exactly(&second, 100).await;
}

#[tokio::test]
async fn a_monitor_with_a_new_data_directory_calls_nothing_lost_that_the_one_before_has() {
    let mut running = Running::start(RunOptions::default()).await;
    let mut publisher = publish(&running, &["--limit", "1500"]);
    // By then the publisher has been told of the first ones, and keeps them no longer.
    eventually("rows come", PATIENCE, async || running.ledger().await.total.stored > 600).await;
    running.program.kill();
    running.options_mut().arguments = ["--data-dir", "other"].map(ToOwned::to_owned).to_vec();
    running.restart().await;
    assert!(publisher.exit(PATIENCE).await.success());
    let total = until_settled(&running).await.total;
    assert!(total.lost == 0 && total.produced == total.stored && (1..1_500).contains(&total.stored), "{total:?}");
    assert!(publisher.stderr().contains("that another one has confirmed"), "{}", publisher.stderr());

    // The first one is there again, and has what it had.
    running.program.kill();
    running.options_mut().arguments.clear();
    running.restart().await;
    let mut publisher = publish(&running, &["--limit", "100"]);
    assert!(publisher.exit(PATIENCE).await.success());
    let before = until_settled(&running).await.total;
    // Rows that it had and was killed before it could confirm are in both.
    assert!(before.lost == 0 && before.produced == before.stored, "{before:?}");
    assert!(before.stored + total.stored >= 1_600 && before.stored < 1_600, "{before:?} {total:?}");
}

/// What a program prints as Telegraf does: a row with a tag `host`, and one that no database can hold.
#[tokio::test]
async fn a_program_may_print_tags_of_the_monitors_and_rows_that_nobody_can_hold() {
    let running = Running::start(RunOptions::default()).await;
    let mut command = command(running.directory());
    command.args(["publish", "--id", "poison", "--mqtt", running.mqtt_url(), "--heartbeat", "200ms"]);
    command.args(["--schema", r#"{"format":"line-protocol"}"#, "--exec-restart", "never", "--data-dir", "pub"]);
    let lines =
        r"printf 'm,room=a v=1\nm,host=web1,room=a v=2\nm,host=a,source_host=b v=3\nm,room=a time=4\nm,room=a v=5\n'";
    command.args(["--exec", lines]);
    let mut publisher = Program::start(command);
    eventually("all rows and both errors are stored", PATIENCE, async || running.ledger().await.total.stored == 5)
        .await;
    let total = running.ledger().await.total;
    assert_eq!((total.produced, total.lost, total.missing), (5, 0, 0), "{total:?}");
    assert!(publisher.exit(PATIENCE).await.success());
    assert!(!publisher.stderr().contains("cannot be sent"), "{}", publisher.stderr());
    assert_eq!(contents(&running.directory().join("pub/outbox/poison.sqlite")).unwrap().waiting, []);
}

/// Errors of rows were kept with the tags of the rows, and no message could carry them: nothing behind them was sent.
#[tokio::test]
async fn an_outbox_that_was_blocked_heals_at_the_next_start_and_what_no_message_can_carry_is_lost_by_name() {
    let running = Running::start(RunOptions::default()).await;
    let path = outbox(&running, "");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let config = OutboxConfig { path: Some(path.clone()), bytes_max: 1 << 20, full_policy: FullPolicy::RefuseNew };
    let (mut blocked, life) = Outbox::open(config, 1_000).unwrap();
    let reading = |sequence, (key, value): (&str, &str), text: usize| Reading {
        sequence,
        time: Timestamp::from_nanos(1_763_683_203_000_000_000 + i64::try_from(sequence).unwrap()),
        measurement: "m".to_owned(),
        tags: vec![(key.to_owned(), value.to_owned())],
        fields: vec![("detail".to_owned(), FieldValue::Text("x".repeat(text)))],
    };
    let plain = ("room", "a");
    let left: Vec<_> = [plain, ("host", "web1"), plain, ("room", "a\nb"), ("room", "a\nb"), plain, plain]
        .into_iter()
        .zip(1..)
        .map(|(tag, number)| reading(number, tag, if number == 6 { 10_000 } else { 1 }))
        .collect();
    blocked.keep(&left).unwrap();
    drop(blocked);

    let mut command = publish_command(&running, &["--limit", "50"]);
    command.env("HEARTWATCH_MQTT_MESSAGE_BYTES_MAX", "4096");
    let mut publisher = Program::start(command);
    assert!(publisher.exit(PATIENCE).await.success());
    let view = until_settled(&running).await;
    let (earlier, now) = (&view.accounts[0], &view.accounts[1]);
    assert_eq!((earlier.incarnation, earlier.account.produced, earlier.account.stored), (life, 7, 4), "{view:?}");
    assert_eq!((now.account.stored, now.account.lost), (50, 0), "{view:?}");
    let named: Vec<_> = view.losses.iter().map(|loss| (loss.first, loss.last)).collect();
    assert_eq!(named, [(4, 5), (6, 6)], "{view:?}");
    assert!(view.losses[0].reason.contains("tags.room") && view.losses[1].reason.contains("message_bytes_max"));
    let said = publisher.stderr();
    assert_eq!(said.matches("can never be sent").count(), 1, "{said}");
    assert!(said.contains("left=0"), "{said}");
    let contents = contents(&path).unwrap();
    assert!(contents.waiting.is_empty() && contents.given_up == 0, "{contents:?}");
}

/// Rows that fill 256 KiB many times.
fn wide_rows(directory: &Path) -> PathBuf {
    let path = directory.join("wide.csv");
    let rows: String = (1..=4_000).map(|row| format!("{row},{}\n", "x".repeat(150))).collect();
    fs::write(&path, format!("row,text\n{rows}")).unwrap();
    path
}
