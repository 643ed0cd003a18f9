//! `heartwatch agent`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

use super::Size;
use super::broker::BrokerArgs;
use super::publish::outbox_size;
use crate::actors::publisher::OUTBOX_BYTES_MAX;
use crate::config::Overrides;
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_formats::values::{EtcdEndpoints, mqtt_url, positive_duration, server_address};

/// `heartwatch agent`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch agent --id web-1 --mqtt mqtt://monitor:1883
  heartwatch agent --id web-1 --name web-1 --server collector:50052 --etcd http://e1:2379,http://e2:2379,http://e3:2379
  heartwatch agent --id web-1 --server https://collector:50052 --server-ca-file ca.pem
  etcdctl put /monitor/config/web-1 '{\"interval\": 2}'

It runs without etcd and without the server or broker, says what is missing, and joins them when they come. \
Readings wait in the data directory until they are confirmed.")]
pub struct AgentArgs {
    /// The agent's id, as a publisher and for commands: letters, digits, '.', '_', '-' or ':'
    #[arg(long, value_name = "ID")]
    pub id: PublisherId,
    /// Its name in etcd [default: the host's name]
    #[arg(long, value_name = "NODE")]
    pub name: Option<HostName>,
    /// The host's name in readings [default: the system's]
    #[arg(long, value_name = "HOST")]
    pub host: Option<HostName>,
    /// The server to send readings to, over gRPC; https://HOST:PORT for TLS
    #[arg(long, value_name = "HOST:PORT", value_parser = server_address)]
    pub server: Option<String>,
    /// The certificates (PEM) to trust with https:// [default: the system's]
    #[arg(long, value_name = "FILE", requires = "server", env = "HEARTWATCH_SERVER_CA_FILE", hide_env = true)]
    pub server_ca_file: Option<PathBuf>,
    /// The members of etcd, http://HOST:PORT with commas between several [env: HEARTWATCH_ETCD]
    #[arg(long, value_name = "URL")]
    pub etcd: Option<EtcdEndpoints>,
    /// The broker to publish to, mqtt:// or mqtts://; without --server mqtt://127.0.0.1:1883 [env: HEARTWATCH_MQTT]
    #[arg(long, value_name = "URL", value_parser = mqtt_url)]
    pub mqtt: Option<Url>,
    /// How long the lease in etcd lasts; it is refreshed at half of it
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = positive_duration)]
    pub lease: Duration,
    /// Time between two heartbeats
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = positive_duration)]
    pub heartbeat: Duration,
    /// Where readings wait for their confirmation [default: data] [env: HEARTWATCH_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Your own plugins, *.rhai
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    pub plugins_dir: PathBuf,
    /// Most bytes of readings that wait; beyond it the oldest are given up, counted
    #[arg(long, value_name = "SIZE", default_value_t = Size(OUTBOX_BYTES_MAX), value_parser = outbox_size)]
    pub outbox_bytes_max: Size,
    /// How the broker is spoken to
    #[command(flatten)]
    pub broker: BrokerArgs,
}

impl AgentArgs {
    /// What it sets over the environment.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            etcd: self.etcd.clone(),
            mqtt: self.mqtt.clone(),
            ..self.broker.overrides()
        }
    }
}
