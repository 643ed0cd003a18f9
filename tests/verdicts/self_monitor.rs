//! Who watches the watchman: systemd's protocol on a real socket, a URL that is pinged, and another
//! heartwatch. Actors that are stuck are in `tests/verdicts/supervision.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use heartwatch_domain::verdict::Verdict;
use rustix::process::Signal;
use support::eventually;
use support::heartwatch::{PATIENCE, RunOptions, Running};
use support::receiver::Receiver;

/// What stands in for systemd: its socket, and what has come over it.
struct FakeServiceManager {
    socket: UnixDatagram,
    said: Vec<String>,
}

impl FakeServiceManager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, said: Vec::new() }
    }

    fn hear(&mut self) {
        let mut buffer = [0; 4_096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }

    fn count(&mut self, line: &str) -> usize {
        self.hear();
        self.said.iter().filter(|message| message.lines().any(|said| said == line)).count()
    }

    async fn until(&mut self, line: &str, count: usize) {
        let what = format!("systemd has heard {count} × {line}");
        eventually(&what, PATIENCE, async || self.count(line) >= count).await;
    }
}

#[tokio::test]
async fn systemd_hears_that_it_is_ready_and_well_and_that_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify.sock");
    let mut manager = FakeServiceManager::listen(&socket);
    let environment = vec![
        ("NOTIFY_SOCKET".to_owned(), socket.display().to_string()),
        ("WATCHDOG_USEC".to_owned(), "400000".to_owned()),
    ];
    let mut running = Running::start_in(directory, RunOptions { environment, ..RunOptions::default() }).await;
    manager.until("READY=1", 1).await;
    manager.until("WATCHDOG=1", 5).await;

    // A monitor that stands still says nothing, and says it again afterwards.
    running.program.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = manager.count("WATCHDOG=1");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(manager.count("WATCHDOG=1"), before);
    running.program.signal(Signal::CONT);
    manager.until("WATCHDOG=1", before + 3).await;

    running.program.signal(Signal::HUP);
    manager.until("RELOADING=1", 1).await;
    manager.until("READY=1", 2).await;
    assert!(manager.said.iter().any(|message| message.contains("RELOADING=1\nMONOTONIC_USEC=")), "{:?}", manager.said);
    assert_eq!(manager.count("STOPPING=1"), 0);
    running.program.signal(Signal::TERM);
    manager.until("STOPPING=1", 1).await;
    assert_eq!(running.program.exit(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn a_url_is_pinged_for_as_long_as_the_monitor_hears_its_broker() {
    let receiver = Receiver::start(&[]);
    let monitor = format!("[monitor]\nping_url = '{}'\nping_interval = '200ms'\n", receiver.url);
    let running = Running::start(RunOptions { config: monitor.clone(), ..RunOptions::default() }).await;
    let pings = receiver.until(3).await;
    assert!(pings.iter().all(|ping| ping.method == "GET"));
    let status = running.status().await.monitor;
    assert!(status.healthy && status.pings >= 1, "{status:?}");
    assert!(status.actors.iter().any(|actor| actor.actor == "watchdog"), "{status:?}");

    let nobody = format!("mqtt://127.0.0.1:{}", support::free_port());
    let deaf_receiver = Receiver::start(&[]);
    let config = monitor.replace(&receiver.url, &deaf_receiver.url);
    let deaf = Running::start(RunOptions { config, mqtt: Some(nobody), ..RunOptions::default() }).await;
    let says = async || deaf.status().await.monitor.ping_error.contains("doubts itself");
    eventually("it says why it does not ping", PATIENCE, says).await;
    assert_eq!(deaf_receiver.received().len(), 0);
}

#[tokio::test]
async fn another_heartwatch_watches_it_and_it_does_not_watch_itself() {
    let first_config = "[monitor]\nid = 'first'\nheartbeat = '200ms'\n".to_owned();
    let first = Running::start(RunOptions { config: first_config, ..RunOptions::default() }).await;
    let second_config = "[monitor]\nid = 'second'\nheartbeat = '200ms'\n".to_owned();
    let options = || RunOptions {
        config: second_config.clone(),
        mqtt: Some(first.mqtt_url().to_owned()),
        ..RunOptions::default()
    };
    let mut second = Running::start(options()).await;
    let seen = first.until("second", Verdict::Alive).await;
    assert_eq!(seen.pid, Some(second.program.pid()));
    second.until("first", Verdict::Alive).await;
    assert!(first.publisher("first").await.is_none() && second.publisher("second").await.is_none());
    assert_eq!(first.status().await.subscriber.malformed, 0);

    second.program.kill();
    first.until("second", Verdict::Dead).await;
    let mut third = Running::start(options()).await;
    first.until("second", Verdict::Alive).await;
    third.program.signal(Signal::TERM);
    assert_eq!(third.program.exit(PATIENCE).await.code(), Some(0));
    first.until("second", Verdict::Ended).await;
}

#[tokio::test]
async fn every_queue_says_how_full_it_is_and_how_full_it_may_be() {
    let running = Running::start(RunOptions::default()).await;
    let metrics = reqwest::get(format!("{}/metrics", running.page())).await.unwrap().text().await.unwrap();
    let value = |name: &str| {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}\n{metrics}"));
        line.trim().parse::<u64>().unwrap()
    };
    for queue in ["journal", "mqtt to send", "mqtt to take"] {
        let entries = value(&format!("heartwatch_queue_entries{{queue=\"{queue}\"}}"));
        let entries_max = value(&format!("heartwatch_queue_entries_max{{queue=\"{queue}\"}}"));
        assert!(entries <= entries_max && entries_max > 0, "{queue}: {entries} of {entries_max}");
    }
    for actor in ["watchdog", "subscriber", "influx writer", "notifier", "alarms"] {
        value(&format!("heartwatch_actor_waiting_messages{{actor=\"{actor}\"}}"));
    }
    // Prometheus takes no name twice with the same labels.
    let mut names: Vec<_> =
        metrics.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' ')).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup_by_key(|(name, _)| *name);
    assert_eq!(names.len(), all);
}
