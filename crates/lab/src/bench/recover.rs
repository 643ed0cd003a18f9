//! An outage of InfluxDB that has left a backlog: how fast it is drained, and how old the newest live row in
//! InfluxDB is meanwhile.

use std::time::Duration;

use anyhow::Context as _;
use rumqttc::QoS;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ingest::wait_for;
use super::load::{BROKER_SETTINGS, Load, client};
use super::processes::{resident_bytes, resident_bytes_max};
use super::programs::{Influxd, RunningMonitor, directory, influxd, mosquitto, whole};
use super::reference::influxdb_alone;
use super::repeated::Middle;
use super::sender::Sender;
use crate::args::RecoverBenchArgs;
use heartwatch_adapters::influx::{InfluxConfig, InfluxReader};
use heartwatch_console::drawing;
use heartwatch_console::tables;
use heartwatch_domain::publisher::{HostName, Incarnation, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_formats::envelope::{Prefix, TopicKind, encode_readings};
use heartwatch_system::clock::Clock;

/// Readings of the live publisher: ten a second.
const LIVE_EVERY: Duration = Duration::from_millis(100);
/// How often it is asked how old the newest live row is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Publishers of the backlog, and readings in each of their messages.
const PUBLISHERS: usize = 10;
const READINGS_PER_MESSAGE: usize = 500;

/// What came out.
#[derive(Debug, serde::Serialize)]
struct RecoveryFigures {
    backlog_rows: usize,
    rows_per_second: f64,
    influxdb_rows_per_second: f64,
    live_age_max_ms: f64,
    resident_mib_before: f64,
    /// At most, while the backlog grew.
    resident_mib_outage_max: f64,
    resident_mib_after: f64,
}

impl RecoveryFigures {
    fn of_influxdb(&self) -> f64 {
        self.rows_per_second / self.influxdb_rows_per_second
    }
}

/// Makes an outage of each size, ends it, and prints how the monitor recovers.
pub(super) async fn recover(args: &RecoverBenchArgs) -> anyhow::Result<u8> {
    let mut measured = Vec::new();
    for &rows in &args.rows {
        let load = Load { publishers: PUBLISHERS, readings_per_message: READINGS_PER_MESSAGE, rows };
        let name = format!("a backlog of {rows} rows");
        let measure = || measure(&load);
        let middle = Middle::of_times(args.times, args.json, &name, measure, RecoveryFigures::of_influxdb).await?;
        let Some(middle) = middle else { return Ok(0) };
        measured.push(middle);
    }
    if !args.json {
        print!("{}", table(&measured));
    }
    Ok(0)
}

fn table(measured: &[Middle<RecoveryFigures>]) -> String {
    let mut titles = vec![
        "BACKLOG ROWS",
        "ROWS/S",
        "INFLUXDB",
        "OF INFLUXDB",
        "LIVE AGE MAX",
        "MEMORY BEFORE",
        "OUTAGE MAX",
        "AFTER",
    ];
    titles.extend(Middle::titles(measured));
    let rows = measured.iter().map(|line| {
        let m = &line.measured;
        let mut cells = vec![
            m.backlog_rows.to_string(),
            format!("{:.0}", m.rows_per_second),
            format!("{:.0}", m.influxdb_rows_per_second),
            format!("{:.2}", m.of_influxdb()),
            format!("{:.0} ms", m.live_age_max_ms),
            format!("{:.1} MiB", m.resident_mib_before),
            format!("{:.1} MiB", m.resident_mib_outage_max),
            format!("{:.1} MiB", m.resident_mib_after),
        ];
        cells.extend(line.cells(measured));
        cells
    });
    tables::plain(&titles, rows, drawing())
}

/// One outage; none where a server is missing.
async fn measure(load: &Load) -> anyhow::Result<Option<RecoveryFigures>> {
    let Some(alone_before) = influxdb_alone(load, None).await? else { return Ok(None) };
    let directory = directory(&std::env::temp_dir())?;
    let broker = mosquitto(directory.path(), BROKER_SETTINGS).await?;
    let database = influxd(directory.path()).await?;
    let (Some((_broker, mqtt_url)), Some(mut database)) = (broker, database) else { return Ok(None) };
    let monitor = RunningMonitor::start(directory.path(), Some(&mqtt_url), Some(database.url.as_str())).await?;
    let pid = monitor.pid().context("the monitor has ended")?;
    let resident_mib_before = mebibytes(resident_bytes(pid)?);

    database.program.kill();
    let rows = load.rows as u64;
    let (arrived, arriving) = watch::channel(0);
    let sending = Sender::prepare(load, &mqtt_url)?.start(arriving);
    wait_for(&monitor, |total| {
        arrived.send_replace(usize::try_from(total.received).unwrap_or(usize::MAX));
        rows.saturating_sub(total.received)
    })
    .await?;
    sending.finish().await?;
    let resident_mib_outage_max = mebibytes(resident_bytes_max(pid)?);

    let live = actix_rt::spawn(publish_live(mqtt_url.clone()));
    tokio::time::sleep(LIVE_EVERY).await;
    database.program.start().await?;
    let start = Instant::now();
    let mut live_age_max_ms: f64 = 0.0;
    tokio::select! {
        drained = wait_for(&monitor, |total| rows.saturating_sub(total.stored)) => drained?,
        error = watch_live_age(&database, &mut live_age_max_ms) => return Err(error),
    }
    let seconds = start.elapsed().as_secs_f64();
    let resident_mib_after = mebibytes(resident_bytes(pid)?);
    live.abort();
    monitor.stop().await?;
    database.program.kill();
    let Some(alone_after) = influxdb_alone(load, None).await? else { return Ok(None) };
    Ok(Some(RecoveryFigures {
        backlog_rows: load.rows,
        rows_per_second: whole(rows) / seconds,
        influxdb_rows_per_second: alone_before.and(alone_after).rows_per_second,
        live_age_max_ms,
        resident_mib_before,
        resident_mib_outage_max,
        resident_mib_after,
    }))
}

/// Ten readings a second, at QoS 1, each with the time at which it is sent.
async fn publish_live(mqtt_url: String) -> anyhow::Result<()> {
    let (client, mut connection) = client(&mqtt_url, "heartwatch-bench-live")?;
    actix_rt::spawn(async move { while connection.poll().await.is_ok() {} });
    let (clock, host, id) = (Clock::start(), HostName::parse("bench")?, PublisherId::parse("live")?);
    let topic = Prefix::default().topic(&id, TopicKind::Readings);
    let mut sequence = 0;
    loop {
        sequence += 1;
        let fields = vec![("value".to_owned(), FieldValue::Integer(1))];
        let reading =
            Reading { sequence, time: clock.wall(), measurement: "live".to_owned(), tags: Vec::new(), fields };
        for payload in encode_readings(&host, Incarnation(1), &[reading], usize::MAX)? {
            client.publish(&topic, QoS::AtLeastOnce, false, payload).await?;
        }
        tokio::time::sleep(LIVE_EVERY).await;
    }
}

/// Notes the largest age of the newest live row that InfluxDB has; where it has none yet, or does not answer yet, the
/// time since this was called. It ends only with an error.
async fn watch_live_age(database: &Influxd, age_max_ms: &mut f64) -> anyhow::Error {
    let clock = Clock::start();
    let reader = match InfluxReader::new(InfluxConfig::at(database.url.clone())) {
        Ok(reader) => reader,
        Err(error) => return error.into(),
    };
    let mut newest = clock.wall().as_nanos();
    loop {
        let asked = reader.query("SELECT last(\"value\") FROM \"live\"").await;
        let found = asked.ok().and_then(|series| series.first()?.values.first()?.first()?.as_i64());
        newest = newest.max(found.unwrap_or(newest));
        let age = whole(u64::try_from(clock.wall().as_nanos() - newest).unwrap_or(0)) / 1e6;
        *age_max_ms = age_max_ms.max(age);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn mebibytes(bytes: u64) -> f64 {
    whole(bytes) / 1024.0 / 1024.0
}
