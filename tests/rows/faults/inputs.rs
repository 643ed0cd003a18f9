//! What comes in is not always what it should be.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};

use super::{DATABASE, all_stored, ends_with_nothing_left, into, publisher, received};
use crate::support::eventually;
use crate::support::heartwatch::{Program, RunOptions, Running, command, finished};
use crate::support::influxd::Influxd;
use crate::support::mosquitto::Mosquitto;

/// Publishes these messages as some other client would, and returns when the broker has them.
pub(crate) async fn send(url: &str, messages: &[(&str, Vec<u8>)]) {
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    let mut options = MqttOptions::new("somebody", "127.0.0.1", port);
    options.set_max_packet_size(8 << 20, 8 << 20);
    let (client, mut connection) = AsyncClient::new(options, messages.len().max(100));
    for (topic, payload) in messages {
        client.try_publish(*topic, QoS::AtLeastOnce, false, payload.clone()).unwrap();
    }
    let (mut left, mut disconnecting) = (messages.len(), false);
    loop {
        match connection.poll().await.unwrap() {
            Event::Incoming(Packet::PubAck(_)) => left -= 1,
            Event::Outgoing(Outgoing::Disconnect) => return,
            _ => {}
        }
        if left == 0 && !disconnecting {
            disconnecting = true;
            client.try_disconnect().unwrap();
        }
    }
}

async fn bad_messages(monitor: Running) {
    let arguments = ["--interval", "5ms", "--limit", "600"];
    let mut light = publisher(monitor.directory(), "light-1", monitor.mqtt_url(), &arguments);
    // before its subscription nobody keeps these messages for the monitor
    received(&monitor, 1).await;
    let noise: Vec<u8> = (0..4_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let wrong_number = br#"{"v":1,"host":"h","incarnation":5,"readings":[{"seq":"one"}]}"#;
    let messages: [(&str, Vec<u8>); 8] = [
        ("heartwatch/v1/noise/readings", noise.clone()),
        ("heartwatch/v1/noise/heartbeat", noise),
        ("heartwatch/v1/other/readings", b"{\"v\":1,\"host\":".to_vec()),
        ("heartwatch/v1/other/readings", wrong_number.to_vec()),
        ("heartwatch/v1/other/goodbye", Vec::new()),
        ("heartwatch/v1/no id!/readings", b"{}".to_vec()),
        ("heartwatch/v1/large/readings", vec![b'['; 2 << 20]),
        ("heartwatch/v1/last/given-up", b"\x1b[31mred".to_vec()),
    ];
    send(monitor.mqtt_url(), &messages).await;
    // not ours: nobody asked for them
    let foreign = [("heartwatch/v2/x/readings", b"{}".to_vec()), ("elsewhere", b"{}".to_vec())];
    send(monitor.mqtt_url(), &foreign).await;
    eventually("all bad messages are counted", Duration::from_secs(20), async || {
        monitor.status().await.subscriber.malformed >= 8
    })
    .await;
    ends_with_nothing_left(&mut light).await;
    all_stored(&monitor, 600).await;
    let status = monitor.status().await;
    let counted = &status.subscriber;
    assert_eq!((counted.malformed, counted.oversized, counted.bad_messages.len()), (8, 1, 8), "{counted:?}");
    assert_eq!(status.publishers.len(), 1, "no publisher comes of noise: {status:?}");
    let of =
        |topic: &str| counted.bad_messages.iter().find(|bad| bad.topic == topic).unwrap_or_else(|| panic!("{topic}"));
    assert!(of("heartwatch/v1/large/readings").reason.contains("2097152 bytes"), "{counted:?}");
    let last = of("heartwatch/v1/last/given-up");
    assert!(last.excerpt.contains("red") && last.reason.contains("not JSON"), "{last:?}");

    let shown = finished(monitor.directory(), &["status", "--url", monitor.page()], Duration::from_secs(20)).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("8 of ") && shown.stdout.contains("messages could not be read"), "{}", shown.stdout);
    let newest = counted.bad_messages.last().unwrap();
    assert!(shown.stdout.contains(&newest.topic), "{}", shown.stdout);
    assert!(!shown.stdout.contains('\u{1b}'), "nothing from outside reaches the terminal as it came");
}

#[tokio::test]
async fn a_reading_that_cannot_be_taken_costs_its_message_nothing_and_is_lost_by_name() {
    let monitor = Running::start(RunOptions::default()).await;
    let good = |seq: u64| format!(r#"{{"seq":{seq},"time":{seq},"measurement":"m","fields":{{"a":1.5}}}}"#);
    let readings = [
        good(1),
        r#"{"seq":2,"time":2,"measurement":"m","fields":{"a":18446744073709551615}}"#.to_owned(),
        r#"{"seq":3,"time":3,"measurement":"m","tags":{"host":"x"},"fields":{"a":1}}"#.to_owned(),
        r#"{"seq":4,"time":4,"measurement":"m","fields":{"time":1}}"#.to_owned(),
        good(5),
    ];
    let payload = format!(r#"{{"v":1,"host":"h","incarnation":7,"readings":[{}]}}"#, readings.join(","));
    eventually("the good ones are stored", Duration::from_secs(60), async || {
        // before its subscription nobody keeps it for the monitor
        send(monitor.mqtt_url(), &[("heartwatch/v1/typed/readings", payload.clone().into_bytes())]).await;
        monitor.ledger().await.total.stored == 2
    })
    .await;
    let ledger = monitor.ledger().await;
    let total = ledger.total;
    assert_eq!((total.produced, total.lost, total.missing, ledger.balances), (5, 3, 0, true), "{ledger:?}");
    let reasons: Vec<_> = ledger.losses.iter().map(|loss| (loss.first, loss.reason.as_str())).collect();
    for (number, words) in [(2, "64-bit signed"), (3, "tags.host"), (4, "keeps for itself")] {
        assert!(reasons.iter().any(|(first, reason)| *first == number && reason.contains(words)), "{reasons:?}");
    }
    let counted = monitor.status().await.subscriber;
    assert!(counted.malformed >= 3, "each is shown to a person: {counted:?}");
}

#[tokio::test]
async fn bad_messages_through_the_embedded_broker_are_counted_and_everything_else_goes_on() {
    bad_messages(Running::start(RunOptions::default()).await).await;
}

#[tokio::test]
async fn bad_messages_through_mosquitto_are_counted_and_everything_else_goes_on() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    bad_messages(Running::start(RunOptions { mqtt: Some(mosquitto.url()), ..RunOptions::default() }).await).await;
}

#[tokio::test]
async fn bad_rows_of_a_file_are_skipped_and_become_an_error_metric() {
    let Some(influxd) = Influxd::start().await else { return };
    let monitor = Running::start(into(&influxd)).await;
    let csv = monitor.directory().join("light.csv");
    let mut rows = String::from("time,value\n");
    for minute in 0..50 {
        rows += &format!("2/10/2026 10:{minute:02},{minute}\n");
        if minute % 10 == 4 {
            rows += "2/10/2026 10:00,4,too,many,cells\n";
        }
    }
    std::fs::write(&csv, rows).unwrap();
    let mut command = command(monitor.directory());
    command.args(["publish", "--id", "light-1", "--mqtt", monitor.mqtt_url(), "--interval", "0", "--once"]);
    command.args(["--measurement", "light", "--csv", "light.csv"]);
    let mut light = Program::start(command);
    ends_with_nothing_left(&mut light).await;
    let said = light.stderr();
    assert!(said.contains("light.csv:7") || said.contains("light.csv, line 7"), "file and line are named: {said}");
    all_stored(&monitor, 55).await;
    assert_eq!(influxd.count(DATABASE, "light", "value").await, 50);
    assert_eq!(influxd.count(DATABASE, "sensor.error.light", "value").await, 5);
    assert_eq!(influxd.count(DATABASE, "light", "source_time").await, 50);
}

#[tokio::test]
async fn a_missing_and_an_empty_file_end_the_program_at_once_and_say_so() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("empty.csv"), "").unwrap();
    for (file, reason) in [("missing.csv", "cannot read"), ("empty.csv", "is empty")] {
        let arguments = ["publish", "--id", "light-1", "--csv", file];
        let end = finished(directory.path(), &arguments, Duration::from_secs(20)).await;
        assert_eq!(end.code, Some(1), "{end:?}");
        assert!(end.stderr.contains(file) && end.stderr.contains(reason), "{end:?}");
    }
}

#[tokio::test]
async fn the_demo_writes_readings_heartbeats_and_verdicts_into_influxdb() {
    let Some(influxd) = Influxd::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["demo", "2", "--deadline", "2s", "--web", "off", "--influx-url", &influxd.url()];
    let demo = finished(directory.path(), &arguments, Duration::from_secs(90)).await;
    assert_eq!(demo.code, Some(0), "{demo:?}");
    let count = async |measurement, field| influxd.count(DATABASE, measurement, field).await;
    let (readings, heartbeats) = (count("light", "value").await, count("heartwatch_heartbeat", "seq").await);
    println!("the demo left {readings} readings and {heartbeats} heartbeats");
    assert!(readings >= 10 && heartbeats >= 10, "{readings} readings, {heartbeats} heartbeats");
    let verdicts = influxd.rows(DATABASE, "SELECT verdict FROM heartwatch_verdict WHERE verdict = 'dead'").await;
    assert!(!verdicts.is_empty());
    assert!(count("heartwatch_verdict", "level").await > 2);
}
