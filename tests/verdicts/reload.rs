//! SIGHUP on a running monitor: each part of the configuration takes its new settings, and what did not
//! change goes on as it was.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails its test")]

use crate::support;
use std::net::TcpListener;

use heartwatch_adapters::monitor::Monitor;
use heartwatch_domain::verdict::Verdict;
use rustix::process::Signal;
use support::heartwatch::{PATIENCE, Program, children_of, command, fixture};
use support::influxd::Influxd;
use support::mosquitto::Mosquitto;
use support::{eventually, free_port};
use tempfile::TempDir;

/// A monitor whose whole configuration is in its file.
struct Configured {
    program: Program,
    directory: TempDir,
}

impl Configured {
    async fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("heartwatch.toml"), config).unwrap();
        let mut command = command(directory.path());
        command.arg("run");
        let program = Program::start(command);
        program.says("heartwatch runs").await;
        Self { program, directory }
    }

    /// Gives it another configuration, and returns when it has said this, once more than before.
    async fn reload(&self, config: &str, says: &str) {
        let said = || self.program.stderr().lines().filter(|line| line.contains(says)).count();
        let before = said();
        std::fs::write(self.directory.path().join("heartwatch.toml"), config).unwrap();
        self.program.signal(Signal::HUP);
        eventually(&format!("it says '{says}'"), PATIENCE, async || said() > before).await;
    }
}

/// The top of a file: nothing of it is in the way of another test.
fn top(broker: &str, web: u16) -> String {
    let csv = fixture("light-1.csv");
    format!(
        "[mqtt]\n{broker}\n[web]\nlisten = '127.0.0.1:{web}'\n[watch]\ndeadline = '2s'\n\
         [[publisher]]\nid = 'light'\ncsv = '{}'\ninterval = '50ms'\n",
        csv.display()
    )
}

fn at(port: u16) -> Monitor {
    Monitor::at(format!("http://127.0.0.1:{port}").parse().unwrap()).unwrap()
}

/// The verdict and what is stored of our one publisher; none while nobody answers.
async fn light(port: u16) -> Option<(Verdict, u64)> {
    let status = at(port).status().await.ok()?;
    let light = status.publishers.iter().find(|publisher| publisher.id.as_str() == "light")?;
    Some((light.verdict, light.ledger.stored))
}

async fn until_stored_beyond(port: u16, rows: u64) -> u64 {
    let mut stored = 0;
    let more = async || {
        let Some((verdict, now)) = light(port).await else { return false };
        stored = now;
        verdict == Verdict::Alive && now > rows
    };
    eventually("it is alive and its rows are stored", PATIENCE, more).await;
    stored
}

/// How often clients of this name have connected, in mosquitto's own words.
fn connections(broker: &Mosquitto, client: &str) -> usize {
    let log = broker.log();
    let connected = log.lines().filter(|line| line.contains("New client connected"));
    connected.filter(|line| line.split(" as ").nth(1).is_some_and(|name| name.starts_with(client))).count()
}

#[tokio::test]
async fn the_rows_go_to_another_database_and_no_connection_is_lost_for_that() {
    let Some(broker) = Mosquitto::start().await else { return };
    let (Some(first), Some(second)) = (Influxd::start().await, Influxd::start().await) else { return };
    let web = free_port();
    let top = top(&format!("url = '{}'", broker.url()), web);
    let with = |influxd: &Influxd| format!("{top}[influx]\nurl = '{}'\nflush_interval = '100ms'\n", influxd.url());
    let monitor = Configured::start(&top).await;
    until_stored_beyond(web, 5).await;

    monitor.reload(&with(&first), "configuration applied change=[influx]").await;
    let arrive = async |influxd: &Influxd| influxd.count("heartwatch", "light", "value").await > 10;
    eventually("rows in the first database", PATIENCE, async || arrive(&first).await).await;
    monitor.reload(&with(&second), "configuration applied change=[influx]").await;
    eventually("rows in the second database", PATIENCE, async || arrive(&second).await).await;
    let account = at(web).ledger().await.unwrap();
    assert_eq!(account.sinks.len(), 1);
    assert!(account.accounts.iter().all(|line| line.account.lost == 0), "{account:?}");
    assert_eq!(connections(&broker, "heartwatch-monitor-"), 1, "the connection to the broker has lasted");
    assert_eq!(connections(&broker, "heartwatch-publisher-light"), 1);

    monitor.reload(&top, "configuration applied change=[influx]").await;
    assert_eq!(at(web).ledger().await.unwrap().sinks[0].name, "embedded");
    let before = light(web).await.unwrap().1;
    until_stored_beyond(web, before + 5).await;
}

#[tokio::test]
async fn the_page_moves_and_stays_where_it_is_when_the_new_place_is_taken() {
    let (old, new) = (free_port(), free_port());
    let broker = "listen = '127.0.0.1:0'";
    let monitor = Configured::start(&top(broker, old)).await;
    until_stored_beyond(old, 5).await;
    let children = children_of(monitor.program.pid());

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    monitor.reload(&top(broker, taken_port), "not applied change=[web]").await;
    assert!(light(old).await.is_some(), "the page is where it was: {}", monitor.program.stderr());

    monitor.reload(&top(broker, new), "configuration applied change=[web]").await;
    assert!(light(new).await.is_some());
    assert!(light(old).await.is_none(), "nobody answers at the old place");
    assert_eq!(children_of(monitor.program.pid()), children, "the publisher has noticed nothing");

    // A token on the same address: whoever has none is sent away from now on.
    std::fs::write(monitor.directory.path().join("token"), "a-long-enough-token-for-a-test\n").unwrap();
    let secret = top(broker, new).replace("[watch]", "token_file = 'token'\n[watch]");
    monitor.reload(&secret, "configuration applied change=[web]").await;
    let refused = at(new).status().await.unwrap_err().to_string();
    assert!(refused.contains("401") || refused.contains("token"), "{refused}");
}

#[tokio::test]
async fn the_connection_moves_to_another_broker_with_the_publishers_and_loses_nothing() {
    let (Some(first), Some(second)) = (Mosquitto::start().await, Mosquitto::start().await) else { return };
    let web = free_port();
    let monitor = Configured::start(&top(&format!("url = '{}'", first.url()), web)).await;
    let stored = until_stored_beyond(web, 20).await;
    let moved = top(&format!("url = '{}'\nprefix = 'plant'", second.url()), web);
    monitor.reload(&moved, "configuration applied change=[mqtt]").await;
    until_stored_beyond(web, stored + 20).await;
    let ledger = at(web).ledger().await.unwrap();
    let lives: Vec<_> = ledger.accounts.iter().filter(|line| line.publisher.as_str() == "light").collect();
    assert_eq!(lives.len(), 2, "{lives:?}");
    assert!(lives.iter().all(|life| life.account.lost == 0 && life.account.missing == 0), "{lives:?}");
    assert_eq!(connections(&first, "heartwatch-monitor-"), 1);
    assert!(connections(&second, "heartwatch-monitor-") >= 1);
    let changes = at(web).changes(0).await.unwrap();
    assert!(
        changes.iter().all(|change| !matches!(change.to, Verdict::Dead | Verdict::Silent | Verdict::Hung)),
        "{changes:?}"
    );
}

#[tokio::test]
async fn what_everything_hangs_on_starts_the_monitor_again_under_its_pid() {
    let web = free_port();
    let monitor = Configured::start(&top("listen = '127.0.0.1:0'", web)).await;
    let pid = monitor.program.pid();
    until_stored_beyond(web, 20).await;

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let impossible = top(&format!("listen = '{}'", taken.local_addr().unwrap()), web);
    monitor.reload(&impossible, "the new configuration cannot work, the old one stays").await;
    assert!(light(web).await.is_some());

    let port = free_port();
    monitor.reload(&top(&format!("listen = '127.0.0.1:{port}'"), web), "heartwatch runs").await;
    assert_eq!(monitor.program.pid(), pid);
    assert!(!support::heartwatch::has_ended(pid));
    until_stored_beyond(web, 20).await;
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), "the broker listens at its new place");
    let ledger = at(web).ledger().await.unwrap();
    assert!(ledger.accounts.iter().all(|line| line.account.lost == 0 && line.account.missing == 0), "{ledger:?}");
}

#[tokio::test]
async fn the_log_and_the_limits_change_while_it_runs() {
    let web = free_port();
    let top = top("listen = '127.0.0.1:0'", web);
    let mut monitor = Configured::start(&top).await;
    until_stored_beyond(web, 5).await;
    monitor.reload(&format!("{top}[buffer]\nbytes_max = '2GiB'\n"), "configuration applied change=[buffer]").await;
    assert!(!monitor.program.stderr().contains("DEBUG"), "{}", monitor.program.stderr());
    let debug = format!("{top}[buffer]\nbytes_max = '2GiB'\n[log]\nlevel = 'debug'\n");
    monitor.reload(&debug, "configuration applied change=[log]").await;
    // Each part that stops is said at this level.
    monitor.program.signal(Signal::TERM);
    monitor.program.exit(PATIENCE).await;
    assert!(monitor.program.stderr().contains("DEBUG"), "{}", monitor.program.stderr());
}
