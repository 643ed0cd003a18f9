//! Devices and other writers that number nothing: each of their messages is a row of its own, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heartwatch_domain::ledger::Account;
use heartwatch_system::clock::Clock;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::inputs::send;
use super::{ARRIVAL, DATABASE};
use crate::support::eventually;
use crate::support::heartwatch::{RunOptions, Running};
use crate::support::influxd::Influxd;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};

/// What the monitor says when its subscriptions are up: before, a broker keeps nothing for it.
const LISTENS: &str = "connected to the MQTT broker";

const DEVICES: &str = "\
[[foreign]]
topic = 'z/{device}'
publisher = 'z-{device}'
measurement = 'zigbee'
format = 'json'
[[foreign]]
topic = 'n/{publisher}'
measurement = 'numbers'
format = 'number'
[[foreign]]
topic = 'c/{publisher}'
measurement = 'cells'
format = 'csv'
[[foreign]]
topic = 'l/{publisher}'
format = 'line-protocol'
[[foreign]]
topic = 'collectd/{host}/{plugin}/{type}'
publisher = 'collectd-{host}'
format = 'collectd'
";

fn options(influxd: &Influxd, mqtt: Option<String>) -> RunOptions {
    let config = format!("[influx]\nurl = '{}'\nflush_interval = '100ms'\n{DEVICES}", influxd.url());
    RunOptions { mqtt, config, ..RunOptions::default() }
}

async fn started(influxd: &Influxd, mqtt: Option<String>) -> Running {
    let monitor = Running::start(options(influxd, mqtt)).await;
    monitor.program.says(LISTENS).await;
    monitor
}

async fn account(monitor: &Running, publisher: &str) -> Account {
    let ledger = monitor.ledger().await;
    assert!(ledger.balances, "it always balances: {ledger:?}");
    let lines = ledger.accounts.iter().filter(|line| line.publisher.as_str() == publisher);
    lines.fold(Account::default(), |sum, line| sum.plus(line.account))
}

/// Waits until so many rows of a publisher are stored and so many were copies, and nothing else of it is there.
async fn stored(monitor: &Running, publisher: &str, rows: u64, copies: u64) {
    eventually(&format!("{rows} rows of {publisher} are stored"), ARRIVAL, async || {
        let account = account(monitor, publisher).await;
        account.stored >= rows && account.duplicates >= copies && account.buffered == 0
    })
    .await;
    let Account { produced, stored, lost, duplicates, .. } = account(monitor, publisher).await;
    assert_eq!((produced, stored, lost, duplicates), (rows, rows, 0, copies), "{publisher}");
}

async fn every_message_is_a_row(mqtt: Option<String>) {
    let Some(influxd) = Influxd::start().await else { return };
    let mut monitor = started(&influxd, mqtt).await;
    let json: Vec<_> = (0..500).map(|v| ("z/burst", format!(r#"{{"v":{v}}}"#).into_bytes())).collect();
    let mut others = vec![
        ("z/two", br#"{"v":1}"#.to_vec()),
        ("z/two", br#"{"v":2}"#.to_vec()),
        // two rows a message, at one time of their own
        ("l/rows", b"steam p=1 1700000000000000000\nsteam p=2 1700000000000000000".to_vec()),
        ("l/rows", b"steam p=2 1700000000000000000\nsteam q=1 1700000000000000000".to_vec()),
        ("c/cells", b"1,2\n1,2".to_vec()),
    ];
    // the same content again is another message
    for _ in 0..20 {
        others.extend([("n/same", b"21.5".to_vec()), ("z/list", br#"[{"v":1},{"v":1}]"#.to_vec())]);
        others.push(("collectd/h/load/load", b"1700000000.000:0.5:0.4:0.3".to_vec()));
    }
    send(monitor.mqtt_url(), &json).await;
    send(monitor.mqtt_url(), &others).await;
    let expected = [("z-burst", 500), ("z-two", 2), ("rows", 4), ("cells", 2), ("same", 20), ("z-list", 40)];
    for (publisher, rows) in expected {
        stored(&monitor, publisher, rows, 0).await;
    }
    let points = async |publisher: &str, measurement: &str, field: &str| {
        let query = format!("SELECT count({field}) FROM {measurement} WHERE publisher = '{publisher}'");
        influxd.rows(DATABASE, &query).await.first().map_or(0, |row| row[1].as_u64().unwrap())
    };
    for (publisher, measurement, field, rows) in [
        ("z-burst", "zigbee", "v", 500),
        ("z-two", "zigbee", "v", 2),
        ("rows", "steam", "p", 3),
        ("rows", "steam", "q", 1),
        ("cells", "cells", "value_2", 2),
        ("same", "numbers", "value", 20),
        ("z-list", "zigbee", "v", 40),
        ("collectd-h", "load_shortterm", "value", 20),
    ] {
        assert_eq!(points(publisher, measurement, field).await, rows, "{publisher} {measurement} {field}");
    }
    let steam = influxd.rows(DATABASE, "SELECT p, q FROM steam WHERE publisher = 'rows'").await;
    assert_eq!(steam[0][2], Value::from(1), "another field of the same time is in the same point: {steam:?}");
    assert!(monitor.status().await.sinks[0].moved_rows >= 2, "what was moved is counted");

    // what came before a kill is told from what comes after it
    monitor.program.kill();
    monitor.restart().await;
    monitor.program.says(LISTENS).await;
    send(monitor.mqtt_url(), &[("l/rows", b"steam p=1 1700000000000000000".to_vec())]).await;
    stored(&monitor, "rows", 5, 0).await;
    assert_eq!(points("rows", "steam", "p").await, 4);
}

#[tokio::test]
async fn every_message_of_a_device_through_the_embedded_broker_is_a_row_of_its_own() {
    every_message_is_a_row(None).await;
}

#[tokio::test]
async fn every_message_of_a_device_through_mosquitto_is_a_row_of_its_own() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    every_message_is_a_row(Some(mosquitto.url())).await;
}

/// What stands between a monitor and its broker.
#[derive(Default)]
struct Between {
    /// What the monitor sends is lost: its acknowledgements.
    deaf: AtomicBool,
    cut: Notify,
}

impl Between {
    /// Starts it; answers its URL.
    async fn start(broker: u16) -> (Arc<Self>, String) {
        let between = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&between);
        tokio::spawn(async move {
            loop {
                let (monitor, _) = listener.accept().await.unwrap();
                let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)).await else { continue };
                tokio::spawn(Arc::clone(&shared).pass(monitor, broker));
            }
        });
        (between, url)
    }

    async fn pass(self: Arc<Self>, mut monitor: TcpStream, mut broker: TcpStream) {
        let (mut from_monitor, mut to_monitor) = monitor.split();
        let (mut from_broker, mut to_broker) = broker.split();
        let up = async {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from_monitor.read(&mut bytes).await {
                if !self.deaf.load(Ordering::Relaxed) && to_broker.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = up => {}
            _ = tokio::io::copy(&mut from_broker, &mut to_monitor) => {}
            () = self.cut.notified() => {}
        }
    }
}

/// Messages of which the broker never hears that they are safe, and then the connection ends in this way.
async fn no_acknowledgement_arrives(kill: bool) {
    let Some(influxd) = Influxd::start().await else { return };
    let lines = "max_inflight_messages 500\n".to_owned();
    let broker = MosquittoOptions { lines, ..MosquittoOptions::default() };
    let Some(mosquitto) = Mosquitto::start_with(broker).await else { return };
    let (between, url) = Between::start(mosquitto.port()).await;
    let mut monitor = started(&influxd, Some(url)).await;
    send(&mosquitto.url(), &[("z/meter", br#"{"v":0}"#.to_vec())]).await;
    stored(&monitor, "z-meter", 1, 0).await;

    between.deaf.store(true, Ordering::Relaxed);
    // some of them say the same
    let messages: Vec<_> = (0..100).map(|n| ("z/meter", format!(r#"{{"v":{}}}"#, n % 90).into_bytes())).collect();
    send(&mosquitto.url(), &messages).await;
    stored(&monitor, "z-meter", 101, 0).await;
    if kill {
        monitor.program.kill();
        between.deaf.store(false, Ordering::Relaxed);
        monitor.restart().await;
    } else {
        between.deaf.store(false, Ordering::Relaxed);
        between.cut.notify_waiters();
    }
    stored(&monitor, "z-meter", 101, 100).await;
    send(&mosquitto.url(), &messages).await;
    stored(&monitor, "z-meter", 201, 100).await;
    assert_eq!(influxd.count(DATABASE, "zigbee", "v").await, 201);
}

#[tokio::test]
async fn what_was_committed_and_not_acknowledged_when_the_monitor_was_killed_is_one_row() {
    no_acknowledgement_arrives(true).await;
}

#[tokio::test]
async fn what_was_committed_and_not_acknowledged_when_the_connection_broke_is_one_row() {
    no_acknowledgement_arrives(false).await;
}

#[tokio::test]
async fn what_a_broker_keeps_is_one_row_however_often_the_monitor_subscribes() {
    let Some(influxd) = Influxd::start().await else { return };
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let mut monitor = started(&influxd, Some(mosquitto.url())).await;
    let port = mosquitto.port().to_string();
    let row = "steam p=1 1700000000000000000";
    let publish = ["-p", &port, "-q", "1", "-r", "-t", "l/kept", "-m", row];
    if !crate::support::installed("/usr/bin/mosquitto_pub") {
        return;
    }
    assert!(std::process::Command::new("/usr/bin/mosquitto_pub").args(publish).status().unwrap().success());
    stored(&monitor, "kept", 1, 0).await;
    for copies in 1..3 {
        monitor.restart().await;
        stored(&monitor, "kept", 1, copies).await;
    }
    assert_eq!(influxd.count(DATABASE, "steam", "p").await, 1);
}

#[tokio::test]
async fn what_waited_at_a_broker_has_the_time_of_its_arrival() {
    let Some(influxd) = Influxd::start().await else { return };
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let mut monitor = started(&influxd, Some(mosquitto.url())).await;
    monitor.program.kill();
    let messages: Vec<_> = (0..200).map(|_| ("n/late", b"7".to_vec())).collect();
    send(&mosquitto.url(), &messages).await;
    let sent = Clock::start().wall().as_nanos();
    monitor.restart().await;
    stored(&monitor, "late", 200, 0).await;
    let rows = influxd.rows(DATABASE, "SELECT value FROM numbers WHERE publisher = 'late'").await;
    assert_eq!(rows.len(), 200);
    let first = rows[0][0].as_i64().unwrap();
    assert!(first >= sent, "{first} is not after {sent}");
    assert_eq!(monitor.status().await.sinks[0].moved_rows, 0, "they are told apart without being moved");
}
