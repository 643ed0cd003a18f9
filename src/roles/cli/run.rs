//! `heartwatch run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

use crate::config::Overrides;
use heartwatch_formats::values::{
    EtcdEndpoints, WebListen, address, influx_url, kafka_brokers, mqtt_url, name, positive_duration,
};

/// `heartwatch run`. A flag wins over the environment, the environment over the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(after_help = "Examples:
  heartwatch run
  heartwatch run --config /etc/heartwatch/heartwatch.toml
  heartwatch run --mqtt mqtt://broker:1883 --influx-url http://influx:8086 --deadline 20s
  HEARTWATCH_INFLUX_TOKEN=… heartwatch run --influx-org plant --influx-bucket heartwatch

Every option has a key in the file and a variable; flag over environment over file over default. \
Secrets: HEARTWATCH_MQTT_PASSWORD, HEARTWATCH_INFLUX_PASSWORD, HEARTWATCH_INFLUX_TOKEN, or a file. \
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
    pub mqtt_listen: Option<SocketAddr>,
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
