//! A number that comes twice with different content: both readings are in the database, and everybody says so.

use crate::inputs::send;
use crate::support::eventually;
use crate::support::heartwatch::{PATIENCE, Running, finished};
use crate::support::influxd::Influxd;
use crate::{DATABASE, all_stored, into};

/// Readings of one life of a publisher that was put back to an old state: the same numbers, and other values.
fn message(numbers: std::ops::RangeInclusive<u64>, more: u64) -> (&'static str, Vec<u8>) {
    let reading = |number: u64| {
        let (time, value) = (1_700_000_000_000_000_000 + number * 1_000, number + more);
        format!(r#"{{"seq":{number},"time":{time},"measurement":"light","fields":{{"value":{value}}}}}"#)
    };
    let readings = numbers.map(reading).collect::<Vec<_>>().join(",");
    let payload = format!(r#"{{"v":1,"host":"h","incarnation":17,"readings":[{readings}]}}"#);
    ("heartwatch/v1/twice/readings", payload.into_bytes())
}

#[tokio::test]
async fn a_duplicate_that_differs_is_kept_beside_the_first_and_counted() {
    let Some(influxd) = Influxd::start().await else { return };
    let mut monitor = Running::start(into(&influxd)).await;
    eventually("the first are received", PATIENCE, async || {
        send(monitor.mqtt_url(), &[message(1..=100, 0)]).await;
        monitor.ledger().await.total.received >= 100
    })
    .await;
    send(monitor.mqtt_url(), &[message(50..=100, 1_000), message(40..=100, 0), message(50..=60, 1_000)]).await;
    all_stored(&monitor, 151).await;
    let total = monitor.ledger().await.total;
    assert_eq!((total.conflicts, total.produced, total.lost), (51, 151, 0), "{total:?}");
    assert_eq!(influxd.count(DATABASE, "light", "value").await, 151);
    monitor.program.says("readings came with a number that another reading had").await;

    // the same after a kill: the copies of both are known from the journal
    monitor.program.kill();
    monitor.restart().await;
    eventually("the last is received", PATIENCE, async || {
        send(monitor.mqtt_url(), &[message(1..=101, 0), message(50..=100, 1_000)]).await;
        monitor.ledger().await.total.received >= 152
    })
    .await;
    all_stored(&monitor, 152).await;
    let total = monitor.ledger().await.total;
    assert_eq!((total.conflicts, total.produced, total.stored), (51, 152, 152), "{total:?}");
    assert_eq!(influxd.count(DATABASE, "light", "value").await, 152);
    let metrics = reqwest::get(format!("{}/metrics", monitor.page())).await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("heartwatch_rows_conflicts 51") && metrics.contains("heartwatch_rows_expired 0"),
        "{metrics}"
    );
    let url = influxd.url();
    let arguments = ["ledger", "--reconcile", "--url", monitor.page(), "--influx-url", &url, "--influx-db", DATABASE];
    let reconciled = finished(monitor.directory(), &arguments, PATIENCE).await;
    assert_eq!(reconciled.code, Some(0), "{reconciled:?}");
}
