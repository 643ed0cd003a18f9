//! The commands that read what was recorded, whether the monitor runs or not: `export` and `backtest`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

use crate::config::Overrides;
use heartwatch_domain::deadline::IdPattern;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::values::{id_pattern, influx_url, name, positive_duration};

/// `heartwatch export`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch export --out all.csv
  heartwatch export --out light.csv --measurement light-1 --from 2026-11-21T00:00:00Z
  heartwatch export --out all.csv --influx-url http://127.0.0.1:8086 --influx-db heartwatch

Without an InfluxDB it reads the local store in the data directory.")]
pub struct ExportArgs {
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Only readings from this time on
    #[arg(long, value_name = "TIME")]
    pub from: Option<Timestamp>,
    /// Only readings before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<Timestamp>,
    /// Only this measurement
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub measurement: Option<String>,
    /// A line for every value instead of a column for every field
    #[arg(long)]
    pub long: bool,
    /// Read from this InfluxDB [env: HEARTWATCH_INFLUX_URL]
    #[arg(long, value_name = "URL", value_parser = influx_url)]
    pub influx_url: Option<Url>,
    /// Its database [default: heartwatch] [env: HEARTWATCH_INFLUX_DB]
    #[arg(long, value_name = "DATABASE", value_parser = name)]
    pub influx_db: Option<String>,
    /// The monitor's data directory [default: data] [env: HEARTWATCH_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl ExportArgs {
    /// What it sets over the environment and the file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            influx_url: self.influx_url.clone(),
            influx_db: self.influx_db.clone(),
            data_dir: self.data_dir.clone(),
            ..Overrides::default()
        }
    }
}

/// `heartwatch backtest`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch backtest --deadline 2s --deadline 5s --deadline 30s
  heartwatch backtest --deadline 10s --publisher 'light-*' --from 2026-11-20T00:00:00Z --json

It reads the heartbeats and the verdicts that the monitor's journal keeps (buffer.history), also while the \
monitor runs: how often each deadline would have fired, how often truly, and how much sooner.")]
pub struct BacktestArgs {
    /// A deadline to try; may be given more than once
    #[arg(long, value_name = "DURATION", required = true, value_parser = positive_duration)]
    pub deadline: Vec<Duration>,
    /// Only of these publishers: an id, or a pattern with *
    #[arg(long, value_name = "PATTERN", value_parser = id_pattern)]
    pub publisher: Option<IdPattern>,
    /// From this time on
    #[arg(long, value_name = "TIME")]
    pub from: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<Timestamp>,
    /// Print the results as one JSON object
    #[arg(long)]
    pub json: bool,
    /// The configuration of the monitor [default: heartwatch.toml where it is there] [env: HEARTWATCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The monitor's data directory [default: data] [env: HEARTWATCH_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}
