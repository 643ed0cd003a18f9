//! `heartwatch ledger --reconcile` against a real InfluxDB and the embedded store, with a running monitor
//! and right after it was killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::fs;
use std::path::Path;
use std::process::Command;

use heartwatch_formats::api::ReconciliationView;
use serde_json::Value;
use support::heartwatch::{Finished, PATIENCE, Program, RunOptions, Running, command, finished, fixture};
use support::influxd::Influxd;

async fn reconcile(running: &Running, more: &[&str]) -> Finished {
    let mut arguments = vec!["ledger", "--reconcile", "--url", running.page()];
    arguments.extend(more);
    finished(running.directory(), &arguments, PATIENCE).await
}

fn view(finished: &Finished) -> ReconciliationView {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

fn publish(running: &Running, id: &str, csv: &Path, more: &[&str]) -> Program {
    let mut command = command(running.directory());
    command.args(["publish", "--id", id, "--mqtt", running.mqtt_url(), "--heartbeat", "200ms"]);
    command.arg("--csv").arg(csv).arg("--data-dir").arg(running.directory().join("data")).args(more);
    Program::start(command)
}

/// Publishes a file with these contents to its end.
async fn publish_all(running: &Running, id: &str, csv: &str) {
    let path = running.directory().join(format!("{id}.csv"));
    fs::write(&path, csv).unwrap();
    let mut publisher = publish(running, id, &path, &["--once", "--interval", "0"]);
    assert!(publisher.exit(PATIENCE).await.success(), "{}", publisher.stderr());
}

fn with_influx(influx: &Influxd) -> RunOptions {
    let arguments = ["--influx-url", &influx.url(), "--influx-db", "rows"].map(str::to_owned).to_vec();
    RunOptions { arguments, ..RunOptions::default() }
}

#[tokio::test]
async fn the_ledger_agrees_with_what_influxdb_has_and_a_row_that_is_gone_is_noticed() {
    let Some(influx) = Influxd::start().await else { return };
    let running = Running::start(with_influx(&influx)).await;
    let url = influx.url();
    let place = ["--influx-url", url.as_str(), "--influx-db", "rows"];
    // no field is in every row, so that no count of a field is the number of rows
    publish_all(&running, "sparse", "a,b\n1,\n2,\n,3\n4,5\n").await;
    publish_all(&running, "light", "row\n1\n2\n3\n").await;
    let json = [&place[..], &["--json"]].concat();
    let agreed = reconcile(&running, &json).await;
    let counted = |view: &ReconciliationView| -> Vec<(String, u64, u64, i64)> {
        let lines = view.publishers.iter();
        lines.map(|line| (line.publisher.clone(), line.stored, line.counted, line.difference)).collect()
    };
    assert_eq!((agreed.code, view(&agreed).exact), (Some(0), true), "{agreed:?}");
    assert_eq!(counted(&view(&agreed)), [("light".to_owned(), 3, 3, 0), ("sparse".to_owned(), 4, 4, 0)]);

    let rows = influx.rows("rows", "SELECT \"row\" FROM light").await;
    let time = rows[1][0].as_i64().unwrap();
    influx.query("rows", &format!("DELETE FROM light WHERE time = {time}")).await;
    let lacking = reconcile(&running, &[&json[..], &["--wait", "0"]].concat()).await;
    assert_eq!(lacking.code, Some(1), "{lacking:?}");
    assert_eq!(counted(&view(&lacking))[0], ("light".to_owned(), 3, 2, -1));
    let said = reconcile(&running, &[&place[..], &["--wait", "0"]].concat()).await;
    assert!(said.stdout.contains("do NOT agree about 1 publishers"), "{said:?}");

    let unnamed = reconcile(&running, &[]).await;
    assert!(unnamed.stderr.contains("--influx-url"), "{unnamed:?}");
    assert_eq!(unnamed.code, Some(1));
}

#[tokio::test]
async fn right_after_kill_9_of_the_monitor_the_account_on_disk_agrees_with_influxdb() {
    let Some(influx) = Influxd::start().await else { return };
    let mut running = Running::start(with_influx(&influx)).await;
    let url = influx.url();
    let place = ["--influx-url", url.as_str(), "--influx-db", "rows", "--json"];
    let mut publisher = publish(&running, "light-1", &fixture("light-1.csv"), &["--interval", "2ms", "--limit", "400"]);
    support::eventually("rows come", PATIENCE, async || running.ledger().await.total.stored > 50).await;
    running.program.kill();

    let dead = reconcile(&running, &[&place[..], &["--wait", "0"]].concat()).await;
    assert_eq!(dead.code, Some(0), "{dead:?}");
    assert!(view(&dead).ledger.contains("no monitor answers"), "{dead:?}");
    assert!(view(&dead).publishers[0].counted > 50, "{dead:?}");

    running.restart().await;
    assert!(publisher.exit(PATIENCE).await.success());
    let whole = reconcile(&running, &place).await;
    assert_eq!((whole.code, view(&whole).exact), (Some(0), true), "{whole:?}");
    assert_eq!(view(&whole).publishers[0].counted, 400);
}

/// Publishes as any device would, with the broker's own tool.
fn say(running: &Running, topic: &str, payload: &str) {
    let port = running.mqtt_url().rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    let mut command = Command::new(MOSQUITTO_PUB);
    let said = command.args(["-p", &port, "-q", "1", "-t", topic, "-m", payload]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
}

const MOSQUITTO_PUB: &str = "/usr/bin/mosquitto_pub";
const DEVICES: &str = "[[foreign]]\ntopic = 'number/{publisher}'\nformat = 'number'\n";

#[tokio::test]
async fn devices_are_in_the_ledger_and_what_was_stored_before_it_does_not_disagree() {
    let Some(influx) = Influxd::start().await else { return };
    if !support::installed(MOSQUITTO_PUB) {
        return;
    }
    let with_devices = || RunOptions { config: DEVICES.to_owned(), ..with_influx(&influx) };
    let url = influx.url();
    let place = ["--influx-url", url.as_str(), "--influx-db", "rows", "--json"];
    let listens = "connected to the MQTT broker";
    {
        // another ledger's: this is what an upgrade and a new data directory find
        let earlier = Running::start(with_devices()).await;
        earlier.program.says(listens).await;
        for (device, value) in [("well", "1"), ("gone", "2"), ("well", "3")] {
            say(&earlier, &format!("number/{device}"), value);
        }
        let stored = async || earlier.ledger().await.total.stored == 3;
        support::eventually("they are stored", PATIENCE, stored).await;
    }
    let running = Running::start(with_devices()).await;
    running.program.says(listens).await;
    say(&running, "number/well", "4");
    say(&running, "number/tank", "5");
    publish_all(&running, "light", "row\n1\n2\n3\n").await;
    support::eventually("they are stored", PATIENCE, async || running.ledger().await.total.stored == 5).await;
    let status = running.status().await;
    let well = status.publishers.iter().find(|publisher| publisher.id.as_str() == "well").unwrap();
    assert_eq!((well.ledger.received, well.ledger.stored), (1, 1), "{well:?}");

    let agreed = reconcile(&running, &place).await;
    assert_eq!((agreed.code, view(&agreed).exact), (Some(0), true), "{agreed:?}");
    let lines = view(&agreed).publishers;
    let counted: Vec<_> = lines.iter().map(|line| (line.publisher.as_str(), line.counted)).collect();
    assert_eq!(counted, [("light", 3), ("tank", 1), ("well", 1)]);
    assert_eq!(view(&agreed).older_rows, 3, "two of well and one of gone");

    influx.query("rows", "DROP MEASUREMENT tank").await;
    let lacking = reconcile(&running, &[&place[..], &["--wait", "0"]].concat()).await;
    assert_eq!(lacking.code, Some(1), "{lacking:?}");
}

#[tokio::test]
async fn without_an_influxdb_the_embedded_store_is_counted() {
    let running = Running::start(RunOptions::default()).await;
    publish_all(&running, "light", "row\n1\n2\n3\n").await;
    let agreed = reconcile(&running, &["--json"]).await;
    assert_eq!((agreed.code, view(&agreed).exact), (Some(0), true), "{agreed:?}");
    assert_eq!(view(&agreed).publishers[0].counted, 3);
    let json: Value = serde_json::from_str(&agreed.stdout).unwrap();
    assert!(json["store"].as_str().unwrap().contains("embedded"), "{json}");
}
