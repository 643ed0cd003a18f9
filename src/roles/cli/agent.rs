//! `heartwatch agent`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

use super::Size;
use super::publish::outbox_size;
use crate::config::values::{mqtt_url, name, positive_duration, topic_prefix};
use crate::config::{OUTBOX_BYTES_MAX, Overrides};
use crate::domain::publisher::{HostName, PublisherId};
use crate::formats::envelope::Prefix;

/// `heartwatch agent`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:
  heartwatch agent --id web-1 --mqtt mqtt://monitor:1883
  heartwatch agent --id web-1 --name web-1 --server collector:50052 --etcd http://e1:2379,http://e2:2379,http://e3:2379
  etcdctl put /monitor/config/web-1 '{\"interval\": 2}'

It runs without etcd and without the server or broker, says what is missing, and joins them when they come.
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
    /// The server to send readings to, over gRPC
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Option<String>,
    /// The members of etcd, with commas between them
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd: Vec<Url>,
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
    /// What every topic starts with [default: heartwatch] [env: HEARTWATCH_MQTT_PREFIX]
    #[arg(long, value_name = "PREFIX", value_parser = topic_prefix)]
    pub mqtt_prefix: Option<Prefix>,
    /// The user at the broker; the password is in HEARTWATCH_MQTT_PASSWORD or a file [env: HEARTWATCH_MQTT_USER]
    #[arg(long, value_name = "USER", value_parser = name)]
    pub mqtt_user: Option<String>,
    /// A file with the user's password [env: HEARTWATCH_MQTT_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    pub mqtt_password_file: Option<PathBuf>,
    /// The certificates (PEM) to trust with mqtts:// [env: HEARTWATCH_MQTT_CA_FILE]
    #[arg(long, value_name = "FILE")]
    pub mqtt_ca_file: Option<PathBuf>,
    /// Our certificate (PEM) for mqtts:// [env: HEARTWATCH_MQTT_CLIENT_CERTIFICATE_FILE]
    #[arg(long, value_name = "FILE")]
    pub mqtt_client_certificate_file: Option<PathBuf>,
    /// The key (PEM) of our certificate [env: HEARTWATCH_MQTT_CLIENT_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub mqtt_client_key_file: Option<PathBuf>,
}

impl AgentArgs {
    /// What it sets over the environment.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            mqtt: self.mqtt.clone(),
            mqtt_prefix: self.mqtt_prefix.clone(),
            mqtt_user: self.mqtt_user.clone(),
            mqtt_password_file: self.mqtt_password_file.clone(),
            mqtt_ca_file: self.mqtt_ca_file.clone(),
            mqtt_client_certificate_file: self.mqtt_client_certificate_file.clone(),
            mqtt_client_key_file: self.mqtt_client_key_file.clone(),
            ..Overrides::default()
        }
    }
}
