//! Consequences of a verdict, with the real program: webhooks to a real HTTP server, commands, restarts of
//! children. Mail is in `tests/mail.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use heartwatch_adapters::command::{CommandConfig, CommandNotifier};
use heartwatch_adapters::webhook::signature;
use heartwatch_domain::status::TargetStatus;
use heartwatch_domain::verdict::Verdict;
use heartwatch_formats::notification::NotifyMessage;
use heartwatch_ports::{Notify as _, NotifyError};
use rustix::process::Signal;
use support::eventually;
use support::heartwatch::{PATIENCE, RunOptions, Running, fixture, has_ended, kill, publish};
use support::receiver::{Behaviour, Receiver};

fn options(config: String) -> RunOptions {
    RunOptions { config, ..RunOptions::default() }
}

fn webhook(name: &str, url: &str, more: &str) -> String {
    format!("[[notify]]\nname = '{name}'\nwebhook = '{url}'\nbackoff_min = '50ms'\nbackoff_max = '200ms'\n{more}\n")
}

async fn account(running: &Running, target: &str) -> TargetStatus {
    let status = running.status().await;
    status.notifications.into_iter().find(|account| account.target == target).unwrap_or_default()
}

async fn until_account(running: &Running, target: &str, what: &str, wanted: impl Fn(&TargetStatus) -> bool) {
    eventually(what, PATIENCE, async || wanted(&account(running, target).await)).await;
}

async fn metrics(running: &Running) -> String {
    reqwest::get(format!("{}/metrics", running.page())).await.unwrap().text().await.unwrap()
}

fn assert_balances(account: &TargetStatus) {
    assert_eq!(account.taken, account.sent + account.waiting + account.given_up, "{account:?}");
}

#[tokio::test]
async fn a_webhook_is_signed_and_tells_death_and_recovery_once_each() {
    let receiver = Receiver::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "hunter2\n").unwrap();
    let config = webhook("pager", &receiver.url, "secret_file = 'secret'");
    let running = Running::start_in(directory, options(config)).await;
    let mut publisher = publish(running.directory(), "light", running.mqtt_url());
    running.until("light", Verdict::Alive).await;
    publisher.kill();
    running.until("light", Verdict::Dead).await;
    let dead = receiver.until(1).await.remove(0);
    let json = dead.json();
    assert_eq!((json["kind"].as_str(), json["publisher"].as_str()), (Some("change"), Some("light")), "{json}");
    assert_eq!(json["to"].as_str(), Some("dead"), "{json}");
    assert_eq!(json["id"].as_str(), Some(dead.delivery.as_str()));
    assert!(json["evidence"].as_array().is_some_and(|evidence| !evidence.is_empty()), "{json}");
    assert_eq!(dead.signature, signature(b"hunter2", &dead.body));
    assert_eq!(dead.method, "POST");

    let _again = publish(running.directory(), "light", running.mqtt_url());
    running.until("light", Verdict::Alive).await;
    let recovered = receiver.until(2).await.remove(1).json();
    assert_eq!((recovered["from"].as_str(), recovered["to"].as_str()), (Some("dead"), Some("alive")), "{recovered}");
    until_account(&running, "pager", "both are sent", |account| account.sent == 2).await;
    let account = account(&running, "pager").await;
    assert_eq!((account.state.as_str(), account.messages, account.waiting), ("ok", 2, 0));
    assert_balances(&account);
    assert_eq!(receiver.received().len(), 2, "nothing else was told");
}

#[tokio::test]
async fn a_target_that_fails_or_hangs_is_tried_again_with_the_same_id_and_delays_nobody() {
    let failing = Receiver::start(&[Behaviour::Answer(500), Behaviour::Answer(503), Behaviour::Hang]);
    let refusing = Receiver::start(&[Behaviour::Answer(422)]);
    let healthy = Receiver::start(&[]);
    let config = webhook("failing", &failing.url, "timeout = '500ms'\nbackoff_min = '400ms'\nbackoff_max = '400ms'")
        .replacen("backoff_min = '50ms'\nbackoff_max = '200ms'\n", "", 1)
        + webhook("refusing", &refusing.url, "").as_str()
        + webhook("healthy", &healthy.url, "").as_str();
    let running = Running::start(options(config)).await;
    let mut publisher = publish(running.directory(), "light", running.mqtt_url());
    running.until("light", Verdict::Alive).await;
    publisher.kill();
    healthy.until(1).await;
    until_account(&running, "failing", "it is tried again", |account| account.state == "retrying").await;
    let retrying = account(&running, "failing").await;
    assert!(retrying.last_error.contains("500") || retrying.last_error.contains("503"), "{retrying:?}");
    assert_balances(&retrying);
    // After these it is told that the other target fails.
    let attempts = failing.until(4).await.into_iter().take(4).collect::<Vec<_>>();
    assert!(attempts.iter().all(|attempt| attempt.delivery == attempts[0].delivery), "{attempts:?}");
    assert!(attempts.iter().all(|attempt| attempt.body == attempts[0].body), "{attempts:?}");
    until_account(&running, "failing", "it is delivered", |account| account.sent >= 1 && account.state == "ok").await;

    until_account(&running, "refusing", "it is given up", |account| account.given_up == 1).await;
    let refused = account(&running, "refusing").await;
    assert!(refused.last_given_up.contains("422") && refused.last_given_up.contains("the receiver's words"));
    assert_balances(&refused);
    assert_eq!(refusing.received().len(), 1, "what is refused is not repeated");
}

#[tokio::test]
async fn a_target_whose_last_delivery_failed_is_not_ok_and_another_one_is_told() {
    let refusing = Receiver::start(&[Behaviour::Answer(422)]);
    let other = Receiver::start(&[]);
    let config = webhook("pager", &refusing.url, "publishers = ['light']\nto = ['dead']")
        + webhook("desk", &other.url, "publishers = ['nobody']").as_str();
    let running = Running::start(options(config)).await;
    let mut publisher = publish(running.directory(), "light", running.mqtt_url());
    running.until("light", Verdict::Alive).await;
    publisher.kill();
    until_account(&running, "pager", "it is given up", |account| account.given_up == 1).await;
    let pager = account(&running, "pager").await;
    assert_eq!((pager.state.as_str(), pager.sent, pager.waiting), ("failed", 0, 0));
    assert!(pager.last_error.contains("422"), "{pager:?}");
    let failing =
        |text: &str, value: u8| text.contains(&format!("heartwatch_notifications_failing{{target=\"pager\"}} {value}"));
    let text = metrics(&running).await;
    assert!(failing(&text, 1), "{text}");
    let told = other.until(1).await.remove(0).json();
    assert_eq!((told["kind"].as_str(), told["target"].as_str()), (Some("target"), Some("pager")), "{told}");
    assert_eq!(told["state"].as_str(), Some("failing"), "{told}");
    assert!(told["summary"].as_str().is_some_and(|summary| summary.contains("422")), "{told}");

    let mut again = publish(running.directory(), "light", running.mqtt_url());
    running.until("light", Verdict::Alive).await;
    until_account(&running, "pager", "it is told again", |account| account.sent > 0 && account.state == "ok").await;
    let told = other.until(2).await.remove(1).json();
    assert_eq!((told["target"].as_str(), told["state"].as_str()), (Some("pager"), Some("delivering")), "{told}");
    assert!(failing(&metrics(&running).await, 0));
    again.kill();
    refusing.until(3).await;
    assert_eq!(other.received().len(), 2, "nothing else was told");
}

#[tokio::test]
async fn notifications_survive_a_kill_of_the_monitor() {
    let port = support::free_port();
    let url = format!("http://127.0.0.1:{port}/hook");
    let mut running = Running::start(options(webhook("pager", &url, ""))).await;
    let mut publisher = publish(running.directory(), "light", running.mqtt_url());
    running.until("light", Verdict::Alive).await;
    publisher.kill();
    running.until("light", Verdict::Dead).await;
    until_account(&running, "pager", "it waits", |account| account.waiting == 1 && account.state == "retrying").await;
    running.program.kill();
    let receiver = Receiver::start_on(port, &[]);
    running.restart().await;
    let told = receiver.until(1).await.remove(0).json();
    assert_eq!((told["publisher"].as_str(), told["to"].as_str()), (Some("light"), Some("dead")), "{told}");
    until_account(&running, "pager", "it is sent", |account| account.sent >= 1 && account.waiting == 0).await;
    let deaths = |received: Vec<support::receiver::Received>| {
        received.iter().filter(|received| received.json()["to"] == "dead").count()
    };
    assert_eq!(deaths(receiver.received()), 1);
    assert_balances(&account(&running, "pager").await);
}

#[tokio::test]
async fn a_storm_is_a_few_messages_and_a_digest() {
    let receiver = Receiver::start(&[]);
    let mut config = webhook("pager", &receiver.url, "per_minute_max = 3");
    for number in 0..30 {
        config.push_str(&format!("[[publisher]]\nid = 'missing-{number}'\n"));
    }
    let running = Running::start(options(config)).await;
    let received = receiver.until(3).await;
    let kinds: Vec<_> = received.iter().map(|received| received.json()["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["change", "change", "digest"]);
    let digest = received[2].json();
    assert_eq!((digest["count"].as_u64(), digest["omitted"].as_u64()), (Some(28), Some(8)), "{digest}");
    assert!(digest["summary"].as_str().unwrap().starts_with("28 more changes: 28 × never-started"), "{digest}");
    until_account(&running, "pager", "all are told", |account| account.sent == 30 && account.messages == 3).await;
    assert_balances(&account(&running, "pager").await);
}

#[tokio::test]
async fn targets_change_by_sighup_and_what_waits_for_one_that_is_gone_is_given_up_aloud() {
    let closed = format!("http://127.0.0.1:{}/hook", support::free_port());
    let running = Running::start(options(webhook("old", &closed, ""))).await;
    let mut publisher = publish(running.directory(), "light", running.mqtt_url());
    running.until("light", Verdict::Alive).await;
    publisher.kill();
    until_account(&running, "old", "it waits", |account| account.waiting == 1).await;

    let receiver = Receiver::start(&[]);
    let file = running.directory().join("heartwatch.toml");
    std::fs::write(&file, "[[notify]]\nname = 'new'\nwebhok = 'http://h'").unwrap();
    running.program.signal(Signal::HUP);
    running.program.says("the old one stays").await;
    assert_eq!(account(&running, "old").await.waiting, 1);
    std::fs::write(&file, webhook("new", &receiver.url, "")).unwrap();
    running.program.signal(Signal::HUP);
    running.program.says("notifications given up: the target is no longer configured").await;
    until_account(&running, "new", "it is there", |account| account.target == "new").await;
    assert_eq!(receiver.received().len(), 0, "a new target is not told old news");
    let _again = publish(running.directory(), "light", running.mqtt_url());
    let told = receiver.until(1).await.remove(0).json();
    assert_eq!(told["to"].as_str(), Some("alive"), "{told}");
}

fn script(directory: &Path, text: &str) -> std::path::PathBuf {
    let path = directory.join("tell");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_command_gets_the_event_on_its_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    script(directory.path(), "cat > \"$1.part\" && mv \"$1.part\" \"$1\"");
    let event = directory.path().join("event.json");
    let config = format!("[[notify]]\nname = 'siren'\ncommand = ['./tell', '{}']\nto = ['dead']", event.display());
    let running = Running::start_in(directory, options(config)).await;
    let mut publisher = publish(running.directory(), "light", running.mqtt_url());
    running.until("light", Verdict::Alive).await;
    publisher.kill();
    eventually("the command has written the event", PATIENCE, async || event.exists()).await;
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&event).unwrap()).unwrap();
    assert_eq!((json["publisher"].as_str(), json["to"].as_str()), (Some("light"), Some("dead")), "{json}");
    until_account(&running, "siren", "it is sent", |account| account.sent == 1).await;
}

/// A notice that its target can never take costs neither the others their place nor a digest its other notices.
#[tokio::test]
async fn a_notice_that_is_never_taken_is_overtaken_and_given_up_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    script(directory.path(), "if grep -q poison; then echo 'no such place' >&2; exit 3; fi");
    let config = "[[notify]]\nname = 'siren'\ncommand = ['./tell']\nto = ['dead']\nper_minute_max = 120\n\
                  backoff_min = '50ms'\nbackoff_max = '200ms'\n";
    let running = Running::start_in(directory, options(config.to_owned())).await;
    for name in ["poison", "light", "water"] {
        let mut publisher = publish(running.directory(), name, running.mqtt_url());
        running.until(name, Verdict::Alive).await;
        publisher.kill();
        running.until(name, Verdict::Dead).await;
    }
    until_account(&running, "siren", "the others are sent and it is given up", |account| {
        (account.sent, account.given_up, account.waiting) == (2, 1, 0)
    })
    .await;
    let account = account(&running, "siren").await;
    assert!(account.last_given_up.contains("while others were") && account.last_given_up.contains("no such place"));
    assert_balances(&account);
}

fn message() -> NotifyMessage {
    NotifyMessage { id: "m-1".into(), headline: "h".into(), text: "t".into(), json: b"{}".to_vec() }
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_has_started() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let text = format!("sleep 600 & echo $! $$ > {}; wait", pids.display());
    let program = script(directory.path(), &text);
    let timeout = Duration::from_millis(1_500);
    let command = CommandNotifier::new(CommandConfig { program: program.clone(), arguments: vec![], timeout });
    let error = command.deliver(&message()).await.unwrap_err();
    assert!(matches!(&error, NotifyError::Retry { reason, .. } if reason.contains("was killed")), "{error}");
    let text = std::fs::read_to_string(&pids).unwrap();
    let pids: Vec<u32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "{text}");
    eventually("both have ended", PATIENCE, async || pids.iter().all(|pid| has_ended(*pid))).await;

    // One whose future is dropped goes the same way.
    let _ = tokio::time::timeout(Duration::from_millis(700), command.deliver(&message())).await;
    let text = std::fs::read_to_string(directory.path().join("pids")).unwrap();
    let pids: Vec<u32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    eventually("both have ended", PATIENCE, async || pids.iter().all(|pid| has_ended(*pid))).await;
}

#[tokio::test]
async fn a_command_that_fails_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let program = script(directory.path(), "echo 'no siren here' >&2; exit 3");
    let timeout = Duration::from_secs(20);
    let command = CommandNotifier::new(CommandConfig { program, arguments: vec![], timeout });
    let error = command.deliver(&message()).await.unwrap_err().to_string();
    assert!(error.contains("exit status: 3: no siren here"), "{error}");
    let missing = CommandConfig { program: "/no/such/program".into(), arguments: vec![], timeout };
    let error = CommandNotifier::new(missing).deliver(&message()).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/program cannot be started"), "{error}");
}

#[tokio::test]
async fn each_child_has_its_own_restart_policy_and_giving_up_is_told() {
    let receiver = Receiver::start(&[]);
    let csv = fixture("light-1.csv");
    let publisher = |id: &str, more: &str| {
        format!("[[publisher]]\nid = '{id}'\ncsv = '{}'\ninterval = '50ms'\n{more}\n", csv.display())
    };
    let config = webhook("pager", &receiver.url, "to = ['unknown']\nrecovery = false")
        + publisher("once", "restart = 'never'").as_str()
        + publisher("thrice", "restart = 'on-failure'\nrestarts_max = 2\nrestart_backoff_min = '50ms'").as_str();
    let running = Running::start(options(config)).await;
    let once = running.until("once", Verdict::Alive).await.pid.unwrap();
    kill(once, Signal::KILL);
    let ended = running
        .until_publisher("once", "not started again", |view| {
            view.child.as_ref().is_some_and(|child| child.state == "ended")
        })
        .await;
    assert_eq!(ended.child.unwrap().starts, 1);

    let mut last = 0;
    for _ in 0..3 {
        let fresh = running
            .until_publisher("thrice", "alive in a new process", |view| {
                view.verdict == Verdict::Alive && view.pid.is_some_and(|pid| pid != last)
            })
            .await;
        last = fresh.pid.unwrap();
        kill(last, Signal::KILL);
    }
    let given_up = running
        .until_publisher("thrice", "given up", |view| view.child.as_ref().is_some_and(|child| child.state == "gave-up"))
        .await;
    let child = given_up.child.unwrap();
    assert_eq!(child.starts, 3);
    assert!(child.last_end.starts_with("killed by signal 9"), "{child:?}");
    running.program.says("giving up").await;
    let told = receiver.until(1).await.remove(0).json();
    assert_eq!((told["kind"].as_str(), told["publisher"].as_str()), (Some("gave-up"), Some("thrice")), "{told}");
    assert!(told["summary"].as_str().unwrap().contains("more than 2 times"), "{told}");
}
