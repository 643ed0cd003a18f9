//! Brokers that drop, forget and die cost time, never rows.

use std::time::Duration;

use tokio::time::Instant;

use super::{ARRIVAL, all_in, all_stored, ends_with_nothing_left, into, publish_command, publisher, received};
use crate::support::eventually;
use crate::support::heartwatch::{Program, RunOptions, Running};
use crate::support::influxd::Influxd;
use crate::support::mosquitto::{Mosquitto, MosquittoOptions};

/// Publishes at full speed, waits until all is stored, and says how fast that was.
async fn at_full_speed(monitor: &Running, readings: u64) {
    let began = Instant::now();
    let arguments = ["--interval", "0", "--limit", &readings.to_string()];
    let mut light = publisher(monitor.directory(), "light-1", monitor.mqtt_url(), &arguments);
    ends_with_nothing_left(&mut light).await;
    let confirmed = began.elapsed();
    let ledger = all_stored(monitor, readings).await;
    let (total, stored) = (ledger.total, began.elapsed());
    println!(
        "{readings} readings through {}: {confirmed:?} until confirmed, {stored:?} until stored: {total:?}",
        monitor.mqtt_url()
    );
}

#[tokio::test]
async fn sixty_thousand_readings_at_full_speed_come_whole_through_a_mosquitto_as_it_is_installed() {
    let (Some(influxd), Some(mosquitto)) = (Influxd::start().await, Mosquitto::start().await) else { return };
    let monitor = Running::start(RunOptions { mqtt: Some(mosquitto.url()), ..into(&influxd) }).await;
    at_full_speed(&monitor, 60_000).await;
    all_in(&influxd, &monitor, 60_000).await;
}

#[tokio::test]
async fn twenty_thousand_readings_at_full_speed_come_whole_through_the_embedded_broker() {
    let Some(influxd) = Influxd::start().await else { return };
    let monitor = Running::start(into(&influxd)).await;
    at_full_speed(&monitor, 20_000).await;
    all_in(&influxd, &monitor, 20_000).await;
}

/// Messages of one reading each, far more than mosquitto keeps for a monitor that is away.
#[tokio::test]
async fn what_mosquitto_drops_while_the_monitor_stands_still_is_sent_again() {
    let Some(mosquitto) = Mosquitto::start_with(MosquittoOptions {
        lines: "max_queued_messages 100\n".to_owned(),
        ..MosquittoOptions::default()
    })
    .await
    else {
        return;
    };
    let monitor = Running::start(RunOptions { mqtt: Some(mosquitto.url()), ..RunOptions::default() }).await;
    let arguments = ["--interval", "1ms", "--limit", "2500"];
    let mut light = publisher(monitor.directory(), "light-1", monitor.mqtt_url(), &arguments);
    received(&monitor, 100).await;
    monitor.program.signal(rustix::process::Signal::STOP);
    let dropped = async || mosquitto.log().contains("are being dropped");
    eventually("mosquitto forgets messages", ARRIVAL, dropped).await;
    monitor.program.signal(rustix::process::Signal::CONT);
    ends_with_nothing_left(&mut light).await;
    all_stored(&monitor, 2_500).await;
}

#[tokio::test]
async fn a_killed_mosquitto_without_a_memory_loses_nothing() {
    let (Some(influxd), Some(mut mosquitto)) = (Influxd::start().await, Mosquitto::start().await) else { return };
    let monitor = Running::start(RunOptions { mqtt: Some(mosquitto.url()), ..into(&influxd) }).await;
    let arguments = ["--interval", "4ms", "--limit", "2000"];
    let mut publishers: Vec<Program> =
        ["light-1", "light-2"].map(|id| publisher(monitor.directory(), id, monitor.mqtt_url(), &arguments)).into();
    for round in 1..=2 {
        received(&monitor, round * 800).await;
        mosquitto.kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        mosquitto.restart().await;
    }
    for publisher in &mut publishers {
        ends_with_nothing_left(publisher).await;
    }
    all_in(&influxd, &monitor, 4_000).await;
}

#[tokio::test]
async fn over_tls_with_client_certificates_readings_arrive() {
    let options = MosquittoOptions { tls: true, ..MosquittoOptions::default() };
    let Some(mosquitto) = Mosquitto::start_with(options).await else { return };
    let file = |name: &str| mosquitto.file(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let config =
        format!("[mqtt]\nca_file = '{ca}'\nclient_certificate_file = '{certificate}'\nclient_key_file = '{key}'\n");
    let monitor = Running::start(RunOptions { mqtt: Some(mosquitto.url()), config, ..RunOptions::default() }).await;
    let arguments = ["--interval", "0", "--limit", "500", "--mqtt-ca-file", &ca];
    let with_ours = [&arguments[..], &["--mqtt-client-certificate-file", &certificate, "--mqtt-client-key-file", &key]];
    let mut light = publisher(monitor.directory(), "light-1", monitor.mqtt_url(), &with_ours.concat());
    ends_with_nothing_left(&mut light).await;
    all_stored(&monitor, 500).await;

    let stranger = publisher(monitor.directory(), "light-2", monitor.mqtt_url(), &arguments);
    stranger.says("no connection to the MQTT broker").await;
    assert_eq!(monitor.ledger().await.accounts.len(), 1, "without a certificate nothing comes in");
}

#[tokio::test]
async fn a_broker_that_takes_short_messages_only_gets_short_ones() {
    let lines = "message_size_limit 8192\n".to_owned();
    let options = MosquittoOptions { lines, ..MosquittoOptions::default() };
    let Some(mosquitto) = Mosquitto::start_with(options).await else { return };
    let monitor = Running::start(RunOptions { mqtt: Some(mosquitto.url()), ..RunOptions::default() }).await;
    let mut command = publish_command(monitor.directory(), "light-1", monitor.mqtt_url(), &["--interval", "0"]);
    command.args(["--limit", "3000"]).env("HEARTWATCH_MQTT_MESSAGE_BYTES_MAX", "8KiB");
    let mut light = Program::start(command);
    ends_with_nothing_left(&mut light).await;
    all_stored(&monitor, 3_000).await;
}

/// mosquitto ends the connection of who sends more than it takes, and MQTT 3.1.1 has no way to say so: a backlog in one
/// message, or one long row, would be sent over each connection and end it.
#[tokio::test]
async fn what_a_broker_does_not_take_at_once_comes_in_pieces_and_what_it_never_takes_is_lost_by_name() {
    let lines = "max_packet_size 4000".to_owned();
    let Some(mosquitto) = Mosquitto::start_with(MosquittoOptions { lines, ..MosquittoOptions::default() }).await else {
        return;
    };
    let monitor = Running::start(RunOptions { mqtt: Some(mosquitto.url()), ..RunOptions::default() }).await;
    let row =
        |row| format!("{{\"row\":{row},\"text\":\"{}\"}}\n", if row == 200 { "x".repeat(6_000) } else { "y".into() });
    let rows: String = (1..=400).map(row).collect();
    std::fs::write(monitor.directory().join("rows"), rows).unwrap();
    let mut command = crate::support::heartwatch::command(monitor.directory());
    command.args(["publish", "--id", "wide", "--mqtt", monitor.mqtt_url(), "--heartbeat", "200ms"]);
    command.args(["--schema", r#"{"format":"json"}"#, "--data-dir", "publisher", "--exec"]);
    command.arg("sh -c 'cat rows; exec sleep 600'");
    let _publisher = Program::start(command);
    eventually("the rows are stored, and one is lost by name", Duration::from_secs(300), async || {
        let total = monitor.ledger().await.total;
        (total.stored, total.lost, total.missing) == (399, 1, 0)
    })
    .await;
    let ledger = monitor.ledger().await;
    assert!(ledger.balances && ledger.losses[0].reason.contains("takes no message of this size"), "{ledger:?}");
}
