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
    /// MQTT to InfluxDB: confirmed rows a second, against a bare subscriber and InfluxDB alone
    #[command(after_help = "Examples:
  heartwatch bench ingest
  heartwatch bench ingest --rows 100000 --publishers 10 --json
  heartwatch bench ingest --batch 500 --apart

It starts a mosquitto, an InfluxDB 1.x and a monitor of its own. OF BARE: against a subscriber that only \
counts, on such a broker. OF INFLUXDB: against the same rows written straight into it. Both before and afterwards. \
All of them share the cores here, so that InfluxDB has less CPU time than alone. OF ITS CPU: against what it would \
write with the CPU time that it had and the time in which a core was idle. IDLE: that time. With --apart InfluxDB \
has a core that nobody takes from it, alone as well: where that one is not idle, InfluxDB is the limit.")]
    Ingest(IngestBenchArgs),
    /// The same path: CPU time of the monitor, the broker and InfluxDB for a million rows
    #[command(after_help = "Examples:
  heartwatch bench cpu
  heartwatch bench cpu --publishers 10 --batch 500 --json

ALL OF BARE: broker, publishers and a subscriber that only counts. INFLUXDB ALONE: it, when the same rows are \
written straight into it.")]
    Cpu(IngestBenchArgs),
    /// How fast the monitor knows: SIGKILL, and a deadline, to the verdict and to the page
    #[command(after_help = "Examples:
  heartwatch bench detect
  heartwatch bench detect --publishers 5 --rounds 2 --others 10 --json

Real publishers are killed; simulated ones fall silent. OTHERS are simulated, too: so many beat meanwhile, once \
a second each. The page is its stream of verdicts, at its reader.")]
    Detect(DetectBenchArgs),
    /// How fast somebody is told: SIGKILL to the verdict and to a webhook, beside a dozen alarms of one rule
    #[command(after_help = "Examples:
  heartwatch bench notify
  heartwatch bench notify --kills 3 --rounds 1 --json

Every round has a monitor of its own with the defaults, twelve publishers over a rule's limit, which is told first, \
and deaths one after the other: at most nine, for a target's tenth message of a minute is a digest.")]
    Notify(NotifyBenchArgs),
    /// After an outage of InfluxDB: rows a second drained, and how old live data gets meanwhile
    #[command(after_help = "Examples:
  heartwatch bench recover
  heartwatch bench recover --rows 500000,2000000 --json")]
    Recover(RecoverBenchArgs),
    /// The watchdog: heartbeats a second, memory a publisher, how late verdicts are
    #[command(after_help = "Examples:
  heartwatch bench watch
  heartwatch bench watch --publishers 1000,50000 --json

A tenth of the publishers falls silent at once while the others go on.")]
    Watch(WatchBenchArgs),
    /// Agents at one server over gRPC: confirmed readings a second, memory
    #[command(after_help = "Examples:
  heartwatch bench server
  heartwatch bench server --agents 5000 --readings 100000 --json
  heartwatch bench server --kafka kafka-1:9092

Server, agents and Kafka run on this machine and share its cores. `make kafka` fetches Kafka's jars (HEARTWATCH_KAFKA_LIBS names \
others); without them the readings stay in the server's journal, which the table says.")]
    Server(ServerBenchArgs),
    /// A monitor with little to do: time to ready, CPU, memory, size of the program
    #[command(after_help = "Examples:
  heartwatch bench footprint
  heartwatch bench footprint --publishers 100 --json")]
    Footprint(FootprintBenchArgs),
}

/// `heartwatch bench ingest` and `heartwatch bench cpu`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct IngestBenchArgs {
    /// Readings in a measurement with batches; a fifth of it with one reading a message
    #[arg(long, value_name = "READINGS", default_value_t = 5_000_000, value_parser = at_least_five_thousand)]
    pub rows: usize,
    /// How many publishers share them, one measurement each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 10, 1_000], value_parser = at_least_one)]
    pub publishers: Vec<usize>,
    /// Readings in each message, one measurement each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 500], value_parser = at_least_one)]
    pub batch: Vec<usize>,
    /// Give InfluxDB the last core, and everything else the others: as with a database on a machine of its own
    #[arg(long)]
    pub apart: bool,
    /// How often each is measured; the one in the middle is shown, with the lowest and the highest ratio
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub times: usize,
    /// Print JSON, one object a measurement
    #[arg(long)]
    pub json: bool,
}

fn at_least(least: usize, text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|error| format!("{error}"))?;
    if number < least { Err(format!("at least {least}")) } else { Ok(number) }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    at_least(1, text)
}

fn at_least_five_thousand(text: &str) -> Result<usize, String> {
    at_least(5_000, text)
}

/// `heartwatch bench detect`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DetectBenchArgs {
    /// How many publishers are killed, and how many fall silent
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_one)]
    pub publishers: usize,
    /// How many others beat meanwhile, once a second each; one measurement each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [10, 1_000, 10_000], value_parser = at_least_one)]
    pub others: Vec<usize>,
    /// How often each is killed and started again
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub rounds: usize,
    /// Print JSON, one object a line of the table
    #[arg(long)]
    pub json: bool,
}

/// `heartwatch bench notify`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct NotifyBenchArgs {
    /// How many publishers are killed in a round, one after the other
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = from_one_to_nine)]
    pub kills: usize,
    /// How many rounds
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    pub rounds: usize,
    /// Print JSON, one object a line of the table
    #[arg(long)]
    pub json: bool,
}

fn from_one_to_nine(text: &str) -> Result<usize, String> {
    match at_least_one(text)? {
        kills @ 1..=9 => Ok(kills),
        _ => Err("at most 9: the tenth message of a minute is a digest".to_owned()),
    }
}

/// `heartwatch bench recover`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RecoverBenchArgs {
    /// Rows that wait when InfluxDB comes back, one measurement each
    #[arg(long, value_name = "READINGS,…", value_delimiter = ',', default_values_t = [1_000_000, 3_000_000, 10_000_000], value_parser = at_least_five_thousand)]
    pub rows: Vec<usize>,
    /// How often each is measured; the one in the middle is shown, with the lowest and the highest ratio
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub times: usize,
    /// Print JSON, one object a measurement
    #[arg(long)]
    pub json: bool,
}

/// `heartwatch bench watch`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct WatchBenchArgs {
    /// How many are watched, one measurement each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000], value_parser = at_least_one)]
    pub publishers: Vec<usize>,
    /// Each names a process on another host, which takes memory, too
    #[arg(long)]
    pub processes: bool,
    /// Print JSON, one object a measurement
    #[arg(long)]
    pub json: bool,
}

/// `heartwatch bench server`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ServerBenchArgs {
    /// How many agents, one measurement each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [100, 1_000, 10_000], value_parser = at_least_one)]
    pub agents: Vec<usize>,
    /// Readings of all agents together in a measurement with batches; a fifth of it with one reading a message
    #[arg(long, value_name = "READINGS", default_value_t = 2_000_000, value_parser = at_least_five_thousand)]
    pub readings: usize,
    /// Readings in each message, one measurement each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 100], value_parser = at_least_one)]
    pub batch: Vec<usize>,
    /// The Kafka that the server hands them on to; without it one is started, where its jars are
    #[arg(long, value_name = "BROKERS")]
    pub kafka: Option<String>,
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
