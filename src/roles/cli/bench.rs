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
