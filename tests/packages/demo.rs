//! `heartwatch demo` as a user runs it: the exit code, the story, and what it leaves behind.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails its test")]

use crate::support;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::eventually;
use support::heartwatch::{Finished, PATIENCE, Program, all_ended, children_of, command, finished};
use tempfile::TempDir;

/// Time for a demo with a deadline of 2 s on a busy machine.
const DEMO_TIMEOUT: Duration = Duration::from_secs(60);

async fn demo(arguments: &[&str]) -> Finished {
    let directory = tempfile::tempdir().unwrap();
    let mut all = vec!["demo"];
    all.extend(arguments);
    all.extend(["--deadline", "2s", "--web", "off"]);
    finished(directory.path(), &all, DEMO_TIMEOUT).await
}

/// The rows of the table at the end, as (publisher, verdict).
fn table(stdout: &str) -> Vec<(String, String)> {
    let rows = stdout.lines().skip_while(|line| !line.starts_with("PUBLISHER")).skip(1).take_while(|line| {
        let first = line.split_whitespace().next();
        first.is_some_and(|first| first.starts_with("light-"))
    });
    rows.map(|row| {
        let mut words = row.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    })
    .collect()
}

fn rows(of: [(&str, &str); 2]) -> Vec<(String, String)> {
    of.into_iter().map(|(publisher, verdict)| (publisher.to_owned(), verdict.to_owned())).collect()
}

#[tokio::test]
async fn scenario_1_both_are_alive() {
    let demo = demo(&["1"]).await;
    assert_eq!(demo.code, Some(0), "{demo:?}");
    assert_eq!(table(&demo.stdout), rows([("light-1", "alive"), ("light-2", "alive")]), "{}", demo.stdout);
    assert!(demo.stdout.contains("Scenario 1 is as it should be."), "{}", demo.stdout);
    assert!(!demo.stdout.contains("→ dead"), "{}", demo.stdout);
    assert_eq!(demo.stderr, "", "a demo that goes well has nothing to log");
    assert!(!demo.stdout.contains('\u{1b}'), "no colours in a pipe");
}

#[tokio::test]
async fn scenario_2_the_killed_one_is_dead_and_the_other_alive() {
    let demo = demo(&["2"]).await;
    assert_eq!(demo.code, Some(0), "{demo:?}");
    assert_eq!(table(&demo.stdout), rows([("light-1", "dead"), ("light-2", "alive")]), "{}", demo.stdout);
    assert!(demo.stdout.contains("kill -9"), "{}", demo.stdout);
    let death = demo.stdout.lines().find(|line| line.contains("→ dead")).unwrap();
    assert!(death.contains("light-1") && death.contains("PID"), "{death}");
    // Nobody has doubted the survivor.
    let of_survivor: Vec<_> =
        demo.stdout.lines().filter(|line| line.contains("light-2") && line.contains('→')).collect();
    assert!(of_survivor.iter().all(|line| line.contains("→ alive") || line.contains("→ late")), "{of_survivor:#?}");
}

#[tokio::test]
async fn scenario_3_both_are_dead() {
    let demo = demo(&["3"]).await;
    assert_eq!(demo.code, Some(0), "{demo:?}");
    assert_eq!(table(&demo.stdout), rows([("light-1", "dead"), ("light-2", "dead")]), "{}", demo.stdout);
}

#[tokio::test]
async fn json_is_one_object_a_line_with_the_public_names() {
    let demo = demo(&["2", "--json"]).await;
    assert_eq!(demo.code, Some(0), "{demo:?}");
    let lines: Vec<Value> = demo.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_kind = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();

    let changes = of_kind("change");
    assert!(changes.len() >= 3, "{changes:?}");
    let mut epoch = 0;
    for change in &changes {
        let change = &change["change"];
        for key in ["publisher", "host", "from", "to", "at", "decided_at", "trigger", "summary"] {
            assert!(change[key].is_string(), "{key} in {change}");
        }
        assert!(change["epoch"].as_u64().unwrap() > epoch, "{change}");
        epoch = change["epoch"].as_u64().unwrap();
        let evidence = change["evidence"].as_array().unwrap();
        assert!(!evidence.is_empty(), "{change}");
        assert!(evidence.iter().all(|fact| fact["kind"].is_string() && fact["detail"].is_string()), "{change}");
    }
    let act = of_kind("act")[0];
    let death = changes.iter().map(|line| &line["change"]).find(|change| change["to"] == "dead").unwrap();
    assert_eq!(death["publisher"], act["publisher"]);
    assert!(death["summary"].as_str().unwrap().contains(&format!("PID {}", act["pid"])), "{death}");

    let status = &of_kind("status")[0]["status"];
    for publisher in status["publishers"].as_array().unwrap() {
        for key in ["id", "host", "pid", "verdict", "since", "last_seen", "deadline_ms", "ledger"] {
            assert!(!publisher[key].is_null(), "{key} in {publisher}");
        }
        for key in ["produced", "received", "stored", "buffered", "duplicates", "missing", "lost"] {
            assert!(publisher["ledger"][key].is_u64(), "{key} in {publisher}");
        }
    }
    let last = lines.last().unwrap();
    assert_eq!((&last["kind"], &last["scenario"], &last["passed"]), (&"result".into(), &2.into(), &true.into()));
}

#[tokio::test]
async fn a_kept_data_directory_can_be_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("kept").display().to_string();
    for scenario in ["3", "1"] {
        let again = demo(&[scenario, "--data-dir", &data_dir]).await;
        assert_eq!(again.code, Some(0), "{again:?}");
    }
    assert!(Path::new(&data_dir).join("journal.sqlite").exists());
}

/// A demo that plays (both are known to be alive), with an own directory for temporary files.
async fn playing(more: &[&str]) -> (Program, TempDir, Vec<u32>) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.args(["demo", "1", "--deadline", "60s", "--web", "off"]).args(more).env("TMPDIR", directory.path());
    let demo = Program::start(command);
    eventually("the story has begun", PATIENCE, async || demo.stdout().matches("→ alive").count() == 2).await;
    let children = children_of(demo.pid());
    assert_eq!(children.len(), 2, "{}", demo.stdout());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "its temporary directory");
    (demo, directory, children)
}

#[tokio::test]
async fn an_interrupted_demo_cleans_up_and_fails() {
    for signal in [Signal::INT, Signal::TERM] {
        let (mut demo, directory, children) = playing(&[]).await;
        demo.signal(signal);
        let status = demo.exit(Duration::from_secs(10)).await;
        assert_eq!((status.code(), status.signal()), (Some(1), None), "{}", demo.stderr());
        all_ended(&children).await;
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it has removed its directory");
        eventually("it says why it ended", PATIENCE, async || demo.stdout().contains("Stopped by a signal")).await;
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_demo_at_once() {
    // A database that accepts connections and never answers keeps the first end waiting.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", mute.local_addr().unwrap());
    let (mut demo, _directory, children) = playing(&["--influx-url", &url]).await;
    demo.signal(Signal::INT);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(demo.runs(), "it waits for the database");
    demo.signal(Signal::INT);
    assert_eq!(demo.exit(Duration::from_secs(2)).await.code(), Some(1));
    all_ended(&children).await;
}

#[tokio::test]
async fn a_killed_demo_takes_its_publishers_with_it() {
    let (mut demo, _directory, children) = playing(&[]).await;
    demo.kill();
    all_ended(&children).await;
}

#[tokio::test]
async fn a_reader_that_goes_away_does_not_change_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.args(["demo", "1", "--deadline", "1s", "--web", "off"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_taken_page_port_is_an_error_only_when_it_was_asked_for() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let asked = finished(directory.path(), &["demo", "1", "--web", &address], DEMO_TIMEOUT).await;
    assert_eq!(asked.code, Some(1), "{asked:?}");
    assert!(asked.stderr.contains(&address) && asked.stderr.contains("--web off"), "{}", asked.stderr);
}
