//! What the monitor is measured against: InfluxDB at its best, and a bare subscriber.

use anyhow::Context as _;
use futures_util::StreamExt as _;
use rumqttc::{Event, Packet};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cores::Cores;
use super::load::{BROKER_SETTINGS, Load, MEASUREMENT_TIMEOUT, client};
use super::processes::{Used, pid_of};
use super::programs::{Influxd, directory, influxd_on, mosquitto, whole};
use super::sender::{READINGS_ON_THEIR_WAY_MAX, Sender};
use heartwatch_adapters::influx::{InfluxConfig, InfluxSink};
use heartwatch_ports::Sink as _;

/// Rows of one write: what the monitor sends at most.
const WRITE_ROWS: usize = 20_000;

/// What one of them does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference {
    pub rows_per_second: f64,
    pub cpu_seconds_per_million: f64,
}

impl Reference {
    /// The mean of two measurements, one before and one after what is compared with them: a machine that others share is
    /// not always as fast.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            rows_per_second: f64::midpoint(self.rows_per_second, other.rows_per_second),
            cpu_seconds_per_million: f64::midpoint(self.cpu_seconds_per_million, other.cpu_seconds_per_million),
        }
    }
}

/// InfluxDB with nothing else running, and its CPU time without who writes to it: the same rows in batches of the size and
/// order that the monitor sends, as many of them at once. It is one of its own, with no data: the one that is measured
/// would go on compacting these rows meanwhile. None where it is not installed.
///
/// # Errors
/// When it does not take them.
pub(super) async fn influxdb_alone(load: &Load, cores: Option<&Cores>) -> anyhow::Result<Option<Reference>> {
    let directory = directory(&std::env::temp_dir())?;
    let Some(mut database) = influxd_on(cores, directory.path()).await? else { return Ok(None) };
    let used = Used::now([pid_of(&database.program)?])?;
    let rows_per_second = best_of(load, &database).await?;
    let [cpu_seconds_per_million] = used.since(load.rows as u64)?;
    database.program.kill();
    Ok(Some(Reference { rows_per_second, cpu_seconds_per_million }))
}

async fn best_of(load: &Load, database: &Influxd) -> anyhow::Result<f64> {
    let mut config = InfluxConfig::at(database.url.clone());
    config.database = "best".to_owned();
    let sink = InfluxSink::new(config)?;
    sink.prepare().await?;
    let batches = load.batches(WRITE_ROWS)?;
    let start = Instant::now();
    let mut writes = futures_util::stream::iter(batches)
        .map(|batch| sink.write(batch.into()))
        .buffer_unordered(sink.writes_at_once());
    while let Some(written) = writes.next().await {
        written?;
    }
    Ok(whole(load.rows as u64) / start.elapsed().as_secs_f64())
}

/// A subscriber that acknowledges and counts, and does nothing else, with a broker like the monitor's and the same publishers;
/// the CPU time is that of all of them. The broker is one of its own: what it keeps of a million messages is no burden
/// for the next measurement. None where it is not installed.
///
/// # Errors
/// When not all messages arrive.
pub(super) async fn bare_subscriber(load: &Load) -> anyhow::Result<Option<Reference>> {
    let directory = directory(&std::env::temp_dir())?;
    let Some((broker, mqtt_url)) = mosquitto(directory.path(), BROKER_SETTINGS).await? else { return Ok(None) };
    let (client, mut connection) = client(&mqtt_url, "heartwatch-bench-bare")?;
    client.subscribe("heartwatch/v1/+/readings", rumqttc::QoS::AtLeastOnce).await?;
    while !matches!(connection.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
    let sender = Sender::prepare(load, &mqtt_url)?;
    // as seldom as the monitor is asked
    let tell_every = (READINGS_ON_THEIR_WAY_MAX / 8).div_ceil(load.readings_per_message);
    let (messages, mut came) = (load.messages(), 0);
    let used = Used::now([pid_of(&broker)?, std::process::id()])?;
    let start = Instant::now();
    let (arrived, arriving) = watch::channel(0);
    let sending = sender.start(arriving);
    let count = async {
        while came < messages {
            if matches!(connection.poll().await?, Event::Incoming(Packet::Publish(_))) {
                came += 1;
                if came.is_multiple_of(tell_every) {
                    arrived.send_replace(came * load.readings_per_message);
                }
            }
        }
        anyhow::Ok(())
    };
    let counted = tokio::time::timeout(MEASUREMENT_TIMEOUT, count).await;
    counted
        .with_context(|| format!("{} messages did not arrive within {MEASUREMENT_TIMEOUT:?}", messages - came))??;
    let seconds = start.elapsed().as_secs_f64();
    let rows = load.rows as u64;
    let cpu_seconds_per_million = used.since(rows)?.iter().sum();
    sending.finish().await?;
    Ok(Some(Reference { rows_per_second: whole(rows) / seconds, cpu_seconds_per_million }))
}
