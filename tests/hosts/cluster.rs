//! `heartwatch demo cluster` as a user runs it: real etcd, Kafka, server, agents and analysis, and what it leaves behind.
#![cfg(all(feature = "hosts", feature = "kafka"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong in a helper fails its test")]

use crate::support;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::heartwatch::{PATIENCE, Program, all_ended, command};
use support::{eventually, installed, kafka};

/// The story waits for a sample of 10 s and for the start of Kafka; a busy machine takes longer.
const STORY: Duration = Duration::from_secs(300);

/// The demo in this directory, where its temporary one will be; `None` (already said) where a part is not installed.
fn demo(directory: &Path) -> Option<Program> {
    if !installed("/usr/bin/etcd") {
        return None;
    }
    let libs = kafka::files()?.libs;
    let mut command = command(directory);
    command.args(["demo", "cluster", "--json"]).env("HEARTWATCH_KAFKA_LIBS", libs).env("TMPDIR", directory);
    Some(Program::start(command))
}

fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn pids(lines: &[Value]) -> Vec<u32> {
    lines.iter().filter_map(|line| line["pid"].as_u64()).map(|pid| u32::try_from(pid).unwrap()).collect()
}

fn is_empty(directory: &Path) -> bool {
    // Java keeps a folder of its own in the directory for temporary files.
    let names = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with("heartwatch")).count() == 0
}

#[tokio::test]
async fn the_story_of_a_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut demo) = demo(directory.path()) else { return };
    let status = demo.exit(STORY).await;
    let stdout = demo.stdout();
    assert_eq!(status.code(), Some(0), "{stdout}");
    let lines = lines(&stdout);
    let steps: Vec<&str> = lines.iter().filter_map(|line| line["step"].as_str()).collect();
    let story = [
        "parts-up",
        "agents-heard",
        "default-interval",
        "worker-1-interval",
        "worker-2-interval",
        "command-answered",
        "worker-dead",
        "lease-expired",
        "all-stopped",
    ];
    assert_eq!(steps, story, "{stdout}");
    let seen = |step: &str| lines.iter().find(|line| line["step"] == step).unwrap()["seen"].to_string();
    let dead = lines.iter().find(|line| line["name"] == "worker-2").unwrap()["pid"].as_u64().unwrap();
    assert!(seen("worker-dead").contains(&format!("PID {dead}")), "{stdout}");
    let last = lines.last().unwrap();
    assert_eq!((&last["kind"], &last["passed"]), (&Value::from("result"), &Value::from(true)));
    let pids = pids(&lines);
    assert_eq!(pids.len(), 6, "{stdout}");
    all_ended(&pids).await;
    assert!(is_empty(directory.path()), "it has removed its directory");
}

#[tokio::test]
async fn an_interrupted_cluster_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut demo) = demo(directory.path()) else { return };
    eventually("both agents run", STORY, async || demo.stdout().contains("\"worker-2\"")).await;
    demo.signal(Signal::TERM);
    let status = demo.exit(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "{}", demo.stdout());
    all_ended(&pids(&lines(&demo.stdout()))).await;
    assert!(is_empty(directory.path()), "it has removed its directory");
    let last = lines(&demo.stdout()).pop().unwrap();
    assert!(last["reasons"][0].to_string().contains("signal"), "{last}");
}

#[tokio::test]
async fn what_is_missing_is_said_with_how_to_get_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.args(["demo", "cluster"]).env("HEARTWATCH_KAFKA_LIBS", directory.path());
    let mut demo = Program::start(command);
    assert_eq!(demo.exit(PATIENCE).await.code(), Some(1));
    eventually("it says so", PATIENCE, async || demo.stderr().contains("make kafka")).await;
}
