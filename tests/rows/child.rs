//! The child actor with real programs and signals.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails its test")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use heartwatch::actors::child::{Child, ChildConfig};
use heartwatch::messages::child::{AskChild, ChildSignal, Signal};
use heartwatch::messages::drain::Drain;
use heartwatch_adapters::process::HostProcesses;
use heartwatch_domain::process::{ProcessIdentity, ProcessState};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::restart::{RestartLimits, RestartPolicy};
use heartwatch_domain::status::{ChildState, ChildStatus};
use heartwatch_ports::ProcessTable;
use heartwatch_system::clock::Clock;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(10);

fn table() -> Arc<HostProcesses> {
    Arc::new(HostProcesses::new(Clock::start()))
}

fn shell(script: &str) -> ChildConfig {
    let mut config = ChildConfig::new(PublisherId::parse("light-1").unwrap(), "sh");
    config.arguments = vec!["-c".into(), script.into()];
    config.limits = RestartLimits {
        restarts_max: 3,
        period: Duration::from_secs(60),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(50),
    };
    config
}

fn start(config: ChildConfig) -> Addr<Child> {
    Child::new(config, Clock::start(), table()).start()
}

/// Asks until the status is as wanted.
async fn until(child: &Addr<Child>, what: &str, wanted: impl Fn(&ChildStatus) -> bool) -> ChildStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = child.send(AskChild).await.unwrap();
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "not {what}: {status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn running(child: &Addr<Child>) -> ProcessIdentity {
    let status = until(child, "running", |status| status.identity.is_some()).await;
    status.identity.unwrap()
}

async fn becomes(identity: &ProcessIdentity, expected: ProcessState) {
    let deadline = Instant::now() + PATIENCE;
    while table().look(identity).state != expected {
        assert!(Instant::now() < deadline, "{identity:?} is {:?}, not {expected:?}", table().look(identity).state);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix::test]
async fn a_program_that_ends_in_order_is_left_alone() {
    let child = start(shell("exit 0"));
    let status = until(&child, "ended", |status| status.state == ChildState::Ended).await;
    let end = status.last_end.unwrap();
    assert_eq!((status.starts, end.code, end.how.as_str()), (1, Some(0), "exit code 0"));
}

#[actix::test]
async fn a_program_that_is_killed_is_started_again_with_a_new_identity() {
    let child = start(shell("exec sleep 600"));
    let first = running(&child).await;
    assert_eq!(child.send(Signal(ChildSignal::Kill)).await.unwrap(), Some(first.pid));
    let again = |status: &ChildStatus| status.starts == 2 && status.identity.is_some();
    let status = until(&child, "running again", again).await;
    assert_ne!(status.identity, Some(first));
    assert_eq!(status.last_end.unwrap().how, "killed by signal 9");
}

#[actix::test]
async fn the_policy_never_leaves_a_killed_program_dead() {
    let child = start(ChildConfig { policy: RestartPolicy::Never, ..shell("exec sleep 600") });
    let identity = running(&child).await;
    child.send(Signal(ChildSignal::Kill)).await.unwrap();
    let status = until(&child, "ended", |status| status.state == ChildState::Ended).await;
    assert_eq!((status.starts, status.last_end.unwrap().signal), (1, Some(9)));
    assert_eq!(table().look(&identity).state, ProcessState::Gone, "an end that is told is collected");
    assert_eq!(child.send(Signal(ChildSignal::Kill)).await.unwrap(), None);
}

#[actix::test]
async fn a_program_that_keeps_failing_is_given_up() {
    let child = start(shell("exit 3"));
    let status = until(&child, "given up", |status| status.state == ChildState::GaveUp).await;
    assert_eq!((status.starts, status.last_end.unwrap().how.as_str()), (4, "exit code 3"));
}

#[actix::test]
async fn a_program_that_is_not_there_is_named() {
    let config = ChildConfig { program: "/nowhere/heartwatch".into(), ..shell("") };
    let status = until(&start(config), "given up", |status| status.state == ChildState::GaveUp).await;
    let how = status.last_end.unwrap().how;
    assert!(how.contains("/nowhere/heartwatch cannot be started: No such file"), "{how}");
}

#[actix::test]
async fn a_drain_ends_the_program_in_order_and_for_good() {
    let child = start(shell("trap 'exit 0' TERM; while :; do sleep 0.01; done"));
    let identity = running(&child).await;
    // The shell may not have set its trap yet: then SIGTERM itself ends it, which is as good.
    let begin = Instant::now();
    child.send(Drain { deadline: begin + PATIENCE }).await.unwrap();
    assert!(begin.elapsed() < PATIENCE / 2, "it did not wait for the deadline");
    assert_eq!(table().look(&identity).state, ProcessState::Gone);
    let status = child.send(AskChild).await.unwrap();
    assert_eq!((status.state, status.starts), (ChildState::Ended, 1), "it is not started again");
    child.send(Drain { deadline: begin + PATIENCE }).await.unwrap();
}

#[actix::test]
async fn a_drain_kills_a_stubborn_program_and_what_it_started_by_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let script = format!("trap '' TERM; sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", ready.display());
    let child = start(shell(&script));
    let identity = running(&child).await;
    let deadline = Instant::now() + PATIENCE;
    while !ready.exists() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let grandchild = std::fs::read_to_string(&ready).unwrap().trim().parse().unwrap();
    let grandchild = table().identity(grandchild).unwrap();
    let deadline = Instant::now() + Duration::from_secs(1);
    let drained = tokio::time::timeout(PATIENCE, child.send(Drain { deadline })).await;
    drained.expect("the drain ends").unwrap();
    assert!(Instant::now() <= deadline, "late by {:?}", deadline.elapsed());
    assert_eq!(table().look(&identity).state, ProcessState::Gone);
    let status = child.send(AskChild).await.unwrap();
    assert_eq!(status.last_end.unwrap().signal, Some(9));
    let deadline = Instant::now() + PATIENCE;
    // In a container without an init the orphan may stay a zombie.
    while !matches!(table().look(&grandchild).state, ProcessState::Gone | ProcessState::Zombie) {
        assert!(Instant::now() < deadline, "the grandchild lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix::test]
async fn a_drain_ends_a_program_that_stands_still() {
    let child = start(shell("exec sleep 600"));
    let identity = running(&child).await;
    child.send(Signal(ChildSignal::Stop)).await.unwrap();
    becomes(&identity, ProcessState::Stopped).await;
    let begin = Instant::now();
    child.send(Drain { deadline: begin + PATIENCE }).await.unwrap();
    assert!(begin.elapsed() < PATIENCE / 2);
}

#[actix::test]
async fn a_drain_while_the_next_start_waits_cancels_it() {
    let mut config = shell("exit 1");
    config.limits.backoff_min = Duration::from_millis(200);
    config.limits.backoff_max = Duration::from_millis(200);
    let child = start(config);
    until(&child, "waiting", |status| status.state == ChildState::Waiting && status.last_end.is_some()).await;
    child.send(Drain { deadline: Instant::now() + PATIENCE }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let status = child.send(AskChild).await.unwrap();
    assert_eq!((status.state, status.starts), (ChildState::Ended, 1));
}

#[actix::test]
async fn a_flood_of_output_is_bounded_and_does_not_block_the_program() {
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo done >&2; exit 0";
    let child = start(ChildConfig { output_line_bytes_max: 1_000, ..shell(script) });
    let status = until(&child, "ended", |status| status.state == ChildState::Ended && status.lines_cut == 1).await;
    assert_eq!(status.last_end.unwrap().code, Some(0));
}

/// Set in a process that runs one test of this file as the parent that is to be killed.
const PARENT: &str = "HEARTWATCH_TEST_PARENT";

#[actix::test]
async fn a_child_does_not_outlive_a_parent_that_is_killed() {
    if std::env::var_os(PARENT).is_some() {
        let child = start(shell("trap '' TERM HUP; while :; do sleep 1; done"));
        let identity = running(&child).await;
        println!("child {}", identity.pid);
        tokio::time::sleep(Duration::from_secs(600)).await;
        return;
    }
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::a_child_does_not_outlive_a_parent_that_is_killed", "--nocapture"])
        .env(PARENT, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("child ")?.1.to_owned()));
    let pid = said.expect("the parent says its child's PID").parse().unwrap();
    let identity = table().identity(pid).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    let deadline = Instant::now() + PATIENCE;
    // In a container without an init the orphan may stay a zombie.
    while !matches!(table().look(&identity).state, ProcessState::Gone | ProcessState::Zombie) {
        assert!(Instant::now() < deadline, "the child outlived its parent: {:?}", table().look(&identity));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
