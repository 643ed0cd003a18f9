//! `heartwatch server` and `heartwatch analysis`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::config::Overrides;
use heartwatch_formats::values::{EtcdEndpoints, WebListen, address, kafka_brokers, positive_duration, server_address};

/// `heartwatch server`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  heartwatch server --listen 0.0.0.0:50052 --kafka kafka-1:9092,kafka-2:9092 --etcd http://e1:2379
  heartwatch server list
  heartwatch server send all status
  heartwatch server send agent-1 probe 4711 --json
  heartwatch server config node-1 '{\"interval\": 0.5}'

Without --kafka readings stay in the embedded store; without --etcd it sees no leases and configures nobody. With a certificate agents connect by \
https://HOST:PORT. There is no login for agents: listen on a network that you trust. At a terminal it has a console with history and completion; the subcommands say the same lines to a \
server of this user on this host, over a socket that nobody else can use. SIGTERM and SIGINT end it in order (a second one at once)."
)]
pub struct ServerArgs {
    /// Say one line at the console of a running server
    #[command(subcommand)]
    pub ask: Option<ServerAsk>,
    /// Where agents connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50052", value_parser = address, env = "HEARTWATCH_SERVER_LISTEN", hide_env = true)]
    pub listen: SocketAddr,
    /// Our certificate (PEM, with its chain): agents connect with TLS then, and not without
    #[arg(
        long,
        value_name = "FILE",
        requires = "key_file",
        env = "HEARTWATCH_SERVER_CERTIFICATE_FILE",
        hide_env = true
    )]
    pub certificate_file: Option<PathBuf>,
    /// The key (PEM) of our certificate
    #[arg(
        long,
        value_name = "FILE",
        requires = "certificate_file",
        env = "HEARTWATCH_SERVER_KEY_FILE",
        hide_env = true
    )]
    pub key_file: Option<PathBuf>,
    /// Hand readings on to this Kafka and take commands from it, HOST:PORT with commas between several [env: HEARTWATCH_KAFKA]
    #[arg(long, value_name = "BROKERS", value_parser = kafka_brokers)]
    pub kafka: Option<String>,
    /// The etcd where agents register and find their configuration, http://HOST:PORT with commas between several [env: HEARTWATCH_ETCD]
    #[arg(long, value_name = "URL")]
    pub etcd: Option<EtcdEndpoints>,
    /// A configuration; a monitor's heartwatch.toml is not read by itself
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything on disk is [default: data/server] [env: HEARTWATCH_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the page is served, or off [default: 127.0.0.1:8081] [env: HEARTWATCH_WEB]
    #[arg(long, value_name = "ADDRESS|off")]
    pub web: Option<WebListen>,
    /// How long an agent may be silent [default: 50s] [env: HEARTWATCH_DEADLINE]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub deadline: Option<Duration>,
}

impl ServerArgs {
    /// What it sets over the environment and the file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            kafka: self.kafka.clone(),
            etcd: self.etcd.clone(),
            web: self.web,
            deadline: self.deadline,
            ..Overrides::default()
        }
    }
}

/// Which server.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ServerAt {
    /// The running server, on this host, by the port where agents connect
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:50052",
        value_parser = server_address,
        env = "HEARTWATCH_SERVER",
        hide_env = true
    )]
    pub server: String,
    /// The socket of its console [default: console-PORT.sock of this user]
    #[arg(long, value_name = "FILE", env = "HEARTWATCH_SERVER_SOCKET", hide_env = true)]
    pub socket: Option<PathBuf>,
    /// Of no effect any more: the console is a socket on this host
    #[arg(long, value_name = "FILE", env = "HEARTWATCH_SERVER_CA_FILE", hide = true)]
    pub server_ca_file: Option<PathBuf>,
    /// Print JSON, for a program
    #[arg(long)]
    pub json: bool,
}

impl ServerAt {
    /// The port where its agents connect, after which its console is named.
    ///
    /// # Errors
    /// When it is on another host, or has no port.
    pub fn port(&self) -> anyhow::Result<u16> {
        let address = self.server.split_once("://").map_or(&self.server[..], |(_, address)| address);
        let (host, port) = address.trim_end_matches('/').rsplit_once(':').unwrap_or((address, ""));
        let port = port.parse::<u16>().ok().filter(|port| *port > 0);
        let port =
            port.with_context(|| format!("'{}' has no port: right is HOST:PORT, like 127.0.0.1:50052", self.server))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_here = bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address.is_unspecified());
        anyhow::ensure!(
            is_here,
            "the console is for the host and the user of the server: run `heartwatch server` there, with --server 127.0.0.1:{port}"
        );
        Ok(port)
    }
}

/// One line at the console of a running server.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ServerAsk {
    /// The agents that are connected
    #[command(after_help = "Examples:
  heartwatch server list
  heartwatch server list --server 127.0.0.1:50053 --json")]
    List(ServerAt),
    /// The verdict on every publisher, and the parts of the server
    #[command(after_help = "Examples:
  heartwatch server health")]
    Health(ServerAt),
    /// Readings and commands, and what waits
    #[command(after_help = "Examples:
  heartwatch server stats")]
    Stats(ServerAt),
    /// A new configuration for an agent, by etcd
    #[command(after_help = "Examples:
  heartwatch server config node-1 '{\"interval\": 2}'")]
    Config {
        /// Its node
        host: String,
        /// The document, such as {"interval": 2}
        json_document: String,
        /// Which server.
        #[command(flatten)]
        at: ServerAt,
    },
    /// A command for agents; exit code 0 when all of them have done it
    #[command(after_help = "Examples:
  heartwatch server send all status
  heartwatch server send agent-1 probe 4711")]
    Send {
        /// A client id, or all
        target: String,
        /// status, get_config, probe PID, ping or reload
        #[arg(required = true, num_args = 1..)]
        command: Vec<String>,
        /// Which server.
        #[command(flatten)]
        at: ServerAt,
    },
    /// End the server in order
    #[command(after_help = "Examples:
  heartwatch server quit")]
    Quit(ServerAt),
}

impl ServerAsk {
    /// Which server, and the line that says it.
    #[must_use]
    pub fn line(&self) -> (&ServerAt, String) {
        match self {
            Self::List(at) => (at, "list".to_owned()),
            Self::Health(at) => (at, "health".to_owned()),
            Self::Stats(at) => (at, "stats".to_owned()),
            Self::Quit(at) => (at, "quit".to_owned()),
            Self::Config { host, json_document, at } => (at, format!("config {host} {json_document}")),
            Self::Send { target, command, at } => (at, format!("send {target} {}", command.join(" "))),
        }
    }
}

/// `heartwatch analysis`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch analysis --kafka 127.0.0.1:9092
  heartwatch analysis --kafka 127.0.0.1:9092 --json | jq -c 'select(.metric == \"cpu\")'
  heartwatch analysis --kafka 127.0.0.1:9092 --from-beginning --for 10s stats --json
  heartwatch analysis send all status --kafka 127.0.0.1:9092

At a terminal it has a console: stats, send <client|all> <command>, quit.")]
pub struct AnalysisArgs {
    /// Do one thing instead, and end
    #[command(subcommand)]
    pub only: Option<AnalysisOnly>,
    /// The Kafka, HOST:PORT with commas between several
    #[arg(long, value_name = "BROKERS", value_parser = kafka_brokers, env = "HEARTWATCH_KAFKA", global = true)]
    pub kafka: Option<String>,
    /// Print JSON, for a program
    #[arg(long, global = true)]
    pub json: bool,
    /// Begin with the oldest reading that Kafka has, where this group has read nothing yet
    #[arg(long, global = true)]
    pub from_beginning: bool,
    /// The consumer group
    #[arg(long, value_name = "NAME", default_value = "analysis-app-group", global = true)]
    pub group: String,
    /// End after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = positive_duration, global = true)]
    pub lasts: Option<Duration>,
    /// End after so many readings
    #[arg(long, value_name = "N", global = true)]
    pub limit: Option<u64>,
}

/// One thing that the analysis can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AnalysisOnly {
    /// Read until the time or the limit is over, then print count, average, minimum and maximum
    #[command(after_help = "Examples:
  heartwatch analysis stats --kafka 127.0.0.1:9092 --from-beginning --for 10s")]
    Stats,
    /// A command for agents; prints their answers; exit code 0 when all of them have done it
    #[command(after_help = "Examples:
  heartwatch analysis send all status --kafka 127.0.0.1:9092
  heartwatch analysis send agent-1 ping --kafka 127.0.0.1:9092")]
    Send {
        /// A client id, or all
        target: String,
        /// status, get_config, probe PID, ping or reload
        #[arg(required = true, num_args = 1..)]
        command: Vec<String>,
    },
}
