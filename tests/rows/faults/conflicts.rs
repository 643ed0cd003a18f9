//! A number that comes twice with different content: both readings are in the database, and everybody says so.

use rustix::process::Signal;
use tokio::net::{TcpListener, TcpStream};

use super::inputs::send;
use super::{DATABASE, all_stored, into, publish_command};
use crate::support::heartwatch::{PATIENCE, Program, Running, finished};
use crate::support::influxd::Influxd;
use crate::support::{eventually, free_port};

/// Readings of one life of a publisher that was put back to an old state: the same numbers, and other values.
fn message(numbers: std::ops::RangeInclusive<u64>, more: u64) -> (&'static str, Vec<u8>) {
    ("heartwatch/v1/twice/readings", payload(17, numbers, more))
}

fn payload(incarnation: u64, numbers: std::ops::RangeInclusive<u64>, more: u64) -> Vec<u8> {
    let reading = |number: u64| {
        let (time, value) = (1_700_000_000_000_000_000 + number * 1_000, number + more);
        format!(r#"{{"seq":{number},"time":{time},"measurement":"light","fields":{{"value":{value}}}}}"#)
    };
    let readings = numbers.map(reading).collect::<Vec<_>>().join(",");
    format!(r#"{{"v":1,"host":"h","incarnation":{incarnation},"readings":[{readings}]}}"#).into_bytes()
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

/// Found by `prove --rows`: the monitor had confirmed what somebody else sent, and the publisher forgot its own.
#[tokio::test]
async fn numbers_that_somebody_uses_before_their_publisher_is_connected_take_no_readings_place() {
    let Some(influxd) = Influxd::start().await else { return };
    let monitor = Running::start(into(&influxd)).await;
    let way = format!("127.0.0.1:{}", free_port());
    let mut command =
        publish_command(monitor.directory(), "light-1", &format!("mqtt://{way}"), &["--interval", "10ms"]);
    command.env("RUST_LOG", "info,heartwatch::kept=trace");
    let mut publisher = Program::start(command);
    publisher.says("last=30").await;
    let said = publisher.stderr();
    let incarnation = said.split(" life=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let of_another = payload(incarnation.parse().unwrap(), 1..=30, 0);
    eventually("the other one's are received", PATIENCE, async || {
        send(monitor.mqtt_url(), &[("heartwatch/v1/light-1/readings", of_another.clone())]).await;
        monitor.ledger().await.total.received >= 30
    })
    .await;

    let broker = monitor.mqtt_url().trim_start_matches("mqtt://").to_owned();
    let listener = TcpListener::bind(&way).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut publishers, _)) = listener.accept().await {
            let mut brokers = TcpStream::connect(&broker).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut publishers, &mut brokers).await });
        }
    });
    eventually("both are kept", PATIENCE, async || {
        let total = monitor.ledger().await.total;
        total.conflicts == 30 && total.produced >= 90
    })
    .await;
    publisher.signal(Signal::TERM);
    publisher.exit(PATIENCE).await;
    let said = publisher.stderr();
    let last = said.rsplit(" last=").next().and_then(|rest| rest.split_whitespace().next());
    let kept: u64 = last.unwrap().parse().unwrap();
    all_stored(&monitor, kept + 30).await;
}
