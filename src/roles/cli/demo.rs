//! `heartwatch demo`: its stories.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use url::Url;

use crate::config::Overrides;
use heartwatch_formats::values::{WebListen, influx_url, positive_duration};
use heartwatch_lab::args::ClusterArgs;

/// `heartwatch demo`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    after_help = "Examples:
  heartwatch demo 1
  heartwatch demo 2 --deadline 2s --web off
  heartwatch demo 3 --influx-url http://127.0.0.1:8086
  heartwatch demo cluster

Exit code 0 only when the verdicts at the end are the scenario's.",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub struct DemoArgs {
    /// Another story, with programs of its own
    #[command(subcommand)]
    pub other: Option<OtherDemo>,
    /// Which story to play
    #[arg(required = true)]
    pub scenario: Option<Scenario>,
    /// How long a publisher may be silent
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = positive_duration)]
    pub deadline: Duration,
    /// Write everything to this InfluxDB as well [env: HEARTWATCH_INFLUX_URL]
    #[arg(long, value_name = "URL", value_parser = influx_url)]
    pub influx_url: Option<Url>,
    /// Serve the page on this address, or off [default: 127.0.0.1:8080 where it is free]
    #[arg(long, value_name = "ADDRESS|off")]
    pub web: Option<WebListen>,
    /// Print the story and the verdicts as JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// Keep the data in this directory [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DemoArgs {
    /// What it sets over the environment.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            deadline: Some(self.deadline),
            influx_url: self.influx_url.clone(),
            web: self.web,
            data_dir: self.data_dir.clone(),
            ..Overrides::default()
        }
    }
}

/// The stories that `demo` plays, each with two publishers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Scenario {
    /// Both publishers work
    #[value(name = "1")]
    BothWork,
    /// One of them is killed
    #[value(name = "2")]
    OneKilled,
    /// Both are killed
    #[value(name = "3")]
    BothKilled,
}

/// A story that is not played with everything embedded.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum OtherDemo {
    /// etcd, Kafka, a server, two agents and the analysis: a live configuration, a command, a worker killed
    Cluster(ClusterArgs),
}
