//! What is told to whoever follows a real monitor: all of it, once.

use crate::support;
use std::time::Duration;

use futures_util::StreamExt;
use heartwatch_adapters::monitor::Monitor;
use heartwatch_domain::verdict::{Change, Verdict};
use rustix::process::Signal;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, publish};
use support::{eventually, free_port};

async fn monitor() -> Running {
    Running::start(RunOptions { deadline: Duration::from_secs(2), ..RunOptions::default() }).await
}

#[tokio::test]
async fn a_follower_that_was_too_slow_asks_for_what_it_missed() {
    let monitor = monitor().await;
    let _publisher = publish(monitor.directory(), "light", monitor.mqtt_url());
    monitor.until("light", Verdict::Alive).await;
    let directory = tempfile::tempdir().unwrap();
    let words = ["events", "--json", "--url", monitor.page()];
    let told = support::heartwatch::finished(directory.path(), &words, PATIENCE).await.stdout;
    let change = |epoch: u64| {
        let mut change: Change = serde_json::from_str(told.lines().next().unwrap()).unwrap();
        change.epoch = epoch;
        serde_json::to_string(&change).unwrap()
    };
    let answer =
        |kind: &str, body: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n{body}");
    let page = |changes: &[String]| answer("application/json", &format!("[{}]", changes.join(",")));
    let missed = format!("event: missed\ndata: 2\n\nid: 4\nevent: change\ndata: {}\n\n", change(4));
    let answers = [
        page(&[change(1)]),
        page(&[]),
        answer("text/event-stream", &missed),
        page(&[change(2), change(3), change(4)]),
        page(&[]),
    ];
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let (url, requests) = support::serve_each(&answers).await;
    let mut command = support::heartwatch::command(directory.path());
    command.args(["events", "--follow", "--json", "--url", &url]);
    let follower = Program::start(command);
    let requests = requests.await.unwrap();
    eventually("all four are told", PATIENCE, async || follower.stdout().lines().count() >= 4).await;
    let epochs: Vec<u64> =
        follower.stdout().lines().map(|line| serde_json::from_str::<Change>(line).unwrap().epoch).collect();
    assert_eq!(epochs, [1, 2, 3, 4], "{requests:?}");
    assert!(requests[2].to_lowercase().contains("last-event-id: 1\r\n"), "{requests:?}");
    assert!(requests[3].contains("since=1 "), "{requests:?}");
}

/// What was decided before it came is not in the journal yet: nobody would tell it again.
#[tokio::test]
async fn a_follower_that_comes_while_the_disk_stands_still_misses_nothing() {
    let monitor = monitor().await;
    let publishers = ["one", "two", "three"].map(|id| (id, publish(monitor.directory(), id, monitor.mqtt_url())));
    for (id, _) in &publishers {
        monitor.until(id, Verdict::Alive).await;
    }
    let journal = rusqlite::Connection::open(monitor.directory().join("data/journal.sqlite")).unwrap();
    journal.busy_timeout(PATIENCE).unwrap();
    journal.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The first one is on its way to the disk, and the others wait for it.
    for (id, publisher) in &publishers {
        publisher.signal(Signal::KILL);
        let named = format!("publisher={id} ");
        let dead = |line: &str| line.contains(&named) && line.contains("to=dead");
        eventually("it is dead", PATIENCE, async || monitor.program.stderr().lines().any(dead)).await;
    }
    let page = Monitor::at(monitor.page().parse().unwrap()).unwrap();
    let changes = page.follow(3).await.unwrap();
    let dead = changes.filter(|change| std::future::ready(change.to == Verdict::Dead)).take(3);
    let dead = tokio::time::timeout(PATIENCE, dead.collect::<Vec<_>>()).await.unwrap();
    let who: Vec<_> = dead.iter().map(|change| change.publisher.as_str()).collect();
    assert_eq!(who, ["one", "two", "three"]);
    // One who was told of the second, and lost the connection.
    let mut changes = std::pin::pin!(page.follow(dead[1].epoch).await.unwrap());
    let third = tokio::time::timeout(PATIENCE, changes.next()).await.unwrap();
    assert_eq!(third.as_ref(), dead.get(2));
    drop(journal);
}

#[tokio::test]
async fn events_are_followed_as_they_happen_and_status_is_read() {
    let monitor = monitor().await;
    let directory = tempfile::tempdir().unwrap();
    let mut command = support::heartwatch::command(directory.path());
    command.args(["events", "--follow", "--json", "--url", monitor.page()]);
    let follower = Program::start(command);
    let publisher = publish(monitor.directory(), "light", monitor.mqtt_url());
    monitor.until("light", Verdict::Alive).await;
    publisher.signal(Signal::KILL);
    monitor.until("light", Verdict::Dead).await;
    eventually("the death is told", PATIENCE, async || follower.stdout().contains("\"to\":\"dead\"")).await;
    let epochs: Vec<u64> =
        follower.stdout().lines().map(|line| serde_json::from_str::<Change>(line).unwrap().epoch).collect();
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");

    let ask = async |words: &[&str]| {
        let mut all = words.to_vec();
        all.extend(["--url", monitor.page()]);
        let answer = support::heartwatch::finished(directory.path(), &all, PATIENCE).await;
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{words:?}");
        answer.stdout
    };
    let status = ask(&["status"]).await;
    assert!(status.starts_with("PUBLISHER"), "{status}");
    assert!(status.lines().any(|line| line.starts_with("light ") && line.contains("dead")), "{status}");
    let explanation = ask(&["explain", "light"]).await;
    assert!(explanation.contains("evidence") && explanation.contains("history"), "{explanation}");
    assert!(ask(&["events"]).await.lines().count() >= 2);
    let ledger = ask(&["ledger"]).await;
    assert!(ledger.contains("balanced"), "{ledger}");
    let status: serde_json::Value = serde_json::from_str(&ask(&["status", "--json"]).await).unwrap();
    assert_eq!(status["publishers"][0]["verdict"], "dead");

    let words = ["explain", "nobody", "--url", monitor.page()];
    let unknown = support::heartwatch::finished(directory.path(), &words, PATIENCE).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("nobody"), "{}", unknown.stderr);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let absent = support::heartwatch::finished(directory.path(), &["status", "--url", &nobody], PATIENCE).await;
    assert_eq!(absent.code, Some(1));
    assert!(absent.stderr.contains(&nobody) && absent.stderr.contains("heartwatch run"), "{}", absent.stderr);
}
