//! `heartwatch bench NAME`.

use clap::{Args, Subcommand};

/// `heartwatch bench`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch bench delivery
  heartwatch bench delivery --rows 200000 --json

Every figure is a ratio to another one of the same run: absolute figures depend on the machine.")]
pub struct BenchArgs {
    /// What to measure
    #[command(subcommand)]
    pub bench: Bench,
}

/// What can be measured.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Bench {
    /// Confirmed rows a second, by publishers, broker and storage
    #[command(after_help = "Examples:
  heartwatch bench delivery
  heartwatch bench delivery --rows 20000 --json

It starts monitors and publishers of its own. Real mosquitto takes part where it is installed.")]
    Delivery(DeliveryBenchArgs),
    /// The watchdog: heartbeats a second, memory a publisher, how late verdicts are
    #[command(after_help = "Examples:
  heartwatch bench watch
  heartwatch bench watch --publishers 1000,50000 --json

A tenth of the publishers falls silent at once while the others go on.")]
    Watch(WatchBenchArgs),
    /// A monitor with little to do: time to ready, CPU, memory, size of the program
    #[command(after_help = "Examples:
  heartwatch bench footprint
  heartwatch bench footprint --publishers 100 --json")]
    Footprint(FootprintBenchArgs),
}

/// `heartwatch bench watch`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct WatchBenchArgs {
    /// How many are watched, one measurement each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    pub publishers: Vec<usize>,
    /// Print JSON, one object a measurement
    #[arg(long)]
    pub json: bool,
}

/// `heartwatch bench footprint`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct FootprintBenchArgs {
    /// How many beat once a second, one measurement each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [0, 100, 10_000])]
    pub publishers: Vec<usize>,
    /// Print JSON, one object a measurement
    #[arg(long)]
    pub json: bool,
}

/// `heartwatch bench delivery`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DeliveryBenchArgs {
    /// Readings in each measurement
    #[arg(long, value_name = "READINGS", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=100_000_000))]
    pub rows: u64,
    /// Print JSON, one object a measurement
    #[arg(long)]
    pub json: bool,
}
