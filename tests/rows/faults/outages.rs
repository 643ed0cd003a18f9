//! InfluxDB, the monitor and publishers die under load.

use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use tokio::time::Instant;

use super::{ARRIVAL, DATABASE, all_in, all_stored, ends_with_nothing_left, into, publisher, received};
use crate::support::eventually;
use crate::support::heartwatch::{Program, RunOptions, Running};
use crate::support::influxd::Influxd;
use crate::support::mosquitto::Mosquitto;

#[tokio::test]
async fn ten_seconds_without_influxdb_at_200_readings_a_second_lose_nothing() {
    let Some(mut influxd) = Influxd::start().await else { return };
    let monitor = Running::start(into(&influxd)).await;
    let mut publishers: Vec<Program> = (1..=4)
        .map(|n| {
            let arguments = ["--interval", "20ms", "--limit", "1000"];
            publisher(monitor.directory(), &format!("light-{n}"), monitor.mqtt_url(), &arguments)
        })
        .collect();
    received(&monitor, 600).await;
    influxd.kill();
    // ten seconds of readings
    eventually("2,000 rows wait", ARRIVAL, async || {
        let sinks = monitor.status().await.sinks;
        sinks.first().is_some_and(|sink| sink.state == "retrying" && sink.buffered_rows >= 2_000)
    })
    .await;
    influxd.restart().await;

    // what is produced from now on is there within seconds, while the backlog drains
    let back = Instant::now();
    let now = monitor.ledger().await.total.received;
    let newest = format!("SELECT count(\"value\") FROM light WHERE time > {}", wall_nanos());
    eventually("the newest readings are in InfluxDB", Duration::from_secs(15), async || {
        !influxd.rows(DATABASE, &newest).await.is_empty()
    })
    .await;
    println!("after the outage ({now} readings so far) the newest data was current within {:?}", back.elapsed());
    for publisher in &mut publishers {
        ends_with_nothing_left(publisher).await;
    }
    all_in(&influxd, &monitor, 4_000).await;
}

#[expect(clippy::disallowed_methods, reason = "a test compares with the wall clock of the database")]
fn wall_nanos() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
}

async fn killed_monitor(influxd: &Influxd, options: RunOptions) {
    let mut monitor = Running::start(options).await;
    let url = monitor.mqtt_url().to_owned();
    let arguments = ["--interval", "4ms", "--limit", "2000"];
    let mut publishers: Vec<Program> =
        ["light-1", "light-2"].map(|id| publisher(monitor.directory(), id, &url, &arguments)).into();
    for round in 1..=3 {
        received(&monitor, round * 500).await;
        monitor.restart().await;
    }
    for publisher in &mut publishers {
        ends_with_nothing_left(publisher).await;
    }
    // a publisher forgets what was confirmed to it: had a confirmed reading been lost, it would be missing now
    all_in(influxd, &monitor, 4_000).await;
}

#[tokio::test]
async fn a_killed_monitor_with_its_embedded_broker_has_all_that_it_confirmed_and_gets_the_rest() {
    let Some(influxd) = Influxd::start().await else { return };
    killed_monitor(&influxd, into(&influxd)).await;
}

#[tokio::test]
async fn a_killed_monitor_on_mosquitto_has_all_that_it_confirmed_and_gets_the_rest() {
    let (Some(influxd), Some(mosquitto)) = (Influxd::start().await, Mosquitto::start().await) else { return };
    killed_monitor(&influxd, RunOptions { mqtt: Some(mosquitto.url()), ..into(&influxd) }).await;
}

#[tokio::test]
async fn a_killed_publishers_readings_come_from_its_outbox_after_its_next_start() {
    let Some(influxd) = Influxd::start().await else { return };
    let monitor = Running::start(into(&influxd)).await;
    let url = monitor.mqtt_url();
    let mut first = publisher(monitor.directory(), "light-1", url, &["--interval", "2ms"]);
    received(&monitor, 300).await;
    // nothing is confirmed from here on, so that its outbox fills
    monitor.program.signal(Signal::STOP);
    let outbox = monitor.directory().join("light-1/outbox/light-1.sqlite");
    let highest = || {
        let outbox = Connection::open(&outbox).unwrap();
        let highest =
            outbox.query_row("SELECT coalesce(max(sequence), 0) FROM readings", [], |row| row.get::<_, u32>(0));
        highest.unwrap()
    };
    eventually("its outbox fills", ARRIVAL, async || highest() > 600).await;
    first.kill();
    let produced = u64::from(highest());
    let mut second = publisher(monitor.directory(), "light-1", url, &["--interval", "5ms", "--limit", "500"]);
    monitor.program.signal(Signal::CONT);
    ends_with_nothing_left(&mut second).await;
    let ledger = all_in(&influxd, &monitor, produced + 500).await;
    let accounts: Vec<u64> = ledger.accounts.iter().map(|line| line.account.stored).collect();
    assert_eq!(accounts, [produced, 500]);
}

#[tokio::test]
async fn a_wrong_password_and_missing_rights_are_said_once_and_the_rows_come_when_they_are_put_right() {
    let Some(influxd) = Influxd::start_for("admin", "admins own").await else { return };
    influxd.query("", "CREATE USER writer WITH PASSWORD 'right'").await;
    influxd.query("", &format!("CREATE DATABASE {DATABASE}")).await;
    let mut options = into(&influxd);
    options.config = "[influx]\nuser = 'writer'\n".to_owned();
    options.environment = vec![("HEARTWATCH_INFLUX_PASSWORD".to_owned(), "wrong".to_owned())];
    let mut monitor = Running::start(options).await;
    let arguments = ["--interval", "5ms", "--limit", "200"];
    let mut light = publisher(monitor.directory(), "light-1", monitor.mqtt_url(), &arguments);
    ends_with_nothing_left(&mut light).await;
    said_once(&monitor, "refuses the user 'writer'").await;

    monitor.options_mut().environment[0].1 = "right".to_owned();
    monitor.restart().await;
    said_once(&monitor, "the user 'writer' may not write to database 'heartwatch'").await;

    influxd.query("", &format!("GRANT ALL ON {DATABASE} TO writer")).await;
    monitor.restart().await;
    all_in(&influxd, &monitor, 200).await;
}

async fn said_once(monitor: &Running, text: &str) {
    monitor.program.says(text).await;
    // heartwatch's own rows come all the time: more attempts would say it again
    tokio::time::sleep(Duration::from_secs(2)).await;
    let said = monitor.program.stderr();
    assert_eq!(said.matches(text).count(), 1, "{said}");
    let sink = monitor.status().await.sinks[0].clone();
    assert!(sink.state == "misconfigured" && sink.last_error.contains(text), "{sink:?}");
    let total = monitor.ledger().await.total;
    assert_eq!((total.buffered, total.lost), (200, 0), "the rows wait: {total:?}");
}

#[tokio::test]
async fn without_influxdb_rows_are_stored_here_and_exported_while_the_monitor_runs() {
    let monitor = Running::start(RunOptions::default()).await;
    let arguments = ["--interval", "0", "--limit", "3000"];
    let mut light = publisher(monitor.directory(), "light-1", monitor.mqtt_url(), &arguments);
    ends_with_nothing_left(&mut light).await;
    all_stored(&monitor, 3_000).await;
    let out = monitor.directory().join("light.csv");
    let arguments = ["export", "--out", out.to_str().unwrap(), "--measurement", "light"];
    let export = crate::support::heartwatch::finished(monitor.directory(), &arguments, Duration::from_secs(30)).await;
    assert_eq!(export.code, Some(0), "{export:?}");
    let mut reader = csv::Reader::from_path(&out).unwrap();
    assert!(reader.headers().unwrap().iter().any(|name| name == "value"));
    assert_eq!(reader.records().map(Result::unwrap).count(), 3_000);
}
