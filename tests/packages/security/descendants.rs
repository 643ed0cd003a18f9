//! What a program starts and loses from its group and its parent ends with its publisher.

use std::path::Path;

use rustix::process::{Pid, Signal, test_kill_process};

use crate::support::eventually;
use crate::support::heartwatch::{PATIENCE, RunOptions, Running, all_ended, children_of, fixture, has_ended, kill};

/// A program with three processes that have left its group and, twice, their parent: with `setsid`, as a daemon does it, and
/// one that has cleared its environment. Files name their PIDs.
fn program(directory: &Path) -> String {
    let script = directory.join("program.sh");
    let text = format!(
        "setsid sh -c 'echo $$ > pid-1; exec sleep 601' &\n\
         sh -c 'setsid sh -c \"trap : TERM; echo \\$\\$ > pid-2; while :; do sleep 0.1; done\" &' &\n\
         env -i PATH=\"$PATH\" sh -c 'setsid sh -c \"echo \\$\\$ > pid-3; exec sleep 602\" &' &\n\
         exec {} --interval 0.1\n",
        fixture("sensor.sh").display()
    );
    std::fs::write(&script, text).unwrap();
    "[[publisher]]\nid = 'daemons'\nexec = 'sh program.sh'\n".to_owned()
}

async fn pids(directory: &Path) -> Vec<u32> {
    let read = || -> Vec<u32> {
        let files = ["pid-1", "pid-2", "pid-3"].map(|file| std::fs::read_to_string(directory.join(file)));
        files.into_iter().flatten().filter_map(|pid| pid.trim().parse().ok()).collect()
    };
    eventually("the program has started three processes", PATIENCE, async || read().len() == 3).await;
    read()
}

fn exists(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()).is_ok()
}

async fn start(more: &str) -> (Running, Vec<u32>) {
    let directory = tempfile::tempdir().unwrap();
    let config = format!("grace = '5s'\n{}{more}", program(directory.path()));
    let monitor = Running::start_in(directory, RunOptions { config, ..RunOptions::default() }).await;
    let pids = pids(monitor.directory()).await;
    (monitor, pids)
}

#[tokio::test]
async fn a_monitor_that_ends_leaves_nothing_of_its_programs() {
    for more in ["", "run = 'in-process'\n"] {
        let (mut monitor, pids) = start(more).await;
        assert!(pids.iter().all(|pid| !has_ended(*pid)), "{pids:?}");
        monitor.program.signal(Signal::TERM);
        assert!(monitor.program.exit(PATIENCE).await.success());
        all_ended(&pids).await;
    }
}

#[tokio::test]
async fn a_publisher_that_is_killed_takes_along_what_its_program_has_started() {
    let (mut monitor, pids) = start("restart_backoff_min = '30s'\nrestart_backoff_max = '30s'\n").await;
    let publisher = children_of(monitor.program.pid());
    assert_eq!(publisher.len(), 1, "{publisher:?}");
    kill(publisher[0], Signal::KILL);
    // the one that has cleared its environment is known as a descendant of the monitor only
    all_ended(&pids[..2]).await;
    monitor.program.says("what the child had left behind was killed").await;
    monitor.program.signal(Signal::TERM);
    assert!(monitor.program.exit(PATIENCE).await.success());
    all_ended(&pids).await;
}

#[tokio::test]
async fn orphans_that_end_by_themselves_are_collected() {
    let (mut monitor, pids) = start("run = 'in-process'\n").await;
    // the first one is no orphan: its parent, the program, collects it or not
    for pid in &pids[1..] {
        kill(*pid, Signal::KILL);
    }
    // a zombie still exists for kill(2)
    eventually("no zombie is left", PATIENCE, async || !pids[1..].iter().any(|pid| exists(*pid))).await;
    monitor.program.signal(Signal::TERM);
    assert!(monitor.program.exit(PATIENCE).await.success());
}
