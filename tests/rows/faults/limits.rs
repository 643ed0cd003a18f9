//! Full buffers: what does not fit stays where it is, and nothing is given up.

use std::time::Duration;

use tokio::time::Instant;

use super::{ARRIVAL, all_in, all_stored, ends_with_nothing_left, into, publisher};
use crate::support::eventually;
use crate::support::heartwatch::{RunOptions, Running};
use crate::support::influxd::Influxd;
use crate::support::mosquitto::Mosquitto;

#[tokio::test]
async fn at_the_monitors_disk_limit_publishers_keep_their_readings_until_influxdb_is_back() {
    let Some(mut influxd) = Influxd::start().await else { return };
    influxd.kill();
    let config = "[buffer]\nbytes_max = '1MiB'\n".to_owned();
    let monitor = Running::start(RunOptions { config, ..into(&influxd) }).await;
    let arguments = ["--interval", "0", "--limit", "30000"];
    let mut light = publisher(monitor.directory(), "light-1", monitor.mqtt_url(), &arguments);
    monitor.program.says("the journal has reached its limit").await;
    let end = Instant::now() + ARRIVAL;
    let full = loop {
        let total = monitor.ledger().await.total;
        if total.missing > 1_000 {
            break total;
        }
        assert!(Instant::now() < end, "nothing is missing at the limit: {total:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(full.balances() && full.lost == 0 && full.stored == 0 && full.buffered > 1_000, "{full:?}");
    // Verdicts have a margin of their own above the limit.
    let margin = 64 * 1024;
    let bounded = async || {
        // A writer whose disk is busy may not answer in time, and is left out.
        monitor.status().await.sinks.first().is_some_and(|sink| sink.buffered_bytes <= (1 << 20) + margin)
    };
    eventually("the journal keeps its limit", ARRIVAL, bounded).await;
    influxd.restart().await;
    ends_with_nothing_left(&mut light).await;
    all_in(&influxd, &monitor, 30_000).await;
}

#[tokio::test]
async fn a_full_outbox_makes_the_source_wait_and_loses_nothing() {
    let Some(mut mosquitto) = Mosquitto::start().await else { return };
    mosquitto.kill();
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--interval", "0", "--limit", "10000", "--outbox-bytes-max", "256KiB"];
    let mut light = publisher(directory.path(), "light-1", &mosquitto.url(), &arguments);
    light.says("readings wait: the outbox takes no more").await;
    // while it waits it hardly works
    let before = cpu_ticks(light.pid());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let ticks = cpu_ticks(light.pid()) - before;
    assert!(ticks < 100, "{ticks} of 200 ticks of CPU time in two seconds of waiting");

    mosquitto.restart().await;
    let monitor = Running::start(RunOptions { mqtt: Some(mosquitto.url()), ..RunOptions::default() }).await;
    ends_with_nothing_left(&mut light).await;
    all_stored(&monitor, 10_000).await;
}

/// User and system time, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
