//! `heartwatch prove`, and the publishers with faults of their own that it starts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use url::Url;

use heartwatch_domain::publisher::PublisherId;
use heartwatch_formats::values::{duration, mqtt_url, positive_duration};

/// `heartwatch prove`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch prove
  heartwatch prove --faults 500 --seed 1
  heartwatch prove --only kill --only network-cut --faults 40 --json
  heartwatch prove --rows --faults 200 --seed 1

It starts a monitor and publishers of its own, on free ports of 127.0.0.1, and ends them again. \
Exit code 1 when a limit is broken; with --rows 3 when no row is wrong, but not everything could be injected and counted. What \
can't be injected here is named, with the reason.")]
pub struct ProveArgs {
    /// Prove the account of every row instead of the verdicts
    #[arg(long)]
    pub rows: bool,
    /// How many faults to inject
    #[arg(long, value_name = "FAULTS", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub faults: u32,
    /// Their order and moments follow from this number
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub seed: u64,
    /// Print the results as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Keep the data and the logs of what was started in this directory [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep the temporary directory, and say where it is
    #[arg(long, conflicts_with = "data_dir")]
    pub keep: bool,
    /// With --rows: the InfluxDB 1.x server to start [default: influxd where it is installed]
    #[arg(long, value_name = "FILE", requires = "rows")]
    pub influxd: Option<PathBuf>,
    /// With --rows: the broker to start beside the embedded one [default: mosquitto where it is installed]
    #[arg(long, value_name = "FILE", requires = "rows")]
    pub mosquitto: Option<PathBuf>,
    /// How many publishers run side by side [default: 20; with --rows 3 on each broker]
    #[arg(long, value_name = "PUBLISHERS", value_parser = clap::value_parser!(u16).range(1..=200))]
    pub publishers: Option<u16>,
    /// How long a publisher may be silent
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = positive_duration, conflicts_with = "rows")]
    pub deadline: Duration,
    /// Time between two heartbeats
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = positive_duration, conflicts_with = "rows")]
    pub heartbeat: Duration,
    /// How many publisher-hours to simulate at the end, from the same seed; 0 leaves it out
    #[arg(long, value_name = "HOURS", default_value = "1000000", value_parser = clap::value_parser!(u64).range(..=100_000_000), conflicts_with = "rows")]
    pub simulated_hours: u64,
    /// Inject only this kind of fault; may be given more than once
    #[arg(long, value_name = "FAULT", conflicts_with = "rows")]
    pub only: Vec<FaultKind>,
    /// From SIGKILL to its verdict at most so long (p99); 0 sets no limit
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = duration, conflicts_with = "rows")]
    pub kill_p99_max: Duration,
    /// From the deadline to its verdict at most so long (p99); 0 sets no limit
    #[arg(long, value_name = "DURATION", default_value = "20ms", value_parser = duration, conflicts_with = "rows")]
    pub deadline_p99_max: Duration,
}

impl ProveArgs {
    /// How many publishers the verdicts are proved on.
    #[must_use]
    pub fn publishers(&self) -> u16 {
        self.publishers.unwrap_or(20)
    }
}

/// What `prove` does to a publisher, to the monitor or to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Nothing
    Control,
    /// SIGKILL
    Kill,
    /// SIGSTOP, and SIGCONT later
    Stop,
    /// It ends in order, with its goodbye
    Goodbye,
    /// A goodbye in its name, which it goes on after; then SIGKILL
    FalseGoodbye,
    /// Somebody else beats once in its name, as another process and as a later life; then SIGKILL
    Impostor,
    /// Somebody else beats in its name, too, as a later life, and goes on
    TwoSpeakers,
    /// It beats as seldom as its deadline is long, and says so
    SeldomBeats,
    /// It exits with 0 and without a goodbye
    ExitSilently,
    /// It has ended, and its parent does not collect it
    Zombie,
    /// SIGKILL to one in a container: in a PID namespace of its own
    ContainerKill,
    /// It names a PID that belongs to another program by now
    PidReuse,
    /// It beats, and its source does not advance
    WedgedBeating,
    /// It does nothing any more, and uses no CPU time
    WedgedSilent,
    /// Its main thread has ended and another one goes on, until it does nothing any more
    MainThreadEnded,
    /// Its disk takes nothing for a while: it beats on and publishes nothing
    OutboxStall,
    /// Its connection to the broker lets nothing through any more
    NetworkCut,
    /// The broker is killed and started again
    BrokerKill,
    /// Kafka, over which some are heard, is killed or stopped, for a while; one that is heard without it is killed meanwhile
    KafkaAway,
    /// The monitor's disk takes nothing for longer than its deadline
    JournalStall,
    /// SIGSTOP to the monitor, and SIGCONT after more than its deadline
    MonitorStop,
    /// The wall clock jumps
    ClockStep,
    /// More busy threads than the machine has cores
    CpuLoad,
    /// Every connection to the broker goes silent in one moment
    EveryoneSilent,
}

/// `heartwatch faulty-publisher`: started by `prove` alone.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch faulty-publisher --id wedge-1 --mqtt mqtt://127.0.0.1:1883

It takes one command a line on standard input: wedge, unwedge, freeze, thaw, end-main, goodbye, impostor, double, single, exit, claim PID TICKS.")]
pub struct FaultyArgs {
    /// The publisher's id
    #[arg(long, value_name = "ID")]
    pub id: PublisherId,
    /// The broker
    #[arg(long, value_name = "URL", value_parser = mqtt_url)]
    pub mqtt: Url,
    /// Time between two heartbeats
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = positive_duration)]
    pub heartbeat: Duration,
}
