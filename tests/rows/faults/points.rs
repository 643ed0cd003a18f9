//! What InfluxDB makes of rows: readings with one timestamp, and the ledger's own measurement.

use serde_json::Value;

use super::inputs::send;
use super::{DATABASE, all_stored, ends_with_nothing_left, into, publisher, received};
use crate::support::eventually;
use crate::support::heartwatch::{PATIENCE, Running, finished};
use crate::support::influxd::Influxd;

/// A clock that shows seconds.
const TIME: u64 = 1_700_000_000_000_000_000;

/// Readings of another maker's publisher, all with one timestamp.
fn message(incarnation: u64, numbers: std::ops::RangeInclusive<u64>) -> (&'static str, Vec<u8>) {
    let readings: Vec<_> = numbers
        .map(|number| {
            let value = incarnation * 1_000 + number;
            format!(r#"{{"seq":{number},"time":{TIME},"measurement":"light","fields":{{"value":{value}}}}}"#)
        })
        .collect();
    let readings = readings.join(",");
    let payload = format!(r#"{{"v":1,"host":"h","incarnation":{incarnation},"readings":[{readings}]}}"#);
    ("heartwatch/v1/foreign/readings", payload.into_bytes())
}

/// Sends again until so many are stored: nobody keeps a message for a monitor that has not subscribed yet.
async fn sent(monitor: &Running, messages: &[(&str, Vec<u8>)], readings: u64) {
    eventually("all are received", PATIENCE, async || {
        send(monitor.mqtt_url(), messages).await;
        monitor.ledger().await.total.received >= readings
    })
    .await;
    all_stored(monitor, readings).await;
}

async fn values(influxd: &Influxd) -> Vec<u32> {
    let rows = influxd.rows(DATABASE, "SELECT value FROM light WHERE publisher = 'foreign'").await;
    let mut values: Vec<_> =
        rows.iter().map(|row| row[1].to_string().trim_end_matches(".0").parse().unwrap()).collect();
    values.sort_unstable();
    values
}

#[tokio::test]
async fn readings_with_one_timestamp_are_as_many_points_after_any_retry() {
    let Some(influxd) = Influxd::start().await else { return };
    let mut monitor = Running::start(into(&influxd)).await;
    // a life, a part of it again, and a second life whose clock stands where the first one's did
    sent(&monitor, &[message(1, 1..=50), message(1, 20..=60), message(2, 1..=40)], 100).await;
    let expected: Vec<u32> = (1_001..=1_060).chain(2_001..=2_040).collect();
    assert_eq!(values(&influxd).await, expected);

    // what comes after a kill is told from what came before it
    monitor.program.kill();
    monitor.restart().await;
    sent(&monitor, &[message(1, 30..=60), message(2, 1..=45)], 105).await;
    assert_eq!(values(&influxd).await, expected.into_iter().chain(2_041..=2_045).collect::<Vec<_>>());
    let (url, database) = (influxd.url(), ["--influx-db", DATABASE]);
    let arguments = [&["ledger", "--reconcile", "--url", monitor.page(), "--influx-url", &url][..], &database].concat();
    let reconciled = finished(monitor.directory(), &arguments, PATIENCE).await;
    assert_eq!(reconciled.code, Some(0), "{reconciled:?}");
}

#[tokio::test]
async fn the_account_of_every_publisher_is_a_measurement() {
    let Some(influxd) = Influxd::start().await else { return };
    let monitor = Running::start(into(&influxd)).await;
    let fields = ["produced", "received", "stored", "buffered", "duplicates", "missing", "lost"];
    let account = async |publisher: &str| -> Vec<Value> {
        let fields = fields.map(|field| format!("last({field}) AS {field}")).join(", ");
        let query = format!("SELECT {fields} FROM heartwatch_ledger WHERE publisher = '{publisher}' AND host != ''");
        influxd.rows(DATABASE, &query).await.into_iter().next().map_or_else(Vec::new, |row| row[1..].to_vec())
    };
    let arguments = ["--interval", "0", "--limit", "300"];
    let mut light = publisher(monitor.directory(), "light-1", monitor.mqtt_url(), &arguments);
    received(&monitor, 1).await;
    // two of four numbers, and one of them twice
    send(monitor.mqtt_url(), &[message(1, 2..=2), message(1, 2..=2), message(1, 4..=4)]).await;
    ends_with_nothing_left(&mut light).await;
    eventually("the whole account is there", PATIENCE, async || {
        account("light-1").await == [300, 300, 300, 0, 0, 0, 0] && account("foreign").await == [4, 2, 2, 0, 1, 2, 0]
    })
    .await;
    let before = influxd.count(DATABASE, "heartwatch_ledger", "stored").await;
    send(monitor.mqtt_url(), &[message(1, 1..=3)]).await;
    eventually("a change is written", PATIENCE, async || account("foreign").await == [4, 4, 4, 0, 2, 0, 0]).await;
    assert!(influxd.count(DATABASE, "heartwatch_ledger", "stored").await > before);
}
