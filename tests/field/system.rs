//! This host as a publisher: `publish --system` and `system = true`, through a real monitor into a real InfluxDB.

use crate::support;
use heartwatch_domain::verdict::Verdict;
use support::eventually;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, command, finished};
use support::influxd::Influxd;

const DATABASE: &str = "heartwatch";

fn options(influxd: &Influxd, config: &str) -> RunOptions {
    let influx = format!("[influx]\nurl = '{}'\nflush_interval = '100ms'\n", influxd.url());
    RunOptions { config: format!("{influx}{config}"), ..RunOptions::default() }
}

/// The points of a metric, oldest first.
async fn points(influxd: &Influxd, metric: &str, publisher: &str) -> Vec<f64> {
    let query = format!("SELECT \"value\" FROM \"{metric}\" WHERE \"publisher\" = '{publisher}'");
    influxd.rows(DATABASE, &query).await.iter().filter_map(|row| row[1].as_f64()).collect()
}

#[tokio::test]
async fn a_host_is_published_with_rates_that_were_measured_and_is_watched_like_any_publisher() {
    let Some(influxd) = Influxd::start().await else { return };
    let config =
        "[[publisher]]\nid = 'configured'\nsystem = true\ninterval = '200ms'\nmetrics = ['memory', 'network']\n";
    let running = Running::start(options(&influxd, config)).await;
    let mut by_hand = command(running.directory());
    by_hand.args(["publish", "--id", "by-hand", "--system", "--interval", "250ms", "--heartbeat", "200ms"]);
    by_hand.args(["--mqtt", running.mqtt_url()]).arg("--data-dir").arg(running.directory().join("by-hand"));
    let mut publisher = Program::start(by_hand);
    publisher.says("publishing").await;

    for (id, metrics) in [
        ("by-hand", ["cpu", "memory", "disk", "net_in", "net_out"].as_slice()),
        ("configured", &["memory", "net_in", "net_out"]),
    ] {
        running.until(id, Verdict::Alive).await;
        for metric in metrics {
            let some = async || points(&influxd, metric, id).await.len() >= 4;
            eventually(&format!("{metric} of {id}"), PATIENCE, some).await;
        }
    }
    assert!(points(&influxd, "cpu", "configured").await.is_empty(), "it was not wanted");
    // a rate begins one sample later than what needs none, and no zero stands in its place
    let first = async |metric: &str| {
        let query = format!("SELECT first(\"value\") FROM \"{metric}\" WHERE \"publisher\" = 'by-hand'");
        influxd.rows(DATABASE, &query).await[0][0].as_i64().unwrap()
    };
    let (memory, cpu, received) = (first("memory").await, first("cpu").await, first("net_in").await);
    assert!(memory < cpu && memory < received, "{memory} {cpu} {received}");
    for metric in ["cpu", "memory", "disk"] {
        let values = points(&influxd, metric, "by-hand").await;
        assert!(values.iter().all(|value| (0.0..=100.0).contains(value)), "{metric}: {values:?}");
    }
    publisher.kill();
    running.until("by-hand", Verdict::Dead).await;
    let ledger = running.ledger().await;
    assert!(ledger.balances && ledger.total.lost == 0, "{ledger:?}");
}

#[tokio::test]
async fn once_is_one_whole_sample_and_a_limit_counts_readings() {
    let running = Running::start(RunOptions::default()).await;
    let publish = async |id: &str, more: &[&str]| {
        let words = ["publish", "--id", id, "--mqtt", running.mqtt_url(), "--data-dir", id, "--system"];
        let words = [words.as_slice(), more].concat();
        finished(running.directory(), &words, PATIENCE).await
    };
    let once = publish("once", &["--once", "--metrics", "cpu,memory,network", "--interval", "100ms"]).await;
    assert_eq!(once.code, Some(0), "{}", once.stderr);
    let limited = publish("limited", &["--limit", "5", "--interval", "100ms", "--metrics", "memory,disk"]).await;
    assert_eq!(limited.code, Some(0), "{}", limited.stderr);
    let produced = async |id: &str| {
        let ledger = running.ledger().await;
        ledger.accounts.iter().find(|line| line.publisher.as_str() == id).map_or(0, |line| line.account.produced)
    };
    for (id, readings) in [("once", 4), ("limited", 5)] {
        running.until(id, Verdict::Ended).await;
        assert_eq!(produced(id).await, readings, "{id}");
    }
    let wrong = publish("fast", &["--interval", "0"]).await;
    assert_eq!(wrong.code, Some(1), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("--interval: 0 ms is too short"), "{}", wrong.stderr);
}
