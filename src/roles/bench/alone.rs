//! What InfluxDB takes at best: the same rows in batches of the size and order that the monitor sends, as many of them at
//! once, with nothing else running.

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::cores::Cores;
use super::load::Load;
use super::processes::{Used, pid_of};
use super::programs::{Directory, Influxd, influxd_on, whole};
use crate::adapters::influx::{InfluxConfig, InfluxSink};
use crate::ports::Sink as _;

/// Rows of one write: what the monitor sends at most.
const WRITE_ROWS: usize = 20_000;

/// What it does, without who writes to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct InfluxdbAlone {
    pub rows_per_second: f64,
    pub cpu_seconds_per_million: f64,
}

impl InfluxdbAlone {
    /// Measures one of its own, with no data: not the one that is measured beside it, which would go on compacting these
    /// rows meanwhile. None where it is not installed.
    ///
    /// # Errors
    /// When it does not take them.
    pub async fn measure(load: &Load, cores: Option<&Cores>) -> anyhow::Result<Option<Self>> {
        let directory = Directory::below(&std::env::temp_dir())?;
        let Some(mut database) = influxd_on(cores, directory.path()).await? else { return Ok(None) };
        let used = Used::now([pid_of(&database.program)?])?;
        let rows_per_second = best_of(load, &database).await?;
        let [cpu_seconds_per_million] = used.since(load.rows as u64)?;
        database.kill().await?;
        Ok(Some(Self { rows_per_second, cpu_seconds_per_million }))
    }

    /// The mean of two measurements, one before and one after what is compared with them: a machine that others share is
    /// not always as fast.
    pub fn and(self, other: Self) -> Self {
        Self {
            rows_per_second: f64::midpoint(self.rows_per_second, other.rows_per_second),
            cpu_seconds_per_million: f64::midpoint(self.cpu_seconds_per_million, other.cpu_seconds_per_million),
        }
    }
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
