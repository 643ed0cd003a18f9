//! The commands that ask a running monitor: `status`, `top`, `explain`, `events`, `maintenance`, `ledger`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

use crate::config::Overrides;
use heartwatch_domain::deadline::IdPattern;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_formats::values::{duration, id_pattern, influx_url, monitor_url, name, positive_duration};

/// Which monitor to ask, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AskArgs {
    /// The running monitor
    #[arg(
        long,
        value_name = "URL",
        env = "HEARTWATCH_URL",
        default_value = "http://127.0.0.1:8080",
        value_parser = monitor_url
    )]
    pub url: Url,
    /// A file with the token that the monitor wants, or HEARTWATCH_TOKEN [env: HEARTWATCH_TOKEN_FILE]
    #[arg(long, value_name = "FILE", env = "HEARTWATCH_TOKEN_FILE", hide_env = true)]
    pub token_file: Option<PathBuf>,
    /// Print JSON, for a program
    #[arg(long)]
    pub json: bool,
}

/// `heartwatch doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch doctor
  heartwatch doctor --config /etc/heartwatch/heartwatch.toml > report.md

Looks at this machine, the configuration, the data directory, the servers that it names, and a monitor that runs. Nothing secret is in \
what it prints. Exit code 1 when something is wrong.")]
pub struct DoctorArgs {
    /// The configuration [default: heartwatch.toml where it is there] [env: HEARTWATCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data directory [default: data] [env: HEARTWATCH_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The running monitor
    #[arg(
        long,
        value_name = "URL",
        env = "HEARTWATCH_URL",
        default_value = "http://127.0.0.1:8080",
        value_parser = monitor_url
    )]
    pub url: Url,
    /// A file with the token that the monitor wants, or HEARTWATCH_TOKEN [env: HEARTWATCH_TOKEN_FILE]
    #[arg(long, value_name = "FILE", env = "HEARTWATCH_TOKEN_FILE", hide_env = true)]
    pub token_file: Option<PathBuf>,
}

/// `heartwatch explain`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch explain light-1
  heartwatch explain light-1 --json")]
pub struct ExplainArgs {
    /// The publisher's id
    #[arg(value_name = "ID")]
    pub publisher: PublisherId,
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `heartwatch events`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch events
  heartwatch events --follow --json | while read -r change; do …; done")]
pub struct EventsArgs {
    /// Go on and print changes as they happen
    #[arg(long, short)]
    pub follow: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `heartwatch maintenance`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch maintenance                                      # which windows there are
  heartwatch maintenance 'light-*' --for 2h --reason 'new disk'
  heartwatch maintenance host:plant-7 --for 30m               # everyone on a host
  heartwatch maintenance 'light-*' --end

Verdicts are decided, recorded and shown as ever; nobody is told. What is still wrong at the end of a \
window is told then. Windows survive a restart. [[maintenance]] in heartwatch.toml schedules them.")]
pub struct MaintenanceArgs {
    /// For whom: an id, a pattern with *, or host:NAME for everyone there
    #[arg(value_name = "PATTERN", value_parser = id_pattern)]
    pub publisher: Option<IdPattern>,
    /// Open a window from now on, for so long
    #[arg(long = "for", value_name = "DURATION", value_parser = positive_duration, requires = "publisher")]
    pub lasts: Option<Duration>,
    /// Why, for whoever looks
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, requires = "lasts")]
    pub reason: String,
    /// End the windows that were opened for exactly this pattern
    #[arg(long, requires = "publisher", conflicts_with = "lasts")]
    pub end: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `heartwatch ledger`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LedgerArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Count the rows in the store itself and compare
    #[arg(long)]
    pub reconcile: bool,
    /// Wait so long for rows that are on their way
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, requires = "reconcile")]
    pub wait: Duration,
    /// The configuration of the monitor [default: heartwatch.toml where it is there] [env: HEARTWATCH_CONFIG]
    #[arg(long, value_name = "FILE", requires = "reconcile")]
    pub config: Option<PathBuf>,
    /// The InfluxDB to count in [env: HEARTWATCH_INFLUX_URL]
    #[arg(long, value_name = "URL", value_parser = influx_url, requires = "reconcile")]
    pub influx_url: Option<Url>,
    /// Its database [default: heartwatch] [env: HEARTWATCH_INFLUX_DB]
    #[arg(long, value_name = "DATABASE", value_parser = name, requires = "reconcile")]
    pub influx_db: Option<String>,
    /// The monitor's data directory [default: data] [env: HEARTWATCH_DATA_DIR]
    #[arg(long, value_name = "DIR", requires = "reconcile")]
    pub data_dir: Option<PathBuf>,
}

impl LedgerArgs {
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
