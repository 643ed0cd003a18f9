//! Devices that know nothing of heartwatch: what `mosquitto_pub` and a real collectd say ends up in the database,
//! and they are watched like everybody.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails its test")]

use crate::support;
use std::path::{Path, PathBuf};
use std::process::Command;

use heartwatch_domain::verdict::Verdict;
use rustix::process::Signal;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, command_of};
use support::influxd::Influxd;
use support::mosquitto::Mosquitto;
use support::{eventually, installed};

const MOSQUITTO_PUB: &str = "/usr/bin/mosquitto_pub";
const COLLECTD: &str = "/usr/sbin/collectd";

/// What the monitor says when its subscriptions are up: before, a broker keeps nothing for it.
const LISTENS: &str = "connected to the MQTT broker";

/// Publishes as any device would, with the broker's own tool.
fn publish(port: u16, topic: &str, payload: &str) {
    let port = port.to_string();
    let said = Command::new(MOSQUITTO_PUB).args(["-p", &port, "-q", "1", "-t", topic, "-m", payload]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
}

fn port_of(running: &Running) -> u16 {
    running.mqtt_url().rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap()
}

fn options(influxd: &Influxd, mqtt: Option<&Mosquitto>, config: &str) -> RunOptions {
    RunOptions {
        mqtt: mqtt.map(Mosquitto::url),
        config: format!("[influx]\nurl = '{}'\nflush_interval = '100ms'\n{config}", influxd.url()),
        ..RunOptions::default()
    }
}

const DEVICES: &str = "\
[[foreign]]
topic = 'tele/{device}/SENSOR'
publisher = 'tele-{device}'
format = 'json'
measurement = 'climate'
deadline = '10m'
[[foreign.field]]
name = 'temperature'
path = 'DHT22.Temperature'
[[foreign]]
topic = 'number/{publisher}'
format = 'number'
[[foreign]]
topic = 'row/{publisher}/{room}'
format = 'line-protocol'
[[foreign]]
topic = 'cells/{publisher}'
format = 'csv'
";

async fn devices_of_every_kind(mosquitto: Option<&Mosquitto>) {
    let Some(influxd) = Influxd::start().await else { return };
    if !installed(MOSQUITTO_PUB) {
        return;
    }
    let running = Running::start(options(&influxd, mosquitto, DEVICES)).await;
    running.program.says(LISTENS).await;
    let port = port_of(&running);
    publish(port, "tele/kitchen/SENSOR", r#"{"Time":"x","DHT22":{"Temperature":21.5}}"#);
    publish(port, "number/well", "7");
    publish(port, "row/boiler/cellar", "steam pressure=3i");
    publish(port, "cells/scale", "1,2");
    // One that says nothing that anybody understands.
    for number in 0..40 {
        publish(port, "number/broken", &format!("no number {number}"));
    }
    publish(port, "number/well", "8");

    for (measurement, field, rows) in
        [("climate", "temperature", 1), ("well", "value", 2), ("steam", "pressure", 1), ("scale", "value_2", 1)]
    {
        let stored = async || influxd.count("heartwatch", measurement, field).await == rows;
        eventually(&format!("{measurement} is stored"), PATIENCE, stored).await;
    }
    let tags = influxd.rows("heartwatch", "SELECT publisher, room, pressure FROM steam").await;
    assert_eq!((&tags[0][1], &tags[0][2], &tags[0][3]), (&"boiler".into(), &"cellar".into(), &3.into()));

    let kitchen = running.until("tele-kitchen", Verdict::Alive).await;
    assert_eq!(kitchen.deadline_ms, 600_000);
    running.until("well", Verdict::Silent).await;
    assert!(running.publisher("broken").await.is_none(), "what nobody can read is no sign of life");
    let counted = running.status().await.subscriber;
    assert_eq!((counted.malformed, counted.bad_messages.len()), (40, 5), "{counted:?}");
    let last = counted.bad_messages.last().unwrap();
    assert_eq!((last.topic.as_str(), last.excerpt.as_str()), ("number/broken", "no number 39"));
}

#[tokio::test]
async fn devices_of_every_kind_through_mosquitto_are_stored_and_watched() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    devices_of_every_kind(Some(&mosquitto)).await;
}

#[tokio::test]
async fn devices_of_every_kind_through_the_embedded_broker_are_stored_and_watched() {
    devices_of_every_kind(None).await;
}

/// Gives the monitor another configuration and waits until it is applied.
async fn reload(running: &Running, config: &str) {
    let listens = || running.program.stderr().matches(LISTENS).count();
    let before = listens();
    std::fs::write(running.directory().join("heartwatch.toml"), config).unwrap();
    running.program.signal(Signal::HUP);
    running.program.says("configuration applied change=[[foreign]]").await;
    eventually("it listens again", PATIENCE, async || listens() > before).await;
}

async fn reloads(mosquitto: Option<&Mosquitto>) {
    let Some(influxd) = Influxd::start().await else { return };
    if !installed(MOSQUITTO_PUB) {
        return;
    }
    let table = |topic: &str| format!("[[foreign]]\ntopic = '{topic}/{{publisher}}'\nformat = 'number'\n");
    let options = options(&influxd, mosquitto, &table("old"));
    let with = |topic: &str| options.config.replace("'old/", &format!("'{topic}/"));
    let new = with("new");
    let running = Running::start(options.clone()).await;
    running.program.says(LISTENS).await;
    let port = port_of(&running);
    publish(port, "old/first", "1");
    eventually("it is stored", PATIENCE, async || influxd.count("heartwatch", "first", "value").await == 1).await;

    reload(&running, &new).await;
    publish(port, "old/late", "1");
    publish(port, "new/second", "1");
    eventually("it is stored", PATIENCE, async || influxd.count("heartwatch", "second", "value").await == 1).await;
    assert_eq!(influxd.count("heartwatch", "late", "value").await, 0);
    let counted = running.status().await.subscriber;
    assert_eq!(counted.malformed, 0, "the broker was told that the old subscription is over: {counted:?}");
}

#[tokio::test]
async fn a_reload_listens_to_other_devices_at_mosquitto() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    reloads(Some(&mosquitto)).await;
}

#[tokio::test]
async fn a_reload_listens_to_other_devices_at_the_embedded_broker() {
    reloads(None).await;
}

/// The sample configuration of the repository, with a test's port and pace, and without plugins that need hardware.
fn collectd_config(directory: &Path, port: u16) -> PathBuf {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/collectd/mqtt-to-heartwatch.conf");
    let sample = std::fs::read_to_string(sample).unwrap();
    assert!(sample.contains("Port 1883") && sample.contains("Interval 10"));
    let config = sample.replace("Port 1883", &format!("Port {port}")).replace("Interval 10", "Interval 1");
    let path = directory.join("collectd.conf");
    let directory = directory.display();
    std::fs::write(
        &path,
        format!("Hostname \"plant-7\"\nBaseDir \"{directory}\"\nPIDFile \"{directory}/pid\"\n{config}"),
    )
    .unwrap();
    path
}

#[tokio::test]
async fn a_real_collectd_lands_under_host_plugin_and_type() {
    let Some(influxd) = Influxd::start().await else { return };
    if !installed(COLLECTD) {
        return;
    }
    let config = "[[foreign]]\ntopic = 'collectd/{host}/{plugin}/{type}'\nformat = 'collectd'\ndeadline = '3s'\n";
    let running = Running::start(options(&influxd, None, config)).await;
    let file = collectd_config(running.directory(), port_of(&running));
    let mut command = command_of(COLLECTD, running.directory());
    command.args(["-f", "-C"]).arg(file);
    let mut collectd = Program::start(command);
    for measurement in ["load_shortterm", "load_longterm", "memory_value", "cpu_value", "interface_rx"] {
        let stored = async || influxd.count("heartwatch", measurement, "value").await >= 3;
        eventually(&format!("{measurement} is stored"), PATIENCE, stored).await;
    }
    let query = "SELECT value FROM cpu_value WHERE host = 'plant-7' AND type = 'percent' AND type_instance = 'idle'";
    let idle = influxd.rows("heartwatch", query).await;
    assert!(idle.iter().all(|row| row[1].as_f64().is_some_and(|value| (0.0..=100.5).contains(&value))), "{idle:?}");
    let alive = running.until("collectd-plant-7", Verdict::Alive).await;
    assert_eq!((alive.host.as_str(), alive.deadline_ms), ("plant-7", 3_000));
    assert_eq!(running.status().await.subscriber.malformed, 0, "{:?}", running.status().await.subscriber);
    collectd.kill();
    running.until("collectd-plant-7", Verdict::Silent).await;
}

#[tokio::test]
async fn a_real_collectd_reaches_influxdbs_own_listener() {
    if !installed(COLLECTD) {
        return;
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/collectd/influxdb-listener.conf");
    let sample = std::fs::read_to_string(sample).unwrap();
    // what the sample says about influxdb.conf, with a port of the test's own
    let listener: Vec<&str> = sample.lines().filter_map(|line| line.strip_prefix("#     ")).collect();
    let port = support::free_port().to_string();
    let more = listener.join("\n").replace(":25826", &format!("127.0.0.1:{port}"));
    assert!(more.starts_with("[[collectd]]") && more.contains(&port), "{more}");
    let options = support::influxd::InfluxdOptions { more: format!("{more}\n"), ..Default::default() };
    let Some(influxd) = Influxd::start_with(options).await else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = sample.replace("\"25826\"", &format!("\"{port}\"")).replace("Interval 10", "Interval 1");
    let path = directory.path().join("collectd.conf");
    let at = directory.path().display();
    std::fs::write(&path, format!("Hostname \"plant-7\"\nBaseDir \"{at}\"\nPIDFile \"{at}/pid\"\n{config}")).unwrap();
    let mut command = command_of(COLLECTD, directory.path());
    command.args(["-f", "-C"]).arg(path);
    let _collectd = Program::start(command);
    // the names under which the same readings come through heartwatch, see above
    for measurement in ["load_shortterm", "load_longterm", "memory_value", "cpu_value", "interface_rx"] {
        let stored = async || influxd.count("heartwatch", measurement, "value").await >= 3;
        eventually(&format!("{measurement} is stored"), PATIENCE, stored).await;
    }
    let query = "SELECT value FROM cpu_value WHERE host = 'plant-7' AND type = 'percent' AND type_instance = 'idle'";
    assert!(!influxd.rows("heartwatch", query).await.is_empty());
}
