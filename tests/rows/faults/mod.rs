//! Every row end to end: the real program with a real InfluxDB and a real mosquitto, killed, cut off,
//! filled up and misled, and in the end exactly the readings that were produced.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

mod brokers;
mod conflicts;
mod devices;
mod disk;
mod inputs;
mod limits;
mod outages;
mod points;

use crate::support;
use std::path::Path;
use std::time::Duration;

use heartwatch_formats::api::LedgerView;
use support::heartwatch::{Program, RunOptions, Running, command, fixture};
use support::influxd::Influxd;
use tokio::time::Instant;

/// The database that a monitor writes to when nothing else is said.
const DATABASE: &str = "heartwatch";
/// How long rows may take to arrive on a machine that has other things to do.
const ARRIVAL: Duration = Duration::from_secs(90);

/// A monitor that writes to this InfluxDB.
fn into(influxd: &Influxd) -> RunOptions {
    let arguments = vec!["--influx-url".to_owned(), influxd.url()];
    // the liveness of the publishers is not what is tested here
    RunOptions { arguments, deadline: Duration::from_secs(60), ..RunOptions::default() }
}

/// A publisher of measurement `light` with an outbox of its own in `directory`.
fn publisher(directory: &Path, id: &str, mqtt_url: &str, arguments: &[&str]) -> Program {
    Program::start(publish_command(directory, id, mqtt_url, arguments))
}

/// The command of such a publisher.
fn publish_command(directory: &Path, id: &str, mqtt_url: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = command(directory);
    command.args(["publish", "--id", id, "--mqtt", mqtt_url, "--heartbeat", "500ms", "--measurement", "light"]);
    command.arg("--csv").arg(fixture("light-2.csv")).arg("--data-dir").arg(directory.join(id)).args(arguments);
    command
}

/// Waits until the final store has confirmed so many readings and nothing waits; then the ledger must
/// balance with nothing lost, nothing missing and not one reading more.
async fn all_stored(monitor: &Running, readings: u64) -> LedgerView {
    let end = Instant::now() + ARRIVAL;
    loop {
        let ledger = monitor.ledger().await;
        assert!(ledger.balances, "it always balances: {ledger:?}");
        if ledger.total.stored >= readings && ledger.total.buffered == 0 && ledger.total.missing == 0 {
            let total = ledger.total;
            assert_eq!((total.produced, total.stored, total.lost), (readings, readings, 0), "{ledger:?}");
            return ledger;
        }
        assert!(Instant::now() < end, "not {readings} readings after {ARRIVAL:?}: {ledger:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The same, and InfluxDB itself has exactly so many.
async fn all_in(influxd: &Influxd, monitor: &Running, readings: u64) -> LedgerView {
    let ledger = all_stored(monitor, readings).await;
    assert_eq!(influxd.count(DATABASE, "light", "value").await, readings, "{ledger:?}");
    ledger
}

/// Waits until the monitor has received so many readings.
async fn received(monitor: &Running, readings: u64) {
    support::eventually(&format!("{readings} readings have come"), ARRIVAL, async || {
        monitor.ledger().await.total.received >= readings
    })
    .await;
}

/// A publisher comes to its end in order, with every reading confirmed.
async fn ends_with_nothing_left(publisher: &mut Program) {
    let status = publisher.exit(ARRIVAL).await;
    // its last lines may still be on their way through the pipe
    publisher.says("left=").await;
    let said = publisher.stderr();
    assert!(status.code() == Some(0) && said.contains("left=0"), "{said}");
}
