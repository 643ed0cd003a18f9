//! The command line as types. A wrong argument ends the program with exit code 2 (clap's own).
//!
//! A secret is never the value of a flag, where every user of the machine can read it in the process table.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use url::Url;

use crate::config::Overrides;
use crate::config::values::{
    EtcdEndpoints, WebListen, address, duration, id_pattern, influx_url, kafka_brokers, monitor_url, mqtt_url, name,
    positive_duration,
};
use crate::domain::deadline::IdPattern;
use crate::domain::publisher::PublisherId;
use crate::domain::time::Timestamp;
use crate::web::users::Role;

mod agent;
mod bench;
mod broker;
mod exec;
mod publish;

pub use agent::AgentArgs;
pub use bench::{
    Bench, BenchArgs, DeliveryBenchArgs, DetectBenchArgs, FootprintBenchArgs, IngestBenchArgs, RecoverBenchArgs,
    ServerBenchArgs, WatchBenchArgs,
};
mod prove;
pub use broker::BrokerArgs;
pub use exec::ExecArgs;
pub use prove::{FaultKind, FaultyArgs, ProveArgs};
pub use publish::{PublishArgs, Size};
mod server;
pub use server::{AnalysisArgs, AnalysisOnly, ServerArgs, ServerAsk, ServerAt};

/// The whole command line.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(
    name = "heartwatch",
    version,
    about = "Watches programs that publish data: every silence explained, every row accounted for",
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "Examples:
  heartwatch demo 2                        one of two publishers is killed, and heartwatch says so
  heartwatch check && heartwatch run       the monitor, as heartwatch.toml says
  heartwatch status                        the verdict on every publisher

Durations: 250ms, 5s, 2m, 1h. Times: 2026-11-21T12:00:03Z.
Exit codes: 0 done, 1 failed, 2 wrong arguments, 78 the configuration can't be used."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Play a scenario from start to end, with everything embedded
    Demo(DemoArgs),
    /// Run the monitor, and the publishers that its configuration names
    Run(Box<RunArgs>),
    /// Run one publisher
    Publish(Box<PublishArgs>),
    /// Run a host's agent: its metrics, through plugins, and commands
    Agent(Box<AgentArgs>),
    /// Take agents' readings over gRPC and hand them on to Kafka; hand commands to agents
    Server(Box<ServerArgs>),
    /// Print and count what is on Kafka; send commands to agents
    Analysis(Box<AnalysisArgs>),
    /// Ask a running monitor for the verdict on every publisher
    #[command(after_help = "Examples:
  heartwatch status
  heartwatch status --url http://10.0.0.7:8080 --json")]
    Status(AskArgs),
    /// Look at a running monitor full screen, live
    #[command(after_help = "Examples:
  heartwatch top
  heartwatch top --url http://10.0.0.7:8080 --token-file token

Keys: up and down select, Enter explains, s sorts, r reverses, / filters, q quits.")]
    Top(AskArgs),
    /// Ask a running monitor why a publisher has its verdict
    Explain(ExplainArgs),
    /// Ask a running monitor for the changes of verdicts
    Events(EventsArgs),
    /// Have a running monitor call nobody about some publishers for a while
    Maintenance(MaintenanceArgs),
    /// Ask a running monitor for the account of every row
    #[command(after_help = "Examples:
  heartwatch ledger
  heartwatch ledger --json | jq '.accounts[] | select(.lost > 0)'
  heartwatch ledger --reconcile --influx-url http://127.0.0.1:8086 --influx-db heartwatch

With --reconcile the rows are counted in InfluxDB itself, or in the embedded store of a monitor without
one; exit code 1 when the ledger and the count differ. It knows the database from the flags, the
environment or heartwatch.toml. When no monitor answers, the account is read from its data directory.")]
    Ledger(LedgerArgs),
    /// Write readings to a CSV file, from InfluxDB or from the local store
    Export(ExportArgs),
    /// Name every mistake in the configuration, and what it would connect to
    Check(CheckArgs),
    /// Print the line of a users file for the page
    WebUser(WebUserArgs),
    /// Print what a shell needs to complete this program's words
    Completions(CompletionsArgs),
    /// Print a manual page
    Man(ManArgs),
    /// Measure this program on this machine
    Bench(BenchArgs),
    /// Replay the recorded arrivals of a run against other deadlines
    Backtest(BacktestArgs),
    /// Inject faults and print what was detected, and how fast
    Prove(ProveArgs),
    /// A publisher that can be made to fail, for `prove`
    #[command(hide = true)]
    FaultyPublisher(FaultyArgs),
}

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

/// A story that is not played with everything embedded.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum OtherDemo {
    /// etcd, Kafka, a server, two agents and the analysis: a live configuration, a command, a worker killed
    Cluster(ClusterArgs),
}

/// `heartwatch demo cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "It needs etcd, Java 17 and the jars of Kafka, which `make kafka` fetches to target/kafka/libs;
HEARTWATCH_KAFKA_LIBS names another folder with them. Ports are free ones; everything ends with it.

Exit code 0 only when everything was as the story says.")]
pub struct ClusterArgs {
    /// Print the story as JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// Keep everything on disk in this directory, with the logs of all parts [default: a temporary one that is removed]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
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

/// `heartwatch run`. A flag wins over the environment, the environment over the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(after_help = "Examples:
  heartwatch run
  heartwatch run --config /etc/heartwatch/heartwatch.toml
  heartwatch run --mqtt mqtt://broker:1883 --influx-url http://influx:8086 --deadline 20s
  HEARTWATCH_INFLUX_TOKEN=… heartwatch run --influx-org plant --influx-bucket heartwatch

Every option has a key in the file and a variable; flag over environment over file over default.
Secrets: HEARTWATCH_MQTT_PASSWORD, HEARTWATCH_INFLUX_PASSWORD, HEARTWATCH_INFLUX_TOKEN, or a file.
SIGTERM and SIGINT end it in order (a second one at once), SIGHUP reads the configuration again.")]
pub struct RunArgs {
    /// The configuration [default: heartwatch.toml where it is there] [env: HEARTWATCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything on disk is [default: data] [env: HEARTWATCH_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the embedded broker listens [default: 127.0.0.1:1883] [env: HEARTWATCH_MQTT_LISTEN]
    #[arg(long, value_name = "ADDRESS", value_parser = address, conflicts_with = "mqtt")]
    pub mqtt_listen: Option<std::net::SocketAddr>,
    /// Use this broker instead of the embedded one, mqtt:// or mqtts:// [env: HEARTWATCH_MQTT]
    #[arg(long, value_name = "URL", value_parser = mqtt_url)]
    pub mqtt: Option<Url>,
    /// Take readings from this Kafka, too, HOST:PORT with commas between several [env: HEARTWATCH_KAFKA]
    #[arg(long, value_name = "BROKERS", value_parser = kafka_brokers)]
    pub kafka: Option<String>,
    /// Look at once when an agent's lease in this etcd ends, http://HOST:PORT with commas between several [env: HEARTWATCH_ETCD]
    #[arg(long, value_name = "URL")]
    pub etcd: Option<EtcdEndpoints>,
    /// The InfluxDB; without it rows stay in the embedded store [env: HEARTWATCH_INFLUX_URL]
    #[arg(long, value_name = "URL", value_parser = influx_url)]
    pub influx_url: Option<Url>,
    /// The database (1.x, 3.x) [default: heartwatch] [env: HEARTWATCH_INFLUX_DB]
    #[arg(long, value_name = "DATABASE", value_parser = name)]
    pub influx_db: Option<String>,
    /// The organisation (2.x) [env: HEARTWATCH_INFLUX_ORG]
    #[arg(long, value_name = "ORG", value_parser = name)]
    pub influx_org: Option<String>,
    /// The bucket (2.x) [default: the database's name] [env: HEARTWATCH_INFLUX_BUCKET]
    #[arg(long, value_name = "BUCKET", value_parser = name)]
    pub influx_bucket: Option<String>,
    /// A file with the token (2.x, 3.x) [env: HEARTWATCH_INFLUX_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub influx_token_file: Option<PathBuf>,
    /// Where the page is served, or off [default: 127.0.0.1:8080] [env: HEARTWATCH_WEB]
    #[arg(long, value_name = "ADDRESS|off")]
    pub web: Option<WebListen>,
    /// How long a publisher may be silent [default: 50s] [env: HEARTWATCH_DEADLINE]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub deadline: Option<Duration>,
}

impl RunArgs {
    /// What it sets over the environment and the file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            mqtt_listen: self.mqtt_listen,
            mqtt: self.mqtt.clone(),
            kafka: self.kafka.clone(),
            etcd: self.etcd.clone(),
            influx_url: self.influx_url.clone(),
            influx_db: self.influx_db.clone(),
            influx_org: self.influx_org.clone(),
            influx_bucket: self.influx_bucket.clone(),
            influx_token_file: self.influx_token_file.clone(),
            web: self.web,
            deadline: self.deadline,
            ..Overrides::default()
        }
    }
}

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

/// `heartwatch web-user`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch web-user ada >> /etc/heartwatch/users
  heartwatch web-user eve --role read-only < password >> /etc/heartwatch/users

The password is read from the terminal without showing it, or from standard input.")]
pub struct WebUserArgs {
    /// The user's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it may do: operator or read-only
    #[arg(long, value_name = "ROLE", default_value = "operator")]
    pub role: Role,
}

/// `heartwatch man`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch man | man -l -
  heartwatch man run > /usr/local/share/man/man1/heartwatch-run.1")]
pub struct ManArgs {
    /// Of this command instead of the whole program
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

/// `heartwatch completions`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch completions bash > /etc/bash_completion.d/heartwatch
  heartwatch completions zsh > ~/.zfunc/_heartwatch")]
pub struct CompletionsArgs {
    /// bash, elvish, fish, powershell or zsh
    pub shell: Shell,
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

/// `heartwatch maintenance`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch maintenance                                      # which windows there are
  heartwatch maintenance 'light-*' --for 2h --reason 'new disk'
  heartwatch maintenance host:plant-7 --for 30m               # everyone on a host
  heartwatch maintenance 'light-*' --end

Verdicts are decided, recorded and shown as ever; nobody is told. What is still wrong at the end of a
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

It reads the heartbeats and the verdicts that the monitor's journal keeps (buffer.history), also while the
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

/// `heartwatch check`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(after_help = "Examples:
  heartwatch check
  heartwatch check --config /etc/heartwatch/heartwatch.toml

Exit code 78 when the configuration can't be used. It connects to nothing.")]
pub struct CheckArgs {
    /// The configuration [default: heartwatch.toml where it is there] [env: HEARTWATCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
