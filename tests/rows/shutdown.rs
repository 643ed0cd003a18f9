//! How `run` and `publish` start, end and read their configuration again: exit codes, signals, children,
//! ports, and what is left on disk.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails its test")]

use crate::support;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use heartwatch_domain::verdict::Verdict;
use heartwatch_formats::api::{LedgerView, PublisherView};
use rustix::process::Signal;
use support::heartwatch::{
    PATIENCE, Program, RunOptions, Running, all_ended, children_of, command, finished, fixture, has_ended, publish,
};
use support::mosquitto::Mosquitto;
use support::{eventually, free_port};
use tokio::time::Instant;

/// A publisher of the configuration.
fn feed(id: &str, more: &str) -> String {
    let csv = fixture("light-1.csv");
    format!("[[publisher]]\nid = '{id}'\ncsv = '{}'\ninterval = '50ms'\n{more}\n", csv.display())
}

fn with(config: String) -> RunOptions {
    RunOptions { config, deadline: Duration::from_secs(10), ..RunOptions::default() }
}

async fn pid_of(monitor: &Running, publisher: &str) -> u32 {
    monitor.until_publisher(publisher, "alive with a PID", |view| view.pid.is_some()).await.pid.unwrap()
}

/// A database that accepts connections and never answers.
fn mute_database() -> (TcpListener, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, vec!["--influx-url".to_owned(), url])
}

#[tokio::test]
async fn sigterm_ends_everything_in_order_with_every_row_safe() {
    let config = feed("child", "") + feed("inside", "run = 'in-process'").as_str();
    let mut monitor = Running::start(with(config)).await;
    for publisher in ["child", "inside"] {
        monitor.until_publisher(publisher, "stored", |view| view.ledger.stored >= 20).await;
    }
    assert_eq!(pid_of(&monitor, "inside").await, monitor.program.pid());
    let children = children_of(monitor.program.pid());
    assert_eq!(children, [pid_of(&monitor, "child").await]);
    let asked = Instant::now();
    monitor.program.signal(Signal::TERM);
    let status = monitor.program.exit(Duration::from_secs(10)).await;
    assert_eq!((status.code(), status.signal()), (Some(0), None), "{}", monitor.program.stderr());
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "with nothing to wait for it ends at once: {:?}",
        asked.elapsed()
    );
    assert!(children.iter().all(|pid| has_ended(*pid)));
    monitor.program.says("heartwatch has stopped").await;
    let said = monitor.program.stderr();
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "an end in order has nothing to warn of:\n{said}");
    assert!(!said.contains("left behind"), "{said}");

    // Every reading that was produced is stored, and nobody waits to send anything again.
    monitor.restart().await;
    for publisher in ["child", "inside"] {
        monitor.until(publisher, Verdict::Alive).await;
    }
    let lives = |ledger: &LedgerView| ledger.accounts.iter().filter(|line| line.publisher.as_str() == "child").count();
    eventually("it has a second life", PATIENCE, async || lives(&monitor.ledger().await) == 2).await;
    let ledger = monitor.ledger().await;
    assert!(ledger.balances, "{ledger:?}");
    let first = ledger.accounts.iter().find(|line| line.publisher.as_str() == "child").unwrap().account;
    assert!(first.produced >= 20 && first.stored == first.produced && first.lost == 0, "{first:?}");
}

#[tokio::test]
async fn a_restart_is_one_event_and_what_was_known_stays_known() {
    let mut monitor = Running::start(with(feed("child", "") + feed("inside", "run = 'in-process'").as_str())).await;
    let mut light = publish(monitor.directory(), "light", monitor.mqtt_url());
    for publisher in ["child", "inside", "light"] {
        monitor.until(publisher, Verdict::Alive).await;
    }
    light.kill();
    monitor.until("light", Verdict::Dead).await;
    for signal in [Signal::TERM, Signal::KILL] {
        let seen = monitor.publisher("light").await.unwrap().last_seen.unwrap();
        let before = monitor.changes().await.len();
        if signal == Signal::KILL {
            // It is kept every ten seconds.
            let kept = || std::fs::read_to_string(monitor.directory().join("data/last-seen.json")).unwrap_or_default();
            eventually("it is kept", PATIENCE, async || kept().contains("\"in_order\":false")).await;
        }
        monitor.program.signal(signal);
        monitor.program.exit(Duration::from_secs(10)).await;
        monitor.restart().await;
        assert_eq!(monitor.publisher("light").await.unwrap().last_seen, Some(seen), "{signal:?}");
        for publisher in ["child", "inside"] {
            let first = monitor.publisher(publisher).await.unwrap();
            assert!(first.verdict == Verdict::Alive && first.last_seen.is_some(), "{first:?}");
            let again = |view: &PublisherView| view.pid.is_some() && view.last_seen > first.last_seen;
            monitor.until_publisher(publisher, "heard again", again).await;
        }
        let changes = monitor.changes().await;
        let fresh: Vec<_> = changes[before..].iter().map(|change| (change.publisher.as_str(), change.to)).collect();
        assert_eq!(fresh.len(), 1, "{:?}", &changes[before..]);
        assert!(fresh[0].0.starts_with("monitor:"), "{fresh:?}");
        let in_order = changes[before].summary.contains("it ended in order");
        assert_eq!(in_order, signal == Signal::TERM, "{:?}", changes[before]);
    }
}

#[tokio::test]
async fn sigint_is_like_sigterm() {
    let mut monitor = Running::start(with(feed("child", ""))).await;
    monitor.until("child", Verdict::Alive).await;
    monitor.program.signal(Signal::INT);
    assert_eq!(monitor.program.exit(Duration::from_secs(10)).await.code(), Some(0));
}

#[tokio::test]
async fn a_measurement_that_is_ended_leaves_neither_programs_nor_files() {
    for signal in [Signal::TERM, Signal::HUP] {
        let directory = tempfile::tempdir().unwrap();
        let mut measurement = command(directory.path());
        measurement.env("TMPDIR", directory.path()).args(["bench", "footprint", "--publishers", "1"]);
        let mut program = Program::start(measurement);
        let left = || std::fs::read_dir(directory.path()).unwrap().count();
        let mut children = Vec::new();
        eventually("its monitor has written something", PATIENCE, async || {
            children = children_of(program.pid());
            let folder = std::fs::read_dir(directory.path()).unwrap().flatten().next();
            children.len() == 1 && folder.is_some_and(|folder| folder.path().join("data/journal.sqlite").exists())
        })
        .await;
        program.signal(signal);
        let status = program.exit(PATIENCE).await;
        assert_eq!((status.code(), status.signal()), (Some(1), None), "{}", program.stderr());
        program.says("ended by a signal before all was measured").await;
        all_ended(&children).await;
        assert_eq!(left(), 0, "{signal:?}");
    }
}

#[tokio::test]
async fn a_database_that_does_not_answer_costs_no_more_than_the_grace_period() {
    let (_listener, arguments) = mute_database();
    let config = format!("grace = '2s'\n{}", feed("child", ""));
    let mut monitor = Running::start(RunOptions { arguments, ..with(config) }).await;
    monitor.until_publisher("child", "buffered", |view| view.ledger.buffered >= 10).await;
    let asked = Instant::now();
    monitor.program.signal(Signal::TERM);
    let status = monitor.program.exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", monitor.program.stderr());
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (_listener, arguments) = mute_database();
    let config = format!("grace = '60s'\n{}", feed("child", ""));
    let mut monitor = Running::start(RunOptions { arguments, ..with(config) }).await;
    monitor.until_publisher("child", "buffered", |view| view.ledger.buffered >= 10).await;
    let children = children_of(monitor.program.pid());
    assert_eq!(children.len(), 1);
    monitor.program.signal(Signal::TERM);
    monitor.program.says("a second signal ends at once").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(monitor.program.runs(), "it waits for the database");
    monitor.program.signal(Signal::TERM);
    assert_eq!(monitor.program.exit(Duration::from_secs(2)).await.code(), Some(1));
    all_ended(&children).await;
}

#[tokio::test]
async fn a_killed_monitor_takes_its_children_with_it_and_forgets_nothing() {
    let config = feed("one", "") + feed("two", "").as_str();
    let mut monitor = Running::start(with(config)).await;
    for publisher in ["one", "two"] {
        monitor.until_publisher(publisher, "stored", |view| view.ledger.stored >= 10).await;
    }
    let children = children_of(monitor.program.pid());
    assert_eq!(children.len(), 2);
    let stored = monitor.publisher("one").await.unwrap().ledger.stored;
    monitor.program.kill();
    all_ended(&children).await;

    monitor.restart().await;
    let more = |view: &PublisherView| view.ledger.stored > stored + 10;
    monitor.until_publisher("one", "stored again", more).await;
    let ledger = monitor.ledger().await;
    assert!(ledger.balances && ledger.total.lost == 0, "{ledger:?}");
}

#[tokio::test]
async fn a_child_that_is_killed_is_started_again() {
    let mut monitor = Running::start(with(feed("child", ""))).await;
    let first = pid_of(&monitor, "child").await;
    support::heartwatch::kill(first, Signal::KILL);
    let again = |view: &PublisherView| view.pid.is_some_and(|pid| pid != first);
    monitor.until_publisher("child", "another process", again).await;
    monitor.until("child", Verdict::Alive).await;
    assert!(monitor.program.runs());
}

#[tokio::test]
async fn a_killed_publisher_sends_what_it_had_left_when_it_starts_again() {
    let monitor = Running::start(RunOptions::default()).await;
    let directory = tempfile::tempdir().unwrap();
    // Nobody confirms: there is no broker where it publishes.
    let nowhere = format!("mqtt://127.0.0.1:{}", free_port());
    let mut publisher = publish(directory.path(), "light", &nowhere);
    publisher.says("no connection to the MQTT broker").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    publisher.kill();
    assert_eq!(publisher.stderr().matches("no connection to the MQTT broker").count(), 1, "it says so once");

    let _again = publish(directory.path(), "light", monitor.mqtt_url());
    monitor.until("light", Verdict::Alive).await;
    let two_lives = async || {
        let ledger = monitor.ledger().await;
        let lives: Vec<_> = ledger.accounts.iter().filter(|line| line.publisher.as_str() == "light").collect();
        lives.len() == 2 && lives.iter().all(|life| life.account.stored > 5 && life.account.lost == 0)
    };
    eventually("the readings of both lives are stored", PATIENCE, two_lives).await;
}

/// How often this client has connected, in mosquitto's own words.
fn connections(broker: &Mosquitto, client: &str) -> usize {
    let log = broker.log();
    let connected = log.lines().filter(|line| line.contains("New client connected"));
    connected.filter(|line| line.split(" as ").nth(1).is_some_and(|name| name.starts_with(client))).count()
}

#[tokio::test]
async fn sighup_applies_what_changed_and_leaves_the_rest_alone() {
    let Some(broker) = Mosquitto::start().await else { return };
    let config = feed("stays", "") + feed("goes", "").as_str() + feed("changes", "").as_str();
    let options = RunOptions { mqtt: Some(broker.url()), ..with(config) };
    let monitor = Running::start(options).await;
    let stays = pid_of(&monitor, "stays").await;
    let goes = pid_of(&monitor, "goes").await;
    let changes = pid_of(&monitor, "changes").await;
    assert_eq!(monitor.publisher("stays").await.unwrap().deadline_ms, 10_000);

    let file = monitor.directory().join("heartwatch.toml");
    // A longer deadline asks for no faster heartbeats: only how it is watched changes.
    let new = feed("stays", "deadline = '11s'")
        + feed("changes", "measurement = 'lux'").as_str()
        + feed("comes", "").as_str();
    std::fs::write(&file, &new).unwrap();
    monitor.program.signal(Signal::HUP);
    monitor.until("comes", Verdict::Alive).await;
    monitor.until("goes", Verdict::Ended).await;
    monitor.until_publisher("stays", "watched anew", |view| view.deadline_ms == 11_000).await;
    monitor.until_publisher("changes", "started anew", |view| view.pid.is_some_and(|pid| pid != changes)).await;
    assert_eq!(pid_of(&monitor, "stays").await, stays, "{}", monitor.program.stderr());
    all_ended(&[goes, changes]).await;
    assert_eq!(children_of(monitor.program.pid()).len(), 3);
    assert_eq!(connections(&broker, "heartwatch-monitor-"), 1, "the monitor's connection has lasted");
    assert_eq!(connections(&broker, "heartwatch-publisher-stays"), 1, "and that of the unchanged publisher");

    // A wrong file changes nothing, and says what is wrong with it.
    std::fs::write(&file, "[watch]\ndeadlin = '5s'\n").unwrap();
    monitor.program.signal(Signal::HUP);
    monitor.program.says("the new configuration is wrong, the old one stays").await;
    monitor.program.says("watch.deadlin: unknown key: did you mean 'deadline'?").await;
    // More than one part at once.
    std::fs::write(&file, format!("{new}[buffer]\nbytes_max = '2GiB'\n{}", feed("last", ""))).unwrap();
    monitor.program.signal(Signal::HUP);
    monitor.program.says("configuration applied change=[buffer]").await;
    monitor.until("last", Verdict::Alive).await;
    assert_eq!(pid_of(&monitor, "stays").await, stays);
    assert_eq!(connections(&broker, "heartwatch-monitor-"), 1);
    monitor.program.signal(Signal::HUP);
    monitor.program.says("configuration read again: nothing has changed").await;
}

#[tokio::test]
async fn a_wrong_configuration_is_told_whole_and_exits_78() {
    let directory = tempfile::tempdir().unwrap();
    let file = "grace = 'soon'\n[mqtt]\nlistn = '127.0.0.1:1883'\n[web]\nlisten = 'here'\n[[publisher]]\nid = 'a b'\n\
                [[publisher]]\nid = 'a'\ncsv = 'missing.csv'\n";
    std::fs::write(directory.path().join("heartwatch.toml"), file).unwrap();
    let run = finished(directory.path(), &["run"], PATIENCE).await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(78), ""), "{run:?}");
    for place in ["heartwatch.toml:1: grace", "heartwatch.toml:3: mqtt.listn", "heartwatch.toml:5: web.listen"] {
        assert!(run.stderr.contains(place), "{place} in\n{}", run.stderr);
    }
    assert!(run.stderr.contains("heartwatch.toml:7: publisher.id"), "{}", run.stderr);
    assert!(
        run.stderr.contains("heartwatch.toml:10: publisher.csv") && run.stderr.contains("missing.csv"),
        "{}",
        run.stderr
    );
    assert!(!directory.path().join("data").exists(), "nothing is begun");
    let check = finished(directory.path(), &["check"], PATIENCE).await;
    assert_eq!(check.code, Some(78), "{check:?}");
}

#[tokio::test]
async fn a_wrong_argument_exits_2() {
    let directory = tempfile::tempdir().unwrap();
    for words in [&["run", "--nope"][..], &["demo", "4"], &["publish"], &["run", "--deadline", "0s"], &["nothing"]] {
        let wrong = finished(directory.path(), words, PATIENCE).await;
        assert_eq!(wrong.code, Some(2), "{words:?}: {wrong:?}");
        assert!(wrong.stderr.contains("--help") || wrong.stderr.contains("Usage"), "{words:?}: {}", wrong.stderr);
    }
}

async fn fails(directory: &Path, words: &[&str], said: &[&str]) {
    let failed = finished(directory, words, PATIENCE).await;
    assert_eq!(failed.code, Some(1), "{words:?}: {failed:?}");
    for part in said {
        assert!(failed.stderr.contains(part), "{part} in\n{}", failed.stderr);
    }
    let last = failed.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("heartwatch: "), "{}", failed.stderr);
    assert!(!failed.stderr.contains("panicked"), "{}", failed.stderr);
}

#[tokio::test]
async fn a_taken_port_says_which_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = ["run", "--web", &address, "--mqtt-listen", "127.0.0.1:0"];
    fails(directory.path(), &words, &[&address, "Address already in use", "--web"]).await;
    let words = ["run", "--web", "off", "--mqtt-listen", &address];
    fails(directory.path(), &words, &[&address, "another program has this port", "--mqtt-listen"]).await;
    if let Some(broker) = Mosquitto::start().await {
        let address = format!("127.0.0.1:{}", broker.port());
        let words = ["run", "--web", "off", "--mqtt-listen", &address];
        let said = [&address, "an MQTT broker that is not ours", &format!("--mqtt mqtt://{address}")];
        fails(directory.path(), &words, &said.map(|part: &str| part)).await;
    }
}

#[tokio::test]
async fn what_a_publisher_cannot_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fails(directory.path(), &["publish", "--id", "a", "--csv", "missing.csv"], &["missing.csv", "No such file"]).await;
    std::fs::write(directory.path().join("empty.csv"), "").unwrap();
    fails(directory.path(), &["publish", "--id", "a", "--csv", "empty.csv"], &["empty.csv", "empty"]).await;
    std::fs::write(directory.path().join("ok.csv"), "value\n1\n").unwrap();
    let words = ["publish", "--id", "a", "--csv", "ok.csv", "--data-dir", "ok.csv/x"];
    fails(directory.path(), &words, &["ok.csv/x"]).await;
}

#[tokio::test]
async fn one_data_directory_serves_one_monitor() {
    let monitor = Running::start(RunOptions::default()).await;
    let words = ["run", "--web", "off", "--mqtt-listen", "127.0.0.1:0"];
    fails(monitor.directory(), &words, &["data", "another"]).await;
}

#[tokio::test]
async fn a_publisher_waits_for_its_last_confirmations_and_no_longer() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = format!("mqtt://127.0.0.1:{}", free_port());
    let mut publisher = publish(directory.path(), "light", &nowhere);
    publisher.says("no connection to the MQTT broker").await;
    publisher.signal(Signal::TERM);
    publisher.says("a second signal ends at once").await;
    publisher.signal(Signal::TERM);
    assert_eq!(publisher.exit(Duration::from_secs(2)).await.code(), Some(1));

    let mut command = command(directory.path());
    command.args(["publish", "--id", "b", "--mqtt", &nowhere, "--interval", "0", "--limit", "7"]);
    command.arg("--csv").arg(fixture("light-1.csv"));
    let mut alone = Program::start(command);
    let status = alone.exit(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "what it leaves is safe: {}", alone.stderr());
    alone.says("they stay in the outbox for the next start readings=7").await;
}
