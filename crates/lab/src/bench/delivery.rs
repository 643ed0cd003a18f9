//! Confirmed rows a second: from a publisher's outbox over a broker into the monitor's journal, each
//! fsynced at both ends, against the same on a file system in memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::programs::{RunningMonitor, directory, heartwatch, mosquitto, whole};
use crate::args::DeliveryBenchArgs;
use heartwatch_adapters::monitor::AskError;
use heartwatch_console::drawing;
use heartwatch_console::tables::{self, Drawing};

/// How long one measurement may take.
const MEASUREMENT_TIMEOUT: Duration = Duration::from_secs(600);
/// How often the ledger is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A file system that is only memory, on Linux.
const MEMORY: &str = "/dev/shm";

/// One measurement.
#[derive(Debug, Clone, serde::Serialize)]
struct DeliveryFigures {
    broker: &'static str,
    publishers: u64,
    storage: &'static str,
    rows: u64,
    seconds: f64,
    rows_per_second: f64,
    /// Against the same broker and number of publishers in memory.
    of_memory: Option<f64>,
}

/// Measures every combination and prints the table.
pub(super) async fn delivery(args: &DeliveryBenchArgs) -> anyhow::Result<u8> {
    let mut measured: Vec<DeliveryFigures> = Vec::new();
    for broker in ["embedded", "mosquitto"] {
        for publishers in [1, 10] {
            for (storage, parent) in storages() {
                let Some(seconds) = measure(broker, publishers, args.rows, &parent).await? else {
                    eprintln!("skipped: mosquitto is not installed (Debian: apt-get install mosquitto)");
                    continue;
                };
                let rows_per_second = whole(args.rows) / seconds;
                let same =
                    |m: &&DeliveryFigures| m.broker == broker && m.publishers == publishers && m.storage == "memory";
                let of_memory = measured.iter().find(same).map(|memory| rows_per_second / memory.rows_per_second);
                let this = DeliveryFigures {
                    broker,
                    publishers,
                    storage,
                    rows: args.rows,
                    seconds,
                    rows_per_second,
                    of_memory,
                };
                if args.json {
                    println!("{}", serde_json::to_string(&this)?);
                }
                measured.push(this);
            }
        }
    }
    if !args.json {
        print!("{}", table(&measured, drawing()));
    }
    Ok(0)
}

fn storages() -> Vec<(&'static str, PathBuf)> {
    let mut storages = Vec::new();
    if Path::new(MEMORY).is_dir() {
        storages.push(("memory", PathBuf::from(MEMORY)));
    } else {
        eprintln!("skipped: memory only, there is no {MEMORY} here");
    }
    storages.push(("disk", std::env::temp_dir()));
    storages
}

async fn measure(broker: &str, publishers: u64, rows: u64, parent: &Path) -> anyhow::Result<Option<f64>> {
    let directory = directory(parent)?;
    let other = if broker == "mosquitto" {
        let Some(started) = mosquitto(directory.path(), "").await? else { return Ok(None) };
        Some(started)
    } else {
        None
    };
    let monitor = RunningMonitor::start(directory.path(), other.as_ref().map(|(_, url)| url.as_str()), None).await?;
    let csv = directory.path().join("light.csv");
    std::fs::write(&csv, include_str!("../../../../fixtures/light-1.csv"))?;

    let start = Instant::now();
    let mut programs = Vec::new();
    for number in 0..publishers {
        // The first ones take what does not divide evenly.
        let limit = rows / publishers + u64::from(number < rows % publishers);
        let mut command = heartwatch(directory.path())?;
        command.args(["publish", "--id", &format!("bench-{number}"), "--csv"]).arg(&csv);
        command.args(["--mqtt", &monitor.mqtt_url, "--interval", "0", "--heartbeat", "1s"]);
        command.args(["--limit", &limit.to_string(), "--data-dir", &format!("publisher-{number}")]);
        programs.push(command.spawn().context("cannot start a publisher")?);
    }
    loop {
        let total = match monitor.monitor.ledger().await {
            Ok(view) => view.total,
            // asked too often: the page has a limit for each client
            Err(AskError::Refused { .. }) if start.elapsed() < MEASUREMENT_TIMEOUT => {
                tokio::time::sleep(10 * LOOK_EVERY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if total.received >= rows {
            anyhow::ensure!(
                total.received == rows && total.lost == 0,
                "{rows} rows were sent, the ledger says {total:?}"
            );
            break;
        }
        anyhow::ensure!(start.elapsed() < MEASUREMENT_TIMEOUT, "only {} of {rows} rows arrived", total.received);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    for mut program in programs {
        program.wait().await?;
    }
    monitor.stop().await?;
    Ok(Some(seconds))
}

fn table(measured: &[DeliveryFigures], drawing: Drawing) -> String {
    let titles = ["BROKER", "PUBLISHERS", "STORAGE", "ROWS", "SECONDS", "ROWS/S", "OF MEMORY"];
    let rows = measured.iter().map(|m| {
        vec![
            m.broker.to_owned(),
            m.publishers.to_string(),
            m.storage.to_owned(),
            m.rows.to_string(),
            format!("{:.2}", m.seconds),
            format!("{:.0}", m.rows_per_second),
            m.of_memory.map_or_else(|| "1".to_owned(), |ratio| format!("{ratio:.2}")),
        ]
    });
    tables::plain(&titles, rows, drawing)
}
