//! The command line as types: here all commands, and the arguments of those that have few; the others have a file each.
//! A wrong argument ends the program with exit code 2 (clap's own).
//!
//! A secret is never the value of a flag, where every user of the machine can read it in the process table.

mod agent;
mod backup;
mod broker;
mod client;
mod demo;
mod exec;
mod publish;
mod recorded;
mod run;
mod server;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use self::agent::AgentArgs;
pub use self::backup::{BackupArgs, RestoreArgs};
pub use self::broker::BrokerArgs;
pub use self::client::{AskArgs, DoctorArgs, EventsArgs, ExplainArgs, LedgerArgs, MaintenanceArgs};
pub use self::demo::{DemoArgs, OtherDemo, Scenario};
pub use self::exec::ExecArgs;
pub use self::publish::{PublishArgs, Size};
pub use self::recorded::{BacktestArgs, ExportArgs};
pub use self::run::RunArgs;
pub use self::server::{AnalysisArgs, AnalysisOnly, ServerArgs, ServerAsk, ServerAt};
use crate::web::users::Role;
use heartwatch_formats::broker_user;
use heartwatch_lab::args::{BenchArgs, FaultyArgs, ProveArgs};

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

Durations: 250ms, 5s, 2m, 1h. Times: 2026-11-21T12:00:03Z. \
Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 `prove --rows` was incomplete, 78 the configuration can't be used."
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

With --reconcile the rows are counted in InfluxDB itself, or in the embedded store of a monitor without \
one; exit code 1 when the ledger and the count differ. It knows the database from the flags, the \
environment or heartwatch.toml. When no monitor answers, the account is read from its data directory.")]
    Ledger(LedgerArgs),
    /// Write readings to a CSV file, from InfluxDB or from the local store
    Export(ExportArgs),
    /// Look at the machine, the configuration, the data and the servers: a page for a report
    Doctor(DoctorArgs),
    /// Copy the data directory, also while it is in use
    Backup(BackupArgs),
    /// Put such a copy back
    Restore(RestoreArgs),
    /// Write a heartwatch.toml to start from
    Init(InitArgs),
    /// Name every mistake in the configuration, and what it would connect to
    Check(CheckArgs),
    /// Print the line of a users file for the page
    WebUser(WebUserArgs),
    /// Print the line of a users file for the embedded broker
    MqttUser(MqttUserArgs),
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

/// `heartwatch init`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch init
  heartwatch init /etc/heartwatch")]
pub struct InitArgs {
    /// The file, or the directory of a heartwatch.toml; one that is there already stays
    #[arg(value_name = "PATH", default_value = "heartwatch.toml")]
    pub path: PathBuf,
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

/// `heartwatch mqtt-user`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch mqtt-user heartwatch-monitor --role monitor < password >> /etc/heartwatch/mqtt-users
  heartwatch mqtt-user light-1 >> /etc/heartwatch/mqtt-users

The name is the one in the user's topics: a publisher's id, an agent's, or the level of a device's topic. The password is read from \
the terminal without showing it, or from standard input.")]
pub struct MqttUserArgs {
    /// The user's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it is: monitor, publisher, agent or device
    #[arg(long, value_name = "ROLE", default_value = "publisher")]
    pub role: broker_user::Role,
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
