//! Confirmed rows a second from MQTT at QoS 1 through the journal into InfluxDB, and the CPU time that
//! they cost: against a bare subscriber that only counts, on the same broker, and against what InfluxDB takes at best, each of
//! them measured before and afterwards: a machine that others share is not always as fast.

use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::time::Instant;

use super::cores::Cores;
use super::load::{BROKER_SETTINGS, Load, MEASUREMENT_TIMEOUT};
use super::processes::{Used, cores_of_machine, idle_seconds, pid_of};
use super::programs::{RunningMonitor, directory, influxd_on, mosquitto, whole};
use super::reference::{bare_subscriber, influxdb_alone};
use super::repeated::Middle;
use super::sender::{READINGS_ON_THEIR_WAY_MAX, Sender};
use crate::args::IngestBenchArgs;
use heartwatch_adapters::monitor::AskError;
use heartwatch_console::drawing;
use heartwatch_console::tables::{self, Drawing};
use heartwatch_domain::ledger::Account;

/// How often the ledger is looked at: seldom, since the answer has a line for each publisher and costs the monitor
/// something too; more often towards the end, and so that the publishers hear in time what has arrived.
const LOOK_EVERY_MAX: Duration = Duration::from_millis(250);
const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);
const LOOK_EVERY_ROWS_MAX: u64 = READINGS_ON_THEIR_WAY_MAX as u64 / 8;
/// So many answers that do not come, one after the other, mean that the monitor has ended.
const FAILURES_MAX: u32 = 20;
/// One reading a message is measured with so many fewer of them.
const SINGLE_ONE_OF: usize = 5;

/// One measurement.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct IngestFigures {
    pub publishers: usize,
    pub readings_per_message: usize,
    pub rows: usize,
    pub rows_per_second: f64,
    pub bare_rows_per_second: f64,
    pub influxdb_rows_per_second: f64,
    /// Rows against those that InfluxDB would have written in the CPU time that all others have left to it.
    pub of_influxdb_cpu_left: f64,
    /// The part of the time in which nothing ran on a core that InfluxDB may use.
    pub idle_share: f64,
    pub monitor_cpu_seconds_per_million: f64,
    pub broker_cpu_seconds_per_million: f64,
    pub influxdb_cpu_seconds_per_million: f64,
    pub publishers_cpu_seconds_per_million: f64,
    /// The broker, the publishers and the subscriber that only counts.
    pub bare_cpu_seconds_per_million: f64,
    /// InfluxDB alone, without who writes to it.
    pub influxdb_alone_cpu_seconds_per_million: f64,
}

impl IngestFigures {
    fn of_bare(&self) -> f64 {
        self.rows_per_second / self.bare_rows_per_second
    }

    fn of_influxdb(&self) -> f64 {
        self.rows_per_second / self.influxdb_rows_per_second
    }

    /// What is asked about: with one reading a message the broker is the limit, with batches it is InfluxDB.
    fn of_its_limit(&self) -> f64 {
        if self.readings_per_message == 1 { self.of_bare() } else { self.of_influxdb() }
    }
}

/// Measures every combination; none where a server is missing, which is said.
async fn measure_all(args: &IngestBenchArgs) -> anyhow::Result<Vec<Middle<IngestFigures>>> {
    let mut measured = Vec::new();
    let cores = if args.apart { Some(Cores::apart()?) } else { None };
    for &readings_per_message in &args.batch {
        for &publishers in &args.publishers {
            let rows = if readings_per_message == 1 { args.rows / SINGLE_ONE_OF } else { args.rows };
            let load = Load { publishers, readings_per_message, rows };
            let name = format!("{publishers} publishers with {readings_per_message} a message");
            let measure = || measure(&load, cores.as_ref());
            let middle = Middle::of_times(args.times, args.json, &name, measure, IngestFigures::of_its_limit).await?;
            let Some(middle) = middle else { return Ok(measured) };
            measured.push(middle);
        }
    }
    Ok(measured)
}

/// Measures rows a second and prints the table.
pub(super) async fn ingest(args: &IngestBenchArgs) -> anyhow::Result<u8> {
    let measured = measure_all(args).await?;
    if !args.json {
        print!("{}", rates(&measured, drawing()));
    }
    Ok(0)
}

/// Measures the same and prints what it costs.
pub(super) async fn cpu(args: &IngestBenchArgs) -> anyhow::Result<u8> {
    let measured = measure_all(args).await?;
    if !args.json {
        print!("{}", costs(&measured, drawing()));
    }
    Ok(0)
}

async fn measure(load: &Load, cores: Option<&Cores>) -> anyhow::Result<Option<IngestFigures>> {
    let Some(alone_before) = influxdb_alone(load, cores).await? else { return Ok(None) };
    let Some(bare_before) = bare_subscriber(load).await? else { return Ok(None) };

    let directory = directory(&std::env::temp_dir())?;
    let Some((broker, mqtt_url)) = mosquitto(directory.path(), BROKER_SETTINGS).await? else { return Ok(None) };
    let (broker_pid, own_pid) = (pid_of(&broker)?, std::process::id());
    let Some(mut database) = influxd_on(cores, directory.path()).await? else { return Ok(None) };
    let influxd_pid = pid_of(&database.program)?;
    let rows = load.rows as u64;
    let monitor = RunningMonitor::start(directory.path(), Some(&mqtt_url), Some(database.url.as_str())).await?;
    let monitor_pid = monitor.pid().context("the monitor has ended")?;
    let sender = Sender::prepare(load, &mqtt_url)?;
    let used = Used::now([monitor_pid, broker_pid, influxd_pid, own_pid])?;
    // where it has a core of its own, time on the others is not left to it
    let its_core = cores.map(|cores| cores.last_core);
    let (start, idle_before) = (Instant::now(), idle_seconds(its_core)?);
    let (arrived, arriving) = watch::channel(0);
    let sending = sender.start(arriving);
    wait_for(&monitor, |total| {
        // What goes on and on is measured: a backlog that grows and is read back from the disk is `bench recover`.
        arrived.send_replace(usize::try_from(total.stored).unwrap_or(usize::MAX));
        rows.saturating_sub(total.stored)
    })
    .await?;
    let seconds = start.elapsed().as_secs_f64();
    let [monitor_cpu, broker_cpu, influxdb_cpu, publishers_cpu] = used.since(rows)?;
    let idle = idle_seconds(its_core)? - idle_before;
    let its_cores = if its_core.is_some() { 1 } else { cores_of_machine()? };
    let left_cpu = influxdb_cpu + idle * 1e6 / whole(rows);
    sending.finish().await?;
    monitor.stop().await?;
    database.program.kill();
    drop(broker);

    let Some(bare_after) = bare_subscriber(load).await? else { return Ok(None) };
    let Some(alone_after) = influxdb_alone(load, cores).await? else { return Ok(None) };
    let (bare, alone) = (bare_before.and(bare_after), alone_before.and(alone_after));
    Ok(Some(IngestFigures {
        publishers: load.publishers,
        readings_per_message: load.readings_per_message,
        rows: load.rows,
        rows_per_second: whole(rows) / seconds,
        bare_rows_per_second: bare.rows_per_second,
        influxdb_rows_per_second: alone.rows_per_second,
        of_influxdb_cpu_left: alone.cpu_seconds_per_million / left_cpu.max(f64::MIN_POSITIVE),
        idle_share: idle / (seconds * whole(its_cores as u64)),
        monitor_cpu_seconds_per_million: monitor_cpu,
        broker_cpu_seconds_per_million: broker_cpu,
        influxdb_cpu_seconds_per_million: influxdb_cpu,
        publishers_cpu_seconds_per_million: publishers_cpu,
        bare_cpu_seconds_per_million: bare.cpu_seconds_per_million,
        influxdb_alone_cpu_seconds_per_million: alone.cpu_seconds_per_million,
    }))
}

/// Waits until no rows are left to come, as the monitor's ledger says.
///
/// # Errors
/// When it is not in time, or the monitor does not answer.
pub(super) async fn wait_for(monitor: &RunningMonitor, left: impl Fn(&Account) -> u64) -> anyhow::Result<()> {
    let end = Instant::now() + MEASUREMENT_TIMEOUT;
    let mut failures = 0;
    let mut before: Option<(Instant, u64)> = None;
    loop {
        let answer = monitor.monitor.ledger().await;
        failures = if answer.is_ok() { 0 } else { failures + 1 };
        let mut pause = LOOK_EVERY_MIN;
        match answer {
            Ok(view) => {
                anyhow::ensure!(view.total.lost == 0, "rows were lost: {:?}", view.total);
                let (now, left) = (Instant::now(), left(&view.total));
                if left == 0 {
                    return Ok(());
                }
                pause =
                    before.map_or(pause, |(then, left_then)| pace(now - then, left_then.saturating_sub(left), left));
                before = Some((now, left));
            }
            // asked too often is no failure: the page has a limit for each client
            Err(AskError::Refused { .. }) => {}
            // a connection that was kept, and closed for want of use while millions of messages were made
            Err(_) if failures < FAILURES_MAX => {}
            Err(error) => return Err(error.into()),
        }
        anyhow::ensure!(Instant::now() < end, "the rows did not arrive within {MEASUREMENT_TIMEOUT:?}");
        tokio::time::sleep(pause).await;
    }
}

/// When to look again, where so many rows have come meanwhile and so many are left.
fn pace(meanwhile: Duration, came: u64, left: u64) -> Duration {
    let rows = LOOK_EVERY_ROWS_MAX.min(left / 2);
    let due = meanwhile.mul_f64(whole(rows) / whole(came.max(1)));
    due.clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX)
}

fn rates(measured: &[Middle<IngestFigures>], drawing: Drawing) -> String {
    let mut titles = vec![
        "PUBLISHERS",
        "A MESSAGE",
        "ROWS",
        "ROWS/S",
        "BARE",
        "OF BARE",
        "INFLUXDB",
        "OF INFLUXDB",
        "OF ITS CPU",
        "IDLE",
    ];
    titles.extend(Middle::titles(measured));
    let rows = measured.iter().map(|line| {
        let m = &line.measured;
        let mut cells = vec![
            m.publishers.to_string(),
            m.readings_per_message.to_string(),
            m.rows.to_string(),
            format!("{:.0}", m.rows_per_second),
            format!("{:.0}", m.bare_rows_per_second),
            format!("{:.2}", m.of_bare()),
            format!("{:.0}", m.influxdb_rows_per_second),
            format!("{:.2}", m.of_influxdb()),
            format!("{:.2}", m.of_influxdb_cpu_left),
            format!("{:.0} %", m.idle_share * 100.0),
        ];
        cells.extend(line.cells(measured));
        cells
    });
    tables::plain(&titles, rows, drawing)
}

fn costs(measured: &[Middle<IngestFigures>], drawing: Drawing) -> String {
    let titles = [
        "PUBLISHERS",
        "A MESSAGE",
        "ROWS",
        "MONITOR CPU S/M",
        "BROKER",
        "PUBLISHERS",
        "INFLUXDB",
        "ALL OF BARE",
        "INFLUXDB ALONE",
    ];
    let rows = measured.iter().map(|line| {
        let m = &line.measured;
        vec![
            m.publishers.to_string(),
            m.readings_per_message.to_string(),
            m.rows.to_string(),
            format!("{:.2}", m.monitor_cpu_seconds_per_million),
            format!("{:.2}", m.broker_cpu_seconds_per_million),
            format!("{:.2}", m.publishers_cpu_seconds_per_million),
            format!("{:.2}", m.influxdb_cpu_seconds_per_million),
            format!("{:.2}", m.bare_cpu_seconds_per_million),
            format!("{:.2}", m.influxdb_alone_cpu_seconds_per_million),
        ]
    });
    tables::plain(&titles, rows, drawing)
}
